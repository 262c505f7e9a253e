/**
 * The microphone of this browser as a live stream: capture, protocol, what came back.
 *
 * There is one, and it outlives the page that shows it: who goes to the wall to look at the own
 * tile, or switches the language, keeps speaking. `change` events tell of states, `results` of new
 * results, `level` of every tenth of a second.
 */

import { Capture, CaptureError } from "./capture.js";
import { StreamClient } from "./stream_client.js";

const KEPT_POINTS_S = 600; // what the page can show; the stream's own page has everything
const QUIET_AFTER_S = 4;
const QUIET_DBFS = -75; // below any microphone's own noise

/**
 * States: `idle`, `asking` (for permission), `connecting`, `live`, `paused`, `waiting` (connection
 * lost), `stopping`, `ended`, `failed`.
 */
export class MicrophoneSession extends EventTarget {
  #capture = null;
  #client = null;
  #pausedSamples = 0;
  #quietSince = null;

  constructor() {
    super();
    this.#reset();
  }

  #reset() {
    this.state = "idle";
    this.error = null; // {kind: "capture" | "server", code, message, remedy}
    this.isPaused = false;
    this.isMuted = false;
    this.isQuiet = false;
    this.level = { peak: 0, dbfs: -100 };
    this.labels = [];
    this.channel = null;
    this.model = null;
    this.streamId = null;
    this.heartbeat = null;
    this.summary = null;
    this.point = null;
    this.results = { points: [], spans: new Map(), alerts: [], marks: [], warnings: [] };
    this.numReconnects = 0;
  }

  get isActive() {
    return !["idle", "ended", "failed"].includes(this.state);
  }

  get elapsedS() {
    return this.#client?.positionS ?? 0;
  }

  get microphone() {
    return { deviceId: this.#capture?.deviceId ?? "", label: this.#capture?.label ?? "" };
  }

  /**
   * @param {object} options
   * @param {string} options.url where audio comes in
   * @param {string} options.name of the stream, for people
   * @param {string} options.role of the speaker
   * @param {string} options.deviceId "" for the browser's choice
   * @param {Record<string, string> | null} [options.told] consent and notice, as fields of `start`
   */
  async start({ url, name, role, deviceId, told = null }) {
    if (this.isActive) return;
    this.#reset();
    this.#become("asking");
    const capture = new Capture({
      onBlock: (block) => this.#heard(block),
      onLost: (error) => this.#lost(error),
      onMuted: (isMuted) => this.#muted(isMuted),
      onMissed: (seconds) => this.#missed(seconds),
    });
    this.#capture = capture;
    try {
      await capture.start(deviceId);
    } catch (error) {
      if (this.#capture === capture) this.#fail(captureFailure(error));
      return;
    }
    if (this.#capture !== capture) return capture.stop(); // stopped while the browser asked
    const start = {
      encoding: "pcm_s16le",
      sample_rate: capture.sampleRateHz,
      channels: [{ role, name: "" }],
      name,
      metadata: { source: "browser" },
      wants: ["points", "segments", "alerts"],
      ...told,
    };
    this.#client = new StreamClient({
      url,
      start,
      onState: (state, error) => this.#clientIs(state, error),
      onMessage: (message) => this.#receive(message),
    });
    this.#become("connecting");
    this.#client.open();
  }

  pause() {
    if (this.isPaused || !this.#client) return;
    this.isPaused = true;
    this.#pausedSamples = 0;
    this.#capture.mute(true);
    this.#client.pause();
    this.#changed();
  }

  resume() {
    if (!this.isPaused) return;
    this.isPaused = false;
    this.#client.resume(this.#pausedSamples);
    this.#capture.mute(false);
    this.#changed();
  }

  mark(name) {
    this.#client?.mark(name);
  }

  async change(deviceId) {
    try {
      await this.#capture?.change(deviceId);
      this.#capture?.mute(this.isPaused);
      this.isMuted = false;
    } catch (error) {
      this.#lost(error);
    }
    this.#changed();
  }

  stop() {
    this.#capture?.stop();
    if (this.#client === null) {
      this.#capture = null;
      if (this.isActive) this.#become("idle");
      return;
    }
    if (this.isPaused) this.resume();
    this.#client.stop();
  }

  #heard({ samples, peak, meanSquare }) {
    const dbfs = 10 * Math.log10(Math.max(meanSquare, 1e-10));
    this.level = this.isPaused ? { peak: 0, dbfs: -100 } : { peak, dbfs };
    if (this.isPaused) this.#pausedSamples += samples.length;
    else this.#client?.sendAudio(samples);
    this.#listenForQuiet(dbfs);
    this.dispatchEvent(new Event("level"));
  }

  #listenForQuiet(dbfs) {
    if (this.isPaused || dbfs > QUIET_DBFS) this.#quietSince = null;
    else this.#quietSince ??= this.elapsedS;
    const quietS = this.#quietSince === null ? 0 : this.elapsedS - this.#quietSince;
    if (this.isQuiet !== quietS > QUIET_AFTER_S) {
      this.isQuiet = !this.isQuiet;
      this.#changed();
    }
  }

  #muted(isMuted) {
    this.isMuted = isMuted;
    this.#changed();
  }

  #missed(seconds) {
    const samples = Math.round(seconds * this.#capture.sampleRateHz);
    if (this.isPaused) this.#pausedSamples += samples;
    else this.#client?.discard(samples);
  }

  #lost(error) {
    this.error = captureFailure(error);
    this.stop();
    this.#changed();
  }

  #receive(message) {
    const { results } = this;
    const offset = this.#client.streamStartS;
    switch (message.type) {
      case "ready":
        if (!message.resumed && this.streamId !== null) results.spans = finished(results.spans);
        this.labels = message.labels;
        [this.channel] = message.channels;
        this.model = message.model;
        this.streamId = message.stream_id;
        break;
      case "heartbeat":
        this.heartbeat = message;
        break;
      case "point":
        this.point = moved(message, offset);
        results.points.push(this.point);
        this.#forgetOld();
        break;
      case "segment":
      case "gap":
        results.spans.set(`${message.stream_id} ${message.start_sample}`, moved(message, offset));
        break;
      case "alert":
        results.alerts.push({ ...message, at_s: message.at_s + offset });
        break;
      case "marked":
        results.marks.push({ ...message, at_s: message.at_s + offset });
        break;
      case "warning":
        results.warnings.push({ ...message, at_s: message.at_s + offset });
        break;
      case "summary":
        this.summary = message;
        break;
      case "error":
        if (message.close_code === null) console.info("the server says:", message.message);
        break;
      default:
        return;
    }
    this.dispatchEvent(new CustomEvent("results", { detail: message }));
  }

  #forgetOld() {
    const { results } = this;
    const before = this.elapsedS - KEPT_POINTS_S;
    while (results.points.length && results.points[0].end_s < before) results.points.shift();
    for (const [key, span] of results.spans) {
      if (span.end_s >= before) break;
      results.spans.delete(key);
    }
  }

  #clientIs(state, error) {
    if (state === "failed") return this.#fail({ kind: "server", ...error });
    if (state === "waiting") this.numReconnects += 1;
    if (state === "finished") {
      this.#release();
      return this.#become("ended");
    }
    if (state === "streaming" || state === "waiting") {
      this.error = error ? { kind: "server", ...error } : null;
    }
    this.#become(state === "streaming" ? "live" : state);
  }

  #fail(error) {
    this.error = error;
    this.#release();
    this.#become("failed");
  }

  #release() {
    this.#capture?.stop();
    this.#capture = null;
    this.level = { peak: 0, dbfs: -100 };
  }

  #become(state) {
    this.state = state;
    this.#changed();
  }

  #changed() {
    this.dispatchEvent(new Event("change"));
  }
}

/** The one of this browser tab. */
export const microphone = new MicrophoneSession();

// A tab that is closed says so; otherwise its stream would be kept waiting for it to come back.
window.addEventListener("pagehide", () => microphone.stop());

function captureFailure(error) {
  const code = error instanceof CaptureError ? error.code : "other";
  return { kind: "capture", code, message: error.detail ?? String(error), remedy: "" };
}

function moved(result, offset) {
  return { ...result, start_s: result.start_s + offset, end_s: result.end_s + offset };
}

/** A stream that was given up ended where it was: nothing of it goes on. */
function finished(spans) {
  return new Map([...spans].map(([key, span]) => [key, { ...span, final: true }]));
}
