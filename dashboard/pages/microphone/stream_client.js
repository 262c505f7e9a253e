/**
 * A microphone's stream over any number of connections: the native protocol of docs/reference/protocol.md.
 *
 * States: `connecting`, `streaming`, `waiting` (the connection is lost; another is tried),
 * `stopping` (the last results are awaited), `finished`, `failed` (trying again is of no use).
 */

import { ReplayLog } from "./replay_log.js";

const KEPT_S = 30; // as long as a server waits for a lost client by default
const FIRST_DELAY_MS = 500;
const LONGEST_DELAY_MS = 10_000;
const MAX_BUFFERED_BYTES = 256 * 1024; // more would wait in the browser, where nothing bounds it
const SILENCE_OF_SERVER_MS = 15_000; // with audio that does not get out: the connection is dead
const KEEP_ALIVE_MS = 10_000;
const STOP_TIMEOUT_MS = 10_000;

// Worth another try without an error message before: RFC 6455 and its registry, and those of
// docs/reference/protocol.md.
const TRY_AGAIN = new Set([1001, 1005, 1006, 1011, 1012, 1013, 1014, 4408, 4413, 4429, 4500, 4503]);
const TRY_AGAIN_ERRORS = new Set([
  "server_full", "too_many_streams", "not_ready", "too_many_messages", "idle", "too_long",
  "slow_consumer", "shutting_down", "engine_failed", "internal",
]);

export class StreamClient {
  #url;
  #start;
  #onState;
  #onMessage;
  #log;
  #socket = null;
  #ready = null;
  #streamStartSample = 0;
  #lastSeq = -1;
  #error = null;
  #attempts = 0;
  #isStopped = false;
  #hasSummary = false;
  #isReady = false; // on this connection
  #retry = 0;
  #alive = 0;
  #stopTimer = 0;
  #lastHeard = 0;
  #onOnline = () => this.#retryNow();

  /**
   * @param {object} options
   * @param {string} options.url where audio comes in
   * @param {object} options.start fields of the protocol's `start`
   * @param {(state: string, error: object | null) => void} options.onState
   * @param {(message: object) => void} options.onMessage new messages, times as the server says
   */
  constructor({ url, start, onState, onMessage }) {
    this.#url = url;
    this.#start = start;
    this.#onState = onState;
    this.#onMessage = onMessage;
    this.#log = new ReplayLog(KEPT_S * start.sample_rate * 2);
    this.state = "connecting";
  }

  get ready() {
    return this.#ready;
  }

  /** Where the server's present stream begins, in seconds from the first sample. */
  get streamStartS() {
    return this.#streamStartSample / this.#start.sample_rate;
  }

  /** Length of all that was said, in seconds. */
  get positionS() {
    return this.#log.endSample / this.#start.sample_rate;
  }

