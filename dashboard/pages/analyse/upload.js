/** Sending files. */
import { ApiError } from "../../shell/api.js";

/**
 * Send a form and tell how much of it is out; `fetch` does not tell.
 * @param {string} url @param {FormData} form @param {(share: number) => void} onProgress
 * @returns {Promise<any>} the JSON of the answer
 */
export function upload(url, form, onProgress) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("POST", url);
    request.responseType = "json";
    request.upload.onprogress = ({ loaded, total }) => onProgress(total ? loaded / total : 0);
    request.onload = () => {
      const answer = request.response ?? {};
      if (request.status >= 200 && request.status < 300) resolve(answer);
      else reject(new ApiError(answer.code ?? `http_${request.status}`, answer.message ?? request.statusText, answer.remedy, request.status));
    };
    request.onerror = () => reject(new ApiError("offline", "the connection broke"));
    request.send(form);
  });
}
