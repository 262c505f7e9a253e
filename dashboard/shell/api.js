/** The JSON API, `/api/v1`. Every call rejects with an {@link ApiError}; pages use nothing else. */

import { addressOf } from "./router.js";

const BASE = addressOf("/api/v1");
const TIMEOUT_MS = 20_000;

/** What went wrong, what to do, and the code for programs. */
export class ApiError extends Error {
  /**
   * @param {string} code e.g. `unknown_stream`; `offline`: the server did not answer
   * @param {string} message @param {string} [remedy] @param {number} [status] of HTTP
   */
  constructor(code, message, remedy = "", status = 0) {
    super(message);
    this.name = "ApiError";
    this.code = code;
    this.remedy = remedy;
    this.status = status;
  }
}

/**
 * @param {string} method @param {string} path below `/api/v1`
 * @param {{query?: Record<string, any>, body?: any, form?: FormData, signal?: AbortSignal}} [options]
 * @returns {Promise<any>} the JSON of the answer, null for none
 */
export async function request(method, path, { query, body, form, signal } = {}) {
  const limit = AbortSignal.timeout(form ? 600_000 : TIMEOUT_MS);
  /** @type {RequestInit} */
  const init = { method, signal: signal ? AbortSignal.any([signal, limit]) : limit };
  if (form) init.body = form;
  else if (body !== undefined) {
    init.body = JSON.stringify(body);
    init.headers = { "Content-Type": "application/json" };
  }
  let response;
  try {
    response = await fetch(urlOf(path, query), init);
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new ApiError("offline", error instanceof Error ? error.message : String(error));
  }
  noteClock(response.headers.get("Date"));
  if (response.ok) return response.status === 204 ? null : response.json();
  // The session has ended: the same address now answers with the form to log in.
  if (response.status === 401) location.reload();
  const problem = await response.json().catch(() => ({}));
  throw new ApiError(
    problem.code ?? `http_${response.status}`,
    problem.message ?? response.statusText,
    problem.remedy,
    response.status,
  );
}

let clockError_s = 0;

/** @returns {number} the server's clock, seconds since 1970; as good as the viewer's or a second off */
export function serverNow() {
  return Date.now() / 1000 + clockError_s;
}

/** @param {string | null} date of an answer, in whole seconds */
function noteClock(date) {
  const difference_s = (Date.parse(date ?? "") - Date.now()) / 1000 + 0.5;
  // Within the resolution of the header the viewer's clock is the better one.
  clockError_s = Math.abs(difference_s) > 2 ? difference_s : 0;
}

/** @param {string} path below `/api/v1` @param {Record<string, any>} [query] without empty values */
export function urlOf(path, query = {}) {
  const parameters = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) {
    if (value !== undefined && value !== null && value !== "") parameters.set(name, String(value));
  }
  const text = parameters.toString();
  return `${BASE}${path}${text && `?${text}`}`;
}

const part = encodeURIComponent;

export const api = {
  request,
  urlOf,
  info: () => request("GET", "/info"),
  models: () => request("GET", "/models"),
  config: () => request("GET", "/config"),
  /** @param {Record<string, any>} [query] */
  streams: (query) => request("GET", "/streams", { query }),
  /** @param {string} id */
  stream: (id) => request("GET", `/streams/${part(id)}`),
  /** @param {string} id */
  deleteStream: (id) => request("DELETE", `/streams/${part(id)}`),
  /** @param {string} id @param {Record<string, any>} [query] */
  results: (id, query) => request("GET", `/streams/${part(id)}/results`, { query }),
  /** @param {string} id */
  pointsCsvUrl: (id) => urlOf(`/streams/${part(id)}/points.csv`),
  /** What people hear in it. @param {string} id */
  labels: (id) => request("GET", `/streams/${part(id)}/labels`),
  /** @param {string} id @param {number} channel @param {{start_s: number, end_s: number, label: string}[]} labels all of this person's */
  putLabels: (id, channel, labels) => request("PUT", `/streams/${part(id)}/labels/${channel}`, { body: { labels } }),
  /** @param {string} id @param {number} channel @param {string} speaker @param {boolean} left_out */
  leaveSpeakerOut: (id, channel, speaker, left_out) => request("POST", `/streams/${part(id)}/speakers`, { body: { channel, speaker, left_out } }),
  /** @param {string} id @param {number} channel @param {string} speaker @param {string} name "": as in results */
  nameSpeaker: (id, channel, speaker, name) => request("PUT", `/streams/${part(id)}/speakers/${channel}`, { body: { speaker, name } }),
  /** @param {string} id @param {"en" | "zh"} lang */
  reportUrl: (id, lang) => urlOf(`/streams/${part(id)}/report.html`, { lang }),
  /** @param {string} id @param {"textgrid" | "eaf" | "audacity"} format */
  annotationsUrl: (id, format) => urlOf(`/streams/${part(id)}/annotations`, { format }),
  /** @param {string} id @param {number} channel */
  recordingUrl: (id, channel) => urlOf(`/streams/${part(id)}/recording/${channel}`),
  /** @param {Record<string, any>} [query] */
  alerts: (query) => request("GET", "/alerts", { query }),
  /** @param {string} id @param {string} note */
  acknowledge: (id, note) => request("POST", `/alerts/${part(id)}/acknowledge`, { body: { note } }),
  /** What led to an alert, and what became of it. @param {string} id */
  alert: (id) => request("GET", `/alerts/${part(id)}`),
  /** @param {string} id @param {string} to "": nobody in particular */
  assign: (id, to) => request("POST", `/alerts/${part(id)}/assign`, { body: { to } }),
  /** @param {string} id @param {"right" | "wrong" | null} verdict */
  judge: (id, verdict) => request("POST", `/alerts/${part(id)}/judge`, { body: { verdict } }),
  /** @param {Record<string, any>} [query] */
  precision: (query) => request("GET", "/alerts/precision", { query }),
  sampleCall: () => request("POST", "/sample-call", { body: {} }),
  /** @param {Record<string, any>} [query] */
  jobs: (query) => request("GET", "/analyse", { query }),
  /** @param {string} id */
  job: (id) => request("GET", `/analyse/${part(id)}`),
  /** @param {string} id */
  cancelJob: (id) => request("POST", `/analyse/${part(id)}/cancel`),
  /** @param {string} id */
  deleteJob: (id) => request("DELETE", `/analyse/${part(id)}`),
  /** @param {string} id @param {Record<string, any>} query `channel`, `from_s`, `to_s` */
  jobFrames: (id, query) => request("GET", `/analyse/${part(id)}/frames`, { query }),
  /** @param {string} id */
  jobLabels: (id) => request("GET", `/analyse/${part(id)}/labels`),
  /** @param {string} id @param {number} channel @param {{start_s: number, end_s: number, label: string}[]} labels all of this person's */
  putJobLabels: (id, channel, labels) => request("PUT", `/analyse/${part(id)}/labels/${channel}`, { body: { labels } }),
  /** @param {string} id @param {number} channel @param {string} speaker @param {string} name "": as in results */
  nameJobSpeaker: (id, channel, speaker, name) => request("PUT", `/analyse/${part(id)}/speakers/${channel}`, { body: { speaker, name } }),
  /** @param {string} id @param {string} file of the result @param {Record<string, any>} [query] */
  jobFileUrl: (id, file, query) => urlOf(`/analyse/${part(id)}/${file}`, query),
};

/** @typedef {typeof api} Api */
