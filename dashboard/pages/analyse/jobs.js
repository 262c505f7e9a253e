/**
 * Recordings that are analysed: those of the server, and before them those that are being sent.
 *
 * The server keeps them, so they are there after a reload and in other tabs. This page asks for the
 * list while it is shown. `change` events tell of everything.
 */
import { ApiError, api } from "../../shell/api.js";
import { upload } from "./upload.js";

const BUSY_POLL_MS = 700;
const IDLE_POLL_MS = 5000;
const AGAIN_MS = 2000;
const PAGE = 12;

/** @typedef {"queued" | "uploading" | "waiting" | "running" | "done" | "failed" | "cancelled"} JobState */

/**
 * @typedef {object} Options
 * @property {string} granularity
 * @property {number} frame_hop_ms
 * @property {boolean} embeddings
 * @property {boolean} speakers
 * @property {string | string[]} roles  who speaks in each channel, with commas between them; the server returns a list
 * @property {string} preset
 */

/**
 * @typedef {object} Job
 * @property {string} key  the server's name of it; before it has one, one of this page's
 * @property {string | null} id  of the server
 * @property {string} name
 * @property {Options} options
 * @property {JobState} state
 * @property {number} progress  0 to 1, of what `state` says
 * @property {number} before  files that come first
 * @property {number} createdAt  s since 1970
 * @property {number | null} durationS
 * @property {any} summary
 * @property {any} error
 * @property {File | null | undefined} file  null: the built-in sample; undefined: not in this browser
 */

export class Jobs extends EventTarget {
  constructor() {
    super();
    /** @type {Job[]} those that are being sent, the newest first */
    this.sending = [];
    /** @type {Job[]} */
    this.kept = [];
    this.hasMore = false;
    this.limit = PAGE;
    this.isLoaded = false;
    /** @type {any} why the list could not be had */
    this.problem = null;
    this.selected = "";
    /** @type {Options} */
    this.options = { granularity: "stream", frame_hop_ms: 20, embeddings: false, speakers: false, roles: "", preset: "" };
    /** @type {Map<string, File | null>} */
    this.files = new Map();
    /** @type {Map<string, any>} */
    this.results = new Map();
    this.maxBytes = Infinity; // of one file
    this.nextKey = 1;
    this.round = 0;
    /** @type {Promise<void>} */
    this.turn = Promise.resolve();
  }

  /** @returns {Job[]} the newest first */
  get all() {
    return [...this.sending, ...this.kept];
  }

  /** Ask for the list until {@link stop}. */
  start() {
    this.round += 1;
    void this.#poll(this.round);
  }

  stop() {
    this.round += 1;
  }

  showMore() {
    this.limit += 2 * PAGE;
    this.start();
  }

  /** @param {Iterable<File>} files */
  add(files) {
    for (const file of files) this.#begin(file.name, file);
  }

  /** @param {string} name */
  addSample(name) {
    this.#begin(name, null);
  }

  /** Analyse again, with the options chosen now. @param {Job} job */
  again(job) {
    if (job.file !== undefined) this.#begin(job.name, job.file);
    if (!job.id) this.#forget(job);
  }

  /** @param {string} key */
  select(key) {
    this.selected = key;
    this.#changed();
  }

  /** Stop it. @param {Job} job */
  async cancel(job) {
    if (!job.id) return this.#forget(job);
    await api.cancelJob(job.id);
    this.start();
  }

  /** Stop it and forget it. @param {Job} job */
  async remove(job) {
    if (!job.id) return this.#forget(job);
    await api.deleteJob(job.id).catch((error) => {
      if (error.code !== "not_found") throw error;
    });
    this.kept = this.kept.filter((each) => each.id !== job.id);
    this.files.delete(job.id);
    this.results.delete(job.id);
    if (this.selected === job.key) this.selected = this.all[0]?.key ?? "";
    this.#changed();
    this.start();
  }

  /** @param {Job} job done @returns {Promise<{result: any, audio: boolean}>} its result, and whether its audio is kept */
  async result(job) {
    const id = /** @type {string} */ (job.id);
    if (!this.results.has(id)) this.results.set(id, await api.job(id));
    return this.results.get(id);
  }