  open() {
    window.addEventListener("online", this.#onOnline);
    this.#alive = setInterval(() => this.#check(), KEEP_ALIVE_MS);
    this.#connect();
  }

  /** @param {Int16Array} samples */
  sendAudio(samples) {
    if (this.#isStopped) return;
    this.#log.addAudio(samples);
    this.#flow();
  }

  pause() {
    this.#say({ type: "pause" });
  }

  resume(pausedSamples) {
    this.#say({ type: "resume", paused_samples: pausedSamples });
  }

  discard(samples) {
    if (samples > 0) this.#say({ type: "discarded", samples });
  }

  mark(name) {
    this.#say({ type: "mark", name });
  }

  /** No more audio: the last results follow, then the state `finished`. */
  stop() {
    if (this.#isStopped) return;
    this.#say({ type: "stop" });
    this.#isStopped = true;
    if (this.#ready === null) return this.#end("finished");
    this.#become("stopping");
    this.#stopTimer = setTimeout(() => this.#end("finished"), STOP_TIMEOUT_MS);
  }

  /** End at once, without waiting for the last results. */
  abort() {
    this.#isStopped = true;
    this.#end("finished");
  }

  #say(control) {
    if (this.#isStopped) return;
    this.#log.addControl(control);
    this.#flow();
  }

  #connect() {
    clearTimeout(this.#retry);
    this.#log.disconnected();
    this.#error = null;
    this.#hasSummary = this.#isReady = false;
    let socket;
    try {
      socket = new WebSocket(this.#url);
    } catch (error) {
      return this.#end("failed", { code: "bad_url", message: String(error.message || error) });
    }
    this.#socket = socket;
    socket.binaryType = "arraybuffer";
    socket.onopen = () => socket.send(JSON.stringify(this.#startMessage()));
    socket.onmessage = ({ data }) => {
      if (socket === this.#socket && typeof data === "string") this.#receive(JSON.parse(data));
    };
    socket.onclose = ({ code }) => {
      if (socket === this.#socket) this.#closed(code);
    };
  }

  #startMessage() {
    const start = { type: "start", ...this.#start };
    if (this.#ready !== null) {
      start.resume = {
        token: this.#ready.resume_token,
        next_sample: this.#log.startSample - this.#streamStartSample,
        last_seq: this.#lastSeq,
      };
    }
    return start;
  }

  #receive(message) {
    this.#lastHeard = performance.now();
    switch (message.type) {
      case "ready":
        this.#begin(message);
        break;
      case "heartbeat":
        this.#log.forget(
          message.received_samples + this.#streamStartSample, message.received_controls,
        );
        break;
      case "error":
        if (message.close_code !== null) this.#error = message;
        break;
      default:
        if (typeof message.seq !== "number") return;
        if (message.seq <= this.#lastSeq) return;
        this.#lastSeq = message.seq;
        this.#hasSummary ||= message.type === "summary";
    }
    this.#onMessage(message);
    if (message.type === "ready") this.#become(this.#isStopped ? "stopping" : "streaming");
    this.#flow();
  }

  #begin(ready) {
    if (ready.resumed) {
      const received = ready.received_samples + this.#streamStartSample;
      this.#log.goOn(received, ready.received_controls, ready.paused);
    } else {
      this.#log.beginStream();
      this.#streamStartSample = this.#log.startSample;
      this.#lastSeq = -1;
    }
    this.#ready = ready;
    this.#isReady = true;
    this.#attempts = 0;
  }

  #flow() {
    const socket = this.#socket;
    if (!this.#isReady || socket === null || socket.readyState !== WebSocket.OPEN) return;
    if (socket.bufferedAmount > MAX_BUFFERED_BYTES) return;
    for (const content of this.#log.take()) {
      socket.send(content instanceof Int16Array ? content : JSON.stringify(content));
    }
  }

  #check() {
    const socket = this.#socket;
    if (socket === null || socket.readyState !== WebSocket.OPEN) return;
    const isSilent = performance.now() - this.#lastHeard > SILENCE_OF_SERVER_MS;
    if (isSilent && socket.bufferedAmount > 0) {
      this.#closed(1006);
    } else if (this.state === "streaming") {
      socket.send('{"type":"keepalive"}');
    }
  }

  #closed(code) {
    this.#forgetSocket();
    this.#isReady = false;
    const isOver = this.#hasSummary;
    // What was ended for us is not taken up again; what comes next is a new stream.
    if (isOver) this.#forgetStream();
    if (this.#isStopped && (isOver || this.#ready === null || code === 1000)) {
      return this.#end("finished");
    }
    const again = this.#error ? TRY_AGAIN_ERRORS.has(this.#error.code) : TRY_AGAIN.has(code);
    if (!again && !(code === 1000 && isOver)) {
      return this.#end("failed", this.#error ?? { code: `close_${code}`, message: "" });
    }
    if (!this.#isStopped) this.#become("waiting", this.#error);
    const longest = Math.min(LONGEST_DELAY_MS, FIRST_DELAY_MS * 2 ** Math.min(this.#attempts, 10));
    this.#attempts += 1;
    const asked = (this.#error?.retry_after_s ?? 0) * 1000;
    // Cut by a random part, so that many pages do not come back at once.
    const delay = asked + longest * (0.5 + Math.random() / 2);
    this.#retry = setTimeout(() => this.#connect(), delay);
  }

  #retryNow() {
    if (this.#socket === null) this.#connect();
  }

  #forgetStream() {
    this.#ready = null;
    this.#log.disconnected();
    this.#log.beginStream();
  }

  #forgetSocket() {
    const socket = this.#socket;
    this.#socket = null;
    if (socket !== null && socket.readyState < WebSocket.CLOSING) socket.close();
  }

  #become(state, error = null) {
    this.state = state;
    this.#onState(state, error);
  }

  #end(state, error = null) {
    clearTimeout(this.#retry);
    clearTimeout(this.#stopTimer);
    clearInterval(this.#alive);
    window.removeEventListener("online", this.#onOnline);
    this.#forgetSocket();
    if (this.state !== "finished" && this.state !== "failed") this.#become(state, error);
  }
}
