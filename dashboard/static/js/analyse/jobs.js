/**
 * Recordings that are analysed: one is sent at a time, then asked about until it is done.
 *
 * They outlive the page that shows them. `change` events tell of everything.
 */
import { ApiError, api } from "../api.js";

const POLL_MS = 400;
const LONGEST_POLL_MS = 3000;
const AGAIN_MS = 2000;

/** @typedef {"queued" | "uploading" | "waiting" | "running" | "done" | "failed"} JobState */

/**
 * @typedef {object} Job
 * @property {number} key
 * @property {string} name
 * @property {File | null} file  null: the built-in sample
 * @property {string} granularity
 * @property {JobState} state
 * @property {number} progress  0 to 1, of what `state` says
 * @property {any} error
 * @property {any} result
 * @property {string | null} id  of the server
 * @property {string} audioUrl  of the file in this browser, "" for none
 */

export class Jobs extends EventTarget {
  constructor() {
    super();
    /** @type {Job[]} */
    this.all = [];
    this.selected = 0;
    this.granularity = "stream";
    this.nextKey = 1;
    /** @type {Promise<void>} */
    this.turn = Promise.resolve();
  }

  /** @param {Iterable<File>} files */
  add(files) {
    for (const file of files) this.#begin(file.name, file);
  }

  /** @param {string} name */
  addSample(name) {
    this.#begin(name, null);
  }

  /** Analyse again, at the granularity chosen now. @param {Job} job */
  again(job) {
    this.remove(job);
    this.#begin(job.name, job.file);
  }

  /** @param {Job} job */
  select(job) {
    this.selected = job.key;
    this.#changed();
  }

  /** @param {Job} job */
  remove(job) {
    this.all = this.all.filter((each) => each !== job);
    if (job.audioUrl) URL.revokeObjectURL(job.audioUrl);
    if (this.selected === job.key) this.selected = this.all.at(-1)?.key ?? 0;
    // What is gone already, or cannot be reached, expires by itself.
    if (job.id) void api.deleteJob(job.id).catch(() => {});
    this.#changed();
  }

  #begin(name, file) {
    /** @type {Job} */
    const job = {
      key: this.nextKey,
      name,
      file,
      granularity: this.granularity,
      state: "queued",
      progress: 0,
      error: null,
      result: null,
      id: null,
      audioUrl: file ? URL.createObjectURL(file) : "",
    };
    this.nextKey += 1;
    this.all.push(job);
    this.selected = job.key;
    this.#changed();
    this.turn = this.turn.then(() => this.#send(job)).catch(() => {});
  }

  async #send(job) {
    try {
      while (this.#has(job)) {
        try {
          const { job_id: id } = await this.#post(job);
          job.id = id;
          void this.#follow(job);
          return;
        } catch (error) {
          // As many as may wait do: one of them will be done.
          if (error.code !== "too_many_jobs" && error.code !== "not_ready") throw error;
          await pause(AGAIN_MS);
        }
      }
    } catch (error) {
      this.#fail(job, error);
    }
  }

  #post(job) {
    this.#become(job, "uploading", 0);
    if (job.file === null) {
      return api.request("POST", "/analyse/sample", { body: { granularity: job.granularity } });
    }
    const form = new FormData();
    form.append("granularity", job.granularity);
    form.append("file", job.file, job.name);
    return upload(api.urlOf("/analyse"), form, (share) => this.#become(job, "uploading", share));
  }

  async #follow(job) {
    let interval = POLL_MS;
    while (this.#has(job)) {
      try {
        const view = await api.job(job.id);
        if (view.state === "done") {
          job.result = view.result;
          return this.#become(job, "done", 1);
        }
        if (view.state === "failed") return this.#fail(job, view.error);
        this.#become(job, view.state, view.progress);
        interval = POLL_MS;
      } catch (error) {
        if (error.code !== "offline") return this.#fail(job, error);
        interval = Math.min(2 * interval, LONGEST_POLL_MS);
      }
      await pause(interval);
    }
  }

  #has(job) {
    return this.all.includes(job);
  }

  #fail(job, error) {
    job.error = error;
    this.#become(job, "failed", 0);
  }

  #become(job, state, progress) {
    job.state = state;
    job.progress = progress;
    this.#changed();
  }

  #changed() {
    this.dispatchEvent(new Event("change"));
  }
}

/** Those of this browser tab. */
export const jobs = new Jobs();

function pause(ms) {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

/** Send a form and tell how much of it is out; `fetch` does not tell. */
function upload(url, form, onProgress) {
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