  #begin(name, file) {
    /** @type {Job} */
    const job = {
      key: `new-${this.nextKey}`,
      id: null,
      name,
      options: { ...this.options },
      state: "queued",
      progress: 0,
      before: 0,
      createdAt: Date.now() / 1000,
      durationS: null,
      summary: null,
      error: null,
      file,
    };
    this.nextKey += 1;
    this.sending.unshift(job);
    this.selected = job.key;
    this.#changed();
    this.turn = this.turn.then(() => this.#send(job)).catch(() => {});
  }

  async #send(job) {
    try {
      while (this.sending.includes(job)) {
        try {
          this.#taken(job, await this.#post(job));
          return;
        } catch (error) {
          // As many as may wait do: one of them will be done.
          if (error.code !== "too_many_jobs" && error.code !== "not_ready") throw error;
          this.#become(job, "queued", 0);
          await pause(AGAIN_MS);
        }
      }
    } catch (error) {
      job.error = error;
      this.#become(job, "failed", 0);
    }
  }

  async #post(job) {
    this.#become(job, "uploading", 0);
    if (job.file === null) {
      const { preset, ...options } = job.options;
      return api.request("POST", "/analyse/sample", { body: preset ? job.options : options });
    }
    const form = new FormData();
    for (const [name, value] of Object.entries(job.options)) if (value !== "") form.append(name, String(value));
    if (job.file.size > this.maxBytes) {
      // Refused by the server while it is being sent, a browser would only see a broken connection.
      const [size, most] = [job.file.size, this.maxBytes].map((bytes) => Math.ceil(bytes / 2 ** 20));
      throw new ApiError("file_too_big", `got a file of ${size} MiB, expected ${most} MiB or less`);
    }
    form.append("file", job.file, job.name);
    return upload(api.urlOf("/analyse"), form, (share) => this.#become(job, "uploading", share));
  }

  /** The server has it. */
  #taken(job, { job_id: id }) {
    this.files.set(id, job.file);
    const isSelected = this.selected === job.key;
    this.sending = this.sending.filter((each) => each !== job);
    this.kept.unshift({ ...job, key: id, id, state: "waiting", progress: 0 });
    if (isSelected) this.selected = id;
    this.#changed();
    this.start();
  }

  async #poll(round) {
    while (round === this.round) {
      if (!document.hidden || !this.isLoaded) await this.#ask(round);
      const isBusy = this.kept.some((job) => job.state === "waiting" || job.state === "running");
      await pause(isBusy ? BUSY_POLL_MS : IDLE_POLL_MS);
    }
  }

  async #ask(round) {
    try {
      const { jobs } = await api.jobs({ limit: this.limit + 1 });
      if (round !== this.round) return;
      const pinned = await this.#pinned(jobs);
      if (round !== this.round) return;
      this.hasMore = jobs.length > this.limit;
      this.kept = [...jobs.slice(0, this.limit), ...pinned].map((item) => this.#jobOf(item));
      this.isLoaded = true;
      this.problem = null;
    } catch (error) {
      if (round !== this.round) return;
      this.problem = error;
    }
    this.#changed();
  }

  /** The one that is shown, where the list does not go back to it. @returns {Promise<any[]>} */
  async #pinned(jobs) {
    const id = this.selected;
    if (!id || id.startsWith("new-") || jobs.slice(0, this.limit).some((item) => item.job_id === id)) return [];
    if (jobs.length <= this.limit) {
      // All there are were told of: it is gone.
      this.selected = "";
      return [];
    }
    try {
      const view = await api.job(id);
      if (view.result) this.results.set(id, view);
      return [view];
    } catch (error) {
      if (error.code !== "not_found") throw error;
      if (this.selected === id) this.selected = "";
      return [];
    }
  }

  /** @returns {Job} */
  #jobOf(item) {
    return {
      key: item.job_id,
      id: item.job_id,
      name: item.name,
      options: item.options,
      state: item.state,
      progress: item.progress,
      before: item.before,
      createdAt: item.created_at,
      durationS: item.duration_s,
      summary: item.summary,
      error: item.error,
      file: this.files.get(item.job_id),
    };
  }

  #forget(job) {
    this.sending = this.sending.filter((each) => each !== job);
    if (this.selected === job.key) this.selected = this.all[0]?.key ?? "";
    this.#changed();
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

/** Those of this server, as this browser tab knows them. */
export const jobs = new Jobs();

function pause(ms) {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
