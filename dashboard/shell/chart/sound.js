/**
 * The audio below a timeline: decoded in the browser, as envelope and as spectrogram. What is drawn
 * is made from samples at 16 kHz; only {@link Sound.load} needs a browser.
 */

const RATE_HZ = 16_000;
/** Longest audio that is decoded, all channels together: an hour takes 115 MB. */
export const MOST_S = 3600;
/** Samples of an entry of the coarse envelope. */
const BLOCK = 256;
const WINDOW = 512;
export const BINS = 64;
/** Top of the spectrogram: half the rate of the samples. */
export const TOP_HZ = RATE_HZ / 2;
/** What is fainter is drawn as nothing, dBFS of a full-scale sine. */
export const FLOOR_DB = -90;
/** Windows looked at in a column of the spectrogram. */
const MOST_WINDOWS = 4;

/** One channel. */
export class Samples {
  /** @param {Float32Array} samples at 16 kHz */
  constructor(samples) {
    // Half the memory, and all that a screen can show.
    this.samples = Int16Array.from(samples, (value) => Math.max(-32768, Math.min(32767, Math.round(value * 32767))));
    const count = Math.ceil(samples.length / BLOCK);
    this.low = new Int16Array(count);
    this.high = new Int16Array(count);
    for (let block = 0; block < count; block += 1) {
      [this.low[block], this.high[block]] = extremes(this.samples, block * BLOCK, (block + 1) * BLOCK);
    }
  }

  /**
   * Least and greatest value of each column, -1 to 1.
   * @param {number} from_s @param {number} to_s @param {number} columns
   * @returns {{at_s: number[], low: number[], high: number[]}}
   */
  envelope(from_s, to_s, columns) {
    const from = Math.max(0, Math.floor(from_s * RATE_HZ));
    const to = Math.min(this.samples.length, Math.ceil(to_s * RATE_HZ));
    const size = Math.max(1, ((to_s - from_s) * RATE_HZ) / columns);
    const envelope = { at_s: [], low: [], high: [] };
    for (let start = from; start < to; start += size) {
      const end = Math.min(to, start + size);
      // Of long columns the blocks are enough: their edges are less than a pixel off.
      const [low, high] =
        size >= 4 * BLOCK
          ? [extremes(this.low, start / BLOCK, end / BLOCK)[0], extremes(this.high, start / BLOCK, end / BLOCK)[1]]
          : extremes(this.samples, start, end);
      envelope.at_s.push(start / RATE_HZ);
      envelope.low.push(low / 32768);
      envelope.high.push(high / 32768);
    }
    return envelope;
  }

  /**
   * Level of each column in {@link BINS} bands of equal width up to {@link TOP_HZ}, dBFS.
   * @param {number} from_s @param {number} to_s @param {number} columns
   * @returns {{at_s: number[], levels: number[][]}} `levels[band][column]`
   */
  spectrogram(from_s, to_s, columns) {
    const from = Math.max(0, from_s);
    const to = Math.min(this.samples.length / RATE_HZ, to_s);
    const width_s = (to_s - from_s) / columns;
    const at_s = [];
    const levels = Array.from({ length: BINS }, () => /** @type {number[]} */ ([]));
    for (let start_s = from; start_s < to; start_s += width_s) {
      const windows = Math.max(1, Math.min(MOST_WINDOWS, Math.floor((width_s * RATE_HZ) / WINDOW)));
      const loudest = new Float64Array(BINS).fill(FLOOR_DB);
      for (let index = 0; index < windows; index += 1) {
        const middle = Math.round((start_s + ((index + 0.5) * width_s) / windows) * RATE_HZ);
        spectrum(this.samples, middle - WINDOW / 2).forEach((level, bin) => (loudest[bin] = Math.max(loudest[bin], level)));
      }
      at_s.push(start_s);
      loudest.forEach((level, bin) => levels[bin].push(level));
    }
    return { at_s, levels };
  }

  /** @param {number} from_s @param {number} to_s @returns {number} RMS in dBFS; of silence -Infinity */
  level(from_s, to_s) {
    const from = Math.max(0, Math.round(from_s * RATE_HZ));
    const to = Math.min(this.samples.length, Math.round(to_s * RATE_HZ));
    let sum = 0;
    for (let at = from; at < to; at += 1) sum += this.samples[at] ** 2;
    return to > from ? 10 * Math.log10(sum / (to - from) / 32768 ** 2) : -Infinity;
  }
}

