/**
 * What was said and the server does not have yet, kept for a lost connection.
 *
 * The same as stream_server/wire/replay_log.py, for one channel of 16-bit samples: audio and
 * controls in the order in which they were said. Positions count samples from the first one,
 * whatever fills them: audio, `discarded`, the span of `resume`.
 *
 *     entries   [audio][audio][pause][resume, 4800 samples][audio][mark][audio]
 *               ^ startSample         what went out so far ^              ^ endSample
 *
 * What the server has is always a beginning of what was said, so two numbers name it: its position
 * and how many controls it acted on. When the log is full, the oldest entries go.
 */

const CONTROL_BYTES = 512;

export class ReplayLog {
  /** @param {number} maxBytes what is kept at most, the newest entry apart */
  constructor(maxBytes) {
    this.maxBytes = maxBytes;
    this.entries = [];
    this.numBytes = 0;
    this.endSample = 0;
    this.pausedAtEnd = false;
    this.pausedAtStart = false;
    this.firstControl = 0;
    this.numSent = 0; // entries that went out on this connection
    this.numTried = 0; // the same on any connection since the server last said what it has
    this.bridgeFrom = { sample: 0, paused: false };
  }

  get startSample() {
    return this.entries.length ? this.entries[0].start : this.endSample;
  }

  /** @param {Int16Array} samples */
  addAudio(samples) {
    this.#add(samples, samples.length);
  }

  /** @param {{type: string}} control flush, pause, resume, discarded, mark or stop */
  addControl(control) {
    if (control.type === "pause" || control.type === "resume") {
      this.pausedAtEnd = control.type === "pause";
    }
    this.#add(control, span(control));
  }

  /** Return what has not been sent on this connection, and regard it as sent. */
  take() {
    if (this.numSent >= this.entries.length) return [];
    if (this.numSent === 0) this.#bridge();
    const unsent = this.entries.slice(this.numSent).map((entry) => entry.content);
    this.numSent = this.entries.length;
    return unsent;
  }

  /** Drop what the server has: all before `endSample`, and the first controls. */
  forget(endSample, numControls) {
    while (this.numSent && this.#isReceived(this.entries[0], endSample, numControls)) {
      this.#dropFirst();
    }
  }

  /** The connection is gone; nothing counts as sent. */
  disconnected() {
    this.numTried = Math.max(this.numTried, this.numSent);
    this.numSent = 0;
  }

  /** Continue on a new connection after what the server has. */
  goOn(endSample, numControls, paused) {
    while (this.numTried && this.#isReceived(this.entries[0], endSample, numControls)) {
      this.#dropFirst();
    }
    const first = this.entries[0];
    if (this.numTried && first.start < endSample && isAudio(first.content)) {
      const rest = first.content.subarray(endSample - first.start);
      this.numBytes -= first.content.byteLength - rest.byteLength;
      this.entries[0] = { start: endSample, end: first.end, content: rest };
    }
    if (endSample > this.startSample) {
      throw new Error(`the server has ${endSample} samples, it was sent ${this.startSample}`);
    }
    this.firstControl = numControls;
    this.numSent = this.numTried = 0;
    this.bridgeFrom = { sample: endSample, paused };
  }

  /** Continue with a new stream, whose position 0 is `startSample`. */
  beginStream() {
    this.firstControl = 0;
    this.numSent = this.numTried = 0;
    this.bridgeFrom = { sample: this.startSample, paused: false };
  }

  #add(content, numSamples) {
    const start = this.endSample;
    this.endSample += numSamples;
    this.entries.push({ start, end: this.endSample, content });
    this.numBytes += numBytes(content);
    while (this.numBytes > this.maxBytes && this.entries.length > 1) this.#dropFirst();
  }

  #dropFirst() {
    const entry = this.entries.shift();
    this.numBytes -= numBytes(entry.content);
    const wasSent = Math.max(this.numSent, this.numTried) > 0;
    if (!isAudio(entry.content)) {
      this.firstControl += wasSent ? 1 : 0;
      const { type } = entry.content;
      if (type === "pause" || type === "resume") this.pausedAtStart = type === "pause";
    }
    if (this.numSent) {
      this.numSent -= 1;
      this.bridgeFrom = { sample: entry.end, paused: this.pausedAtStart };
    }
    this.numTried = Math.max(0, this.numTried - 1);
  }

  #isReceived(entry, endSample, numControls) {
    return isAudio(entry.content) ? entry.end <= endSample : this.firstControl < numControls;
  }

  /** Put before the first entry what leads there from where the server is. */
  #bridge() {
    let { paused } = this.bridgeFrom;
    const start = this.startSample;
    const numMissing = start - this.bridgeFrom.sample;
    const controls = [];
    if (paused && (numMissing || !this.pausedAtStart)) {
      controls.push({ type: "resume", paused_samples: numMissing });
      paused = false;
    } else if (numMissing) {
      controls.push({ type: "discarded", samples: numMissing });
    }
    if (this.pausedAtStart && !paused) controls.push({ type: "pause" });
    this.pausedAtStart = this.bridgeFrom.paused;
    let end = start;
    for (const control of controls.reverse()) {
      const begin = end - span(control);
      this.entries.unshift({ start: begin, end, content: control });
      this.numBytes += CONTROL_BYTES;
      end = begin;
    }
  }
}

function isAudio(content) {
  return content instanceof Int16Array;
}

function numBytes(content) {
  return isAudio(content) ? content.byteLength : CONTROL_BYTES;
}

function span(control) {
  if (control.type === "discarded") return control.samples;
  if (control.type === "resume") return control.paused_samples;
  return 0;
}
