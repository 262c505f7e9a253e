/**
 * What is known of one stream, fed with results. Pure: no elements, no chart.
 *
 * Points are kept in flat arrays, for a stream may last hours; what is drawn is cut out of them by
 * {@link ChannelTimeline.columns}.
 *
 * @typedef {import("../../shell/types.js").Span} Span
 * @typedef {{start_s: number, end_s: number, posteriors: number[], label: string, confidence: number, speech_share: number, frames?: any}} Column
 * @typedef {{alert_id: string, rule: string, severity: string, channel: number, labels: string[], posterior: number, since_s: number, at_s: number, cleared_s: number | null}} Alert
 */

import { inOrder } from "../../shell/names.js";

/** Points further apart than this are not joined. */
const JOINT_S = 0.05;
const SAMPLES_A_S = 16_000;

export class ChannelTimeline {
  /** @param {import("../../shell/types.js").StreamChannel} spec */
  constructor(spec) {
    this.spec = spec;
    /** @type {Column[]} */
    this.points = [];
    /** @type {Span[]} segments and gaps by start */
    this.spans = [];
    /** @type {Map<string, number>} place in `spans` */
    this.places = new Map();
    this.has_frames = false;
    /** @type {import("../../shell/whole.js").Whole | null} of a stream that has ended with a summary */
    this.whole = null;
  }

  /** @param {import("../../shell/types.js").Point} point */
  addPoint(point) {
    const { start_s, end_s, posteriors, label, confidence, speech_share, frames } = point;
    this.points.push({ start_s, end_s, posteriors, label, confidence, speech_share, frames: frames ?? undefined });
    this.has_frames ||= Boolean(frames);
  }

  /** A later one with the same start replaces an interim one. @param {Span} span */
  addSpan(span) {
    const key = `${span.type} ${span.start_s}`;
    const place = this.places.get(key);
    if (place !== undefined) this.spans[place] = span;
    else {
      this.places.set(key, this.spans.length);
      this.spans.push(span);
    }
  }

  /** @returns {Column | undefined} */
  get last() {
    return this.points[this.points.length - 1];
  }

  /** The point at a moment. @param {number} at_s @returns {Column | undefined} */
  pointAt(at_s) {
    const point = this.points[firstAfter(this.points, at_s) - 1];
    return point && at_s < point.end_s + JOINT_S ? point : undefined;
  }

  /** @param {number} at_s @returns {Span | undefined} */
  spanAt(at_s) {
    const before = this.spans[firstAfter(this.spans, at_s) - 1];
    return before && at_s <= before.end_s ? before : undefined;
  }

  /** @param {number} from_s @param {number} to_s @returns {Span[]} */
  spansIn(from_s, to_s) {
    return this.spans.filter((span) => span.end_s > from_s && span.start_s < to_s);
  }

  /**
   * Runs of columns without gaps between them; where there are more points than fit, columns are
   * means of neighbours.
   * @param {number} from_s @param {number} to_s @param {number} most columns altogether
   * @param {string[]} [labels] given: by frames instead of points, where there are frames
   * @returns {Column[][]}
   */
  columns(from_s, to_s, most, labels) {
    const before = Math.max(0, firstAfter(this.points, from_s) - 1);
    const seen = this.points.slice(before, firstAfter(this.points, to_s));
    return inRuns(labels ? seen.flatMap((point) => (point.frames ? framesOf(point, labels) : [point])) : seen, most);
  }
}

/** @param {Column[]} points @param {number} most @returns {Column[][]} */
function inRuns(points, most) {
  const size = Math.max(1, Math.ceil(points.length / most));
  /** @type {Column[][]} */
  const runs = [];
  /** @type {Column[]} */
  let bin = [];
  /** @type {Column[]} */
  let run = [];
  const closeBin = () => {
    if (bin.length > 0) run.push(bin.length === 1 ? bin[0] : mean(bin));
    bin = [];
  };
  points.forEach((point, index) => {
    if (index > 0 && point.start_s - points[index - 1].end_s > JOINT_S) {
      closeBin();
      runs.push(run);
      run = [];
    }
    bin.push(point);
    if (bin.length >= size) closeBin();
  });
  closeBin();
  if (run.length > 0) runs.push(run);
  return runs;
}

