/** The browser's microphone as blocks of 16-bit samples. */

const RATE_HZ = 16_000;
const WORKLET = new URL("./pcm_worklet.js", import.meta.url);

/**
 * Why there is no microphone. `code` names the words that explain it: `insecure`, `unsupported`,
 * `denied`, `denied_by_system`, `none`, `busy`, `lost`, `other`.
 */
export class CaptureError extends Error {
  constructor(code, detail = "") {
    super(detail || code);
    this.code = code;
    this.detail = detail;
  }
}

export class Capture {
  #stream = null;
  #context = null;
  #source = null;
  #node = null;
  #suspendedAt = null;

  /**
   * @param {object} handlers
   * @param {(block: {samples: Int16Array, peak: number, meanSquare: number}) => void} handlers.onBlock
   * @param {(error: CaptureError) => void} handlers.onLost the device is gone
   * @param {(isMuted: boolean) => void} handlers.onMuted the system or a key has muted it
   * @param {(seconds: number) => void} handlers.onMissed the browser stood still for so long
   */
  constructor(handlers) {
    this.handlers = handlers;
    this.deviceId = "";
    this.label = "";
  }

  get sampleRateHz() {
    return this.#context?.sampleRate ?? RATE_HZ;
  }

  /** Ask for the microphone and begin. @throws {CaptureError} */
  async start(deviceId = "") {
    this.#stream = await ask(deviceId);
    try {
      await this.#connect();
    } catch (error) {
      this.stop();
      throw error instanceof CaptureError ? error : new CaptureError("other", String(error.message));
    }
  }

  /** Change to another microphone; what is heard goes on at the same rate. */
  async change(deviceId) {
    const stream = await ask(deviceId);
    this.#release();
    this.#stream = stream;
    this.#attach();
  }

  /** Let nothing through; blocks of silence come all the same. */
  mute(isMuted) {
    for (const track of this.#stream?.getAudioTracks() ?? []) track.enabled = !isMuted;
  }

  stop() {
    this.#release();
    this.#node?.port.close();
    const context = this.#context;
    this.#context = this.#node = null;
    if (context && context.state !== "closed") context.close();
  }

  async #connect() {
    try {
      this.#context = new AudioContext({ sampleRate: RATE_HZ });
      await this.#build();
    } catch (error) {
      // Browsers that cannot resample a microphone: the server does it.
      if (error.name !== "NotSupportedError") throw error;
      await this.#context?.close();
      this.#context = new AudioContext();
      await this.#build();
    }
    // Without a click the page has to wait for one.
    if (this.#context.state === "suspended") await this.#context.resume();
    const context = this.#context;
    context.onstatechange = () => this.#stateChanged(context);
  }

  async #build() {
    const context = this.#context;
    if (!context.audioWorklet) throw new CaptureError("unsupported");
    await context.audioWorklet.addModule(WORKLET);
    this.#node = new AudioWorkletNode(context, "pcm-blocks", {
      numberOfOutputs: 0,
      processorOptions: { blockSamples: Math.round(context.sampleRate / 10) },
    });
    this.#node.port.onmessage = ({ data }) => this.handlers.onBlock(data);
    this.#attach();
  }

  #attach() {
    this.#source = this.#context.createMediaStreamSource(this.#stream);
    this.#source.connect(this.#node);
    const [track] = this.#stream.getAudioTracks();
    this.label = track.label;
    this.deviceId = track.getSettings().deviceId ?? "";
    track.onended = () => this.handlers.onLost(new CaptureError("lost"));
    track.onmute = () => this.handlers.onMuted(true);
    track.onunmute = () => this.handlers.onMuted(false);
  }

  #release() {
    this.#source?.disconnect();
    this.#source = null;
    for (const track of this.#stream?.getTracks() ?? []) {
      track.onended = track.onmute = track.onunmute = null;
      track.stop();
    }
    this.#stream = null;
  }

  /** A laptop that sleeps, a telephone call: the audio clock stands still, the stream's does not. */
  #stateChanged(context) {
    if (context !== this.#context) return;
    if (context.state === "running") {
      if (this.#suspendedAt !== null) {
        this.handlers.onMissed((Date.now() - this.#suspendedAt) / 1000);
      }
      this.#suspendedAt = null;
    } else if (context.state !== "closed") {
      this.#suspendedAt ??= Date.now();
      context.resume().catch(() => {});
    }
  }
}

/** The microphones there are; without permission they have no names and only their number is told. */
export async function listMicrophones() {
  if (!navigator.mediaDevices?.enumerateDevices) return [];
  const devices = await navigator.mediaDevices.enumerateDevices();
  return devices
    .filter((device) => device.kind === "audioinput" && device.deviceId)
    .map(({ deviceId, label }) => ({ deviceId, label }));
}

async function ask(deviceId) {
  if (!window.isSecureContext) throw new CaptureError("insecure");
  if (!navigator.mediaDevices?.getUserMedia || !window.AudioContext) {
    throw new CaptureError("unsupported");
  }
  // What makes speech pleasant to hear (levelled, cleaned) takes away what emotion sounds like.
  const audio = { echoCancellation: false, noiseSuppression: false, autoGainControl: false };
  if (deviceId) audio.deviceId = { exact: deviceId };
  try {
    return await navigator.mediaDevices.getUserMedia({ audio, video: false });
  } catch (error) {
    throw explained(error);
  }
}

function explained(error) {
  switch (error.name) {
    case "NotAllowedError":
    case "SecurityError":
      return new CaptureError(
        /system/i.test(error.message) ? "denied_by_system" : "denied", error.message,
      );
    case "NotFoundError":
    case "OverconstrainedError":
      return new CaptureError("none", error.message);
    case "NotReadableError":
    case "AbortError":
      return new CaptureError("busy", error.message);
    default:
      return new CaptureError("other", `${error.name}: ${error.message}`);
  }
}
