/** Files that are dropped, in folders too, and sending them. */
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

/** What of a folder is taken; what is dropped or chosen by itself is given as it is, and may be refused. */
const AUDIO = /\.(wav|wave|flac|ogg|oga|opus|mp3|m4a|mp4|aac|webm|weba|amr|aif|aiff|au|wma|3gp)$/i;

/**
 * The files of a drop; folders are walked through, and a file in one is called by both names.
 * (The server takes the last part of a path.)
 * @param {DataTransfer} transfer @returns {Promise<File[]>}
 */
export async function droppedFiles(transfer) {
  // All entries are asked for before the first wait: afterwards a browser forgets them.
  const given = [...transfer.items].filter(({ kind }) => kind === "file").map((item) => ({ entry: item.webkitGetAsEntry?.() ?? null, file: item.getAsFile() }));
  const found = await Promise.all(given.map(({ entry, file }) => (entry?.isDirectory ? filesIn(entry) : file ? [file] : [])));
  return found.flat();
}

/** @param {any} folder @returns {Promise<File[]>} in the order of their names */
async function filesIn(folder) {
  const reader = folder.createReader();
  /** @type {any[]} */
  const entries = [];
  for (;;) {
    // A hundred at a time, until there are none.
    const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (some.length === 0) break;
    entries.push(...some);
  }
  entries.sort((one, other) => one.name.localeCompare(other.name));
  const found = await Promise.all(
    entries.map(async (entry) => {
      if (entry.isDirectory) return filesIn(entry);
      if (!AUDIO.test(entry.name)) return [];
      const file = await new Promise((resolve, reject) => entry.file(resolve, reject));
      return [new File([file], `${folder.name} – ${file.name}`, { type: file.type })];
    }),
  );
  return found.flat();
}