/** @param {Column} point with frames @param {string[]} labels @returns {Column[]} */
function framesOf({ frames }, labels) {
  const hop_s = frames.hop_samples / SAMPLES_A_S;
  return frames.start_samples.map((/** @type {number} */ start, /** @type {number} */ index) => {
    const posteriors = frames.posteriors[index];
    const label = frames.labels[index];
    const start_s = start / SAMPLES_A_S;
    return { start_s, end_s: start_s + hop_s, posteriors, label, confidence: posteriors[labels.indexOf(label)] ?? 0, speech_share: 1 };
  });
}

export class Timeline {
  /** @param {import("../../shell/types.js").StreamChannel[]} channels @param {string[]} labels in the order of posteriors */
  constructor(channels, labels) {
    this.labels = labels;
    this.channels = new Map(inOrder(channels).map((spec) => [spec.index, new ChannelTimeline(spec)]));
    this.last_seq = -1;
    this.end_s = 0;
    this.closed = false;
    /** @type {Map<string, Alert>} */
    this.alerts = new Map();
    /** @type {{name: string, at_s: number}[]} */
    this.marks = [];
    /** @type {{code: string, message: string, at_s: number, channel: number | null}[]} */
    this.warnings = [];
    /** @type {import("../../shell/measures.js").Measures | null} the latest */
    this.measures = null;
  }

  /** Whether a channel has the 20 ms frames of its points. */
  get has_frames() {
    return [...this.channels.values()].some((channel) => channel.has_frames);
  }

  /** Results that are known already are left out. @param {any[]} results in order of `seq` */
  take(results) {
    for (const result of results) {
      if (result.seq <= this.last_seq) continue;
      this.last_seq = result.seq;
      this.#take(result);
    }
  }

  /** @param {any} result */
  #take(result) {
    const channel = this.channels.get(result.channel);
    if (typeof result.end_s === "number") this.end_s = Math.max(this.end_s, result.end_s);
    if (typeof result.at_s === "number") this.end_s = Math.max(this.end_s, result.at_s);
    if (result.type === "point") channel?.addPoint(result);
    else if (result.type === "segment" || result.type === "gap") channel?.addSpan(result);
    else if (result.type === "alert") this.#takeAlert(result);
    else if (result.type === "marked") this.marks.push(result);
    else if (result.type === "warning") this.warnings.push(result);
    else if (result.type === "measures") this.measures = result;
    else if (result.type === "consent") this.consent = result;
    else if (result.type === "summary") this.#takeSummary(result);
    else if (result.type === "stream_closed") this.closed = true;
  }

  /** @param {any} summary */
  #takeSummary(summary) {
    this.end_s = Math.max(this.end_s, summary.duration_s);
    this.measures = summary.measures ?? this.measures;
    for (const { channel, whole } of summary.channels) {
      const known = this.channels.get(channel);
      if (known) known.whole = whole ?? null;
    }
  }

  /** @param {any} result */
  #takeAlert(result) {
    const known = this.alerts.get(result.alert_id);
    if (result.state === "raised") this.alerts.set(result.alert_id, { ...result, cleared_s: null });
    else if (known) this.alerts.set(result.alert_id, { ...known, cleared_s: result.at_s });
  }
}

/** @param {{start_s: number}[]} items by start @param {number} at_s @returns {number} index of the first that starts later */
function firstAfter(items, at_s) {
  let low = 0;
  let high = items.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (items[middle].start_s > at_s) high = middle;
    else low = middle + 1;
  }
  return low;
}

/** @param {Column[]} columns neighbours @returns {Column} */
function mean(columns) {
  const posteriors = columns[0].posteriors.map((_, index) => average(columns, (column) => column.posteriors[index]));
  const middle = columns[columns.length >> 1];
  return {
    start_s: columns[0].start_s,
    end_s: columns[columns.length - 1].end_s,
    posteriors,
    label: middle.label,
    confidence: average(columns, (column) => column.confidence),
    speech_share: average(columns, (column) => column.speech_share),
  };
}

/** @param {Column[]} columns @param {(column: Column) => number} value */
function average(columns, value) {
  return columns.reduce((sum, column) => sum + value(column), 0) / columns.length;
}