function extremes(values, from, to) {
  let low = 32767;
  let high = -32768;
  const end = Math.min(values.length, Math.max(Math.ceil(to), Math.floor(from) + 1));
  for (let at = Math.floor(from); at < end; at += 1) {
    if (values[at] < low) low = values[at];
    if (values[at] > high) high = values[at];
  }
  return low > high ? [0, 0] : [low, high];
}

const HANN = Float64Array.from({ length: WINDOW }, (_, index) => 0.5 - 0.5 * Math.cos((2 * Math.PI * index) / WINDOW));

/** @param {Int16Array} samples @param {number} start may be before the first @returns {number[]} dBFS of each band */
function spectrum(samples, start) {
  const real = new Float64Array(WINDOW);
  const imaginary = new Float64Array(WINDOW);
  for (let index = 0; index < WINDOW; index += 1) real[index] = ((samples[start + index] ?? 0) / 32768) * HANN[index];
  transform(real, imaginary);
  const size = WINDOW / 2 / BINS;
  return Array.from({ length: BINS }, (_, bin) => {
    let power = 0;
    for (let at = bin * size; at < (bin + 1) * size; at += 1) power = Math.max(power, real[at] ** 2 + imaginary[at] ** 2);
    // A sine of full scale has (WINDOW / 4)² behind a Hann window.
    return Math.max(FLOOR_DB, 10 * Math.log10(power / (WINDOW / 4) ** 2 + 1e-12));
  });
}

/** Fast Fourier transform in place (Cooley and Tukey, radix 2). */
function transform(real, imaginary) {
  const size = real.length;
  for (let index = 1, mirrored = 0; index < size; index += 1) {
    let bit = size >> 1;
    for (; mirrored & bit; bit >>= 1) mirrored ^= bit;
    mirrored ^= bit;
    if (index < mirrored) [real[index], real[mirrored]] = [real[mirrored], real[index]];
  }
  for (let half = 1; half < size; half *= 2) {
    for (let start = 0; start < size; start += 2 * half) {
      for (let index = 0; index < half; index += 1) {
        const angle = (-Math.PI * index) / half;
        const [cosine, sine] = [Math.cos(angle), Math.sin(angle)];
        const [low, high] = [start + index, start + index + half];
        const re = real[high] * cosine - imaginary[high] * sine;
        const im = real[high] * sine + imaginary[high] * cosine;
        [real[high], imaginary[high]] = [real[low] - re, imaginary[low] - im];
        [real[low], imaginary[low]] = [real[low] + re, imaginary[low] + im];
      }
    }
  }
}

/**
 * Where the audio of a timeline comes from: one file with all channels, or one for each channel.
 * @typedef {{channels: number[], url: string, file?: File | null}} Source `channels`: of the timeline, in the
 *   order of the file; `file`: the page has it itself, `url` is a name for it
 */
export class Sound {
  /** @param {Source[]} sources @param {number} duration_s */
  constructor(sources, duration_s) {
    this.sources = sources;
    this.too_long = sources.reduce((sum, { channels }) => sum + channels.length, 0) * duration_s > MOST_S;
    /** @type {Map<number, Samples>} */
    this.channels = new Map();
    /** @type {Promise<void> | null} */
    this.loading = null;
  }

  /** Decode it, once. Rejects if it cannot be had or decoded. @returns {Promise<void>} */
  load() {
    this.loading ??= this.#load().catch((error) => {
      this.loading = null; // the next call tries again
      throw error;
    });
    return this.loading;
  }

  async #load() {
    for (const { channels, url, file } of this.sources) {
      const data = await (file ? file.arrayBuffer() : fetched(url));
      const decoded = await new OfflineAudioContext(1, 1, RATE_HZ).decodeAudioData(data);
      channels.forEach((channel, index) => {
        if (index < decoded.numberOfChannels) this.channels.set(channel, new Samples(decoded.getChannelData(index)));
      });
    }
  }
}

/** @param {string} url */
async function fetched(url) {
  const answer = await fetch(url);
  if (!answer.ok) throw new Error(answer.statusText);
  return answer.arrayBuffer();
}
