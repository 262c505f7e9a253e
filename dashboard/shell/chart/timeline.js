/**
 * What is known of one stream or file, fed with results. Pure: no elements, no chart.
 *
 * Points are kept in flat arrays, for a stream may last hours; what is drawn is cut out of them by
 * {@link ChannelTimeline.columns}.
 *
 * @typedef {import("../types.js").Span} Span
 * @typedef {{start_s: number, end_s: number, posteriors: number[], label: string, confidence: number, speech_share: number, speaker?: string, frames?: any}} Column
 * @typedef {{start_s: number, end_s: number, speaker: string | null}} Turn  null: somebody who is left out
 * @typedef {{alert_id: string, stream_id: string, rule: string, severity: string, channel: number, labels: string[], posterior: number, since_s: number, at_s: number, cleared_s: number | null}} Alert
 */

import { inOrder } from "../names.js";

/** Points further apart than this are not joined. */
const JOINT_S = 0.05;
const SAMPLES_A_S = 16_000;

export class ChannelTimeline {
  /** @param {import("../types.js").StreamChannel} spec */
  constructor(spec) {
    this.spec = spec;
    /** @type {Column[]} */
    this.points = [];
    /** @type {Span[]} segments and gaps by start */
    this.spans = [];
    /** @type {Map<string, number>} place in `spans` */
    this.places = new Map();
    this.has_frames = false;
    /** Points are pieces of a recording, each with one result. */
    this.is_stepped = false;
    /** @type {{from_s: number, to_s: number, points: Column[]} | null} a part read again, finer */
    this.finer = null;
    /** @type {import("../whole.js").Whole | null} of a stream that has ended with a summary */
    this.whole = null;
    /** @type {Record<string, string>} what people call its speakers, by their names in results */
    this.names = {};
    /** @type {Record<string, string>} speakers that turned out to be another one, and who that is */
    this.same_as = {};
    /** @type {Turn[]} of a recording, by start; a stream's are in its spans */
    this.turns = [];
    /** @type {string[]} in the order they first spoke */
    this.speakers = [];
    this.leaves_out = false;
  }

  /** @param {Turn[]} turns of a recording, by start */
  setTurns(turns) {
    this.turns = turns;
    for (const { speaker } of turns) this.#heard(speaker);
  }

  /** @param {string | null | undefined} speaker */
  #heard(speaker) {
    if (speaker && !this.speakers.includes(speaker)) this.speakers.push(speaker);
  }

  /** @param {import("../types.js").Point} point */
  addPoint(point) {
    const { start_s, end_s, posteriors, label, confidence, speech_share, speaker, frames } = point;
    this.points.push({ start_s, end_s, posteriors, label, confidence, speech_share, speaker, frames: frames ?? undefined });
    this.#heard(speaker);
    this.has_frames ||= Boolean(frames);
  }

  /** A later one with the same start replaces an interim one. @param {Span} span */
  addSpan(span) {
    this.#heard(span.speaker);
    this.leaves_out ||= span.reason === "left_out";
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

  /** @param {number} from_s @param {number} to_s @returns {Span[]} by start */
  spansIn(from_s, to_s) {
    return this.spans.filter((span) => span.end_s > from_s && span.start_s < to_s);
  }

  /**
   * As {@link spansIn}, and while a stream runs with what its newest points say: a segment is told
   * of later than the points it is made of.
   * @param {number} from_s @param {number} to_s @returns {Span[]}
   */
  shownIn(from_s, to_s) {
    const spans = this.spansIn(from_s, to_s);
    const last = this.spans[this.spans.length - 1];
    const end_s = last?.end_s ?? 0;
    for (let at = firstAfter(this.points, end_s - JOINT_S); at < this.points.length; at += 1) {
      const { start_s, end_s: to, label, confidence, speaker } = this.points[at];
      if (to <= end_s || start_s >= to_s) continue;
      const before = spans[spans.length - 1];
      if (before?.type === "segment" && before.label === label && before.speaker === speaker && start_s - before.end_s < JOINT_S) spans[spans.length - 1] = { ...before, end_s: to };
      else spans.push({ type: "segment", seq: -1, channel: this.spec.index, start_s: Math.max(start_s, end_s), end_s: to, label, confidence, speaker, final: false });
    }
    return spans;
  }

  /**
   * Who speaks when, by start; what belongs to one speaker and lies closer together than `joint_s` is one.
   * @param {number} from_s @param {number} to_s @param {number} joint_s @returns {Turn[]}
   */
  turnsIn(from_s, to_s, joint_s) {
    const said = (/** @type {Span} */ span) => (span.reason === "left_out" ? null : span.speaker);
    const all = this.turns.length > 0
      ? this.turns.filter((turn) => turn.end_s > from_s && turn.start_s < to_s)
      : this.shownIn(from_s, to_s).flatMap((span) => (said(span) === undefined ? [] : [{ start_s: span.start_s, end_s: span.end_s, speaker: /** @type {string | null} */ (said(span)) }]));
    /** @type {Map<string | null, Turn>} */
    const last = new Map();
    /** @type {Turn[]} */
    const joined = [];
    for (const turn of all) {
      const before = last.get(turn.speaker);
      if (before && turn.start_s - before.end_s <= joint_s) before.end_s = Math.max(before.end_s, turn.end_s);
      else {
        const own = { ...turn };
        last.set(turn.speaker, own);
        joined.push(own);
      }
    }
    return joined;
  }

  /** Who speaks in a part, in the order they begin. @param {number} from_s @param {number} to_s @returns {string[]} */
  speakersIn(from_s, to_s) {
    const heard = this.turnsIn(from_s, to_s, 0).filter(({ start_s, end_s }) => Math.min(end_s, to_s) - Math.max(start_s, from_s) > JOINT_S);
    return [...new Set(heard.flatMap(({ speaker }) => speaker ?? []))];
  }

  /** @param {number} from_s @param {number} to_s @returns {Column[]} the finest there are */
  pointsIn(from_s, to_s) {
    const { finer } = this;
    const points = finer && finer.from_s <= from_s && finer.to_s >= to_s ? finer.points : this.points;
    return points.slice(Math.max(0, firstAfter(points, from_s) - 1), firstAfter(points, to_s)).filter((point) => point.end_s > from_s);
  }

  /**
   * Runs of columns without gaps between them: the 20 ms frames where there are some and no more than
   * `most_frames` of them, else points; where there are more than fit, columns are means of neighbours.
   * @param {number} from_s @param {number} to_s @param {number} most columns altogether
   * @param {number} most_frames @param {string[]} labels
   * @returns {Column[][]}
   */
  columns(from_s, to_s, most, most_frames, labels) {
    const seen = this.pointsIn(from_s, to_s);
    if (this.has_frames) {
      const frames = seen.reduce((sum, { frames: one }) => sum + (one?.start_samples.length ?? 0), 0);
      if (frames > 0 && frames <= 2 * most_frames) return inRuns(seen.flatMap((point) => (point.frames ? framesOf(point, labels) : [point])), Infinity);
    }
    return inRuns(seen, this.finer ? Math.max(most, Math.min(seen.length, 2 * most_frames)) : most);
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
  /** @param {import("../types.js").StreamChannel[]} channels @param {string[]} labels in the order of posteriors */
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
    /** @type {import("../measures.js").Measures | null} the latest */
    this.measures = null;
    /** @type {{finest_s: number, most: number, read: (channel: number, from_s: number, to_s: number) => Promise<Column[]>} | null} reads points again that were averaged, `most` of them at once */
    this.source = null;
  }

  /**
   * Whether a part has been read as finely as it is kept, or there is nothing finer.
   * @param {number} from_s @param {number} to_s
   */
  isFine(from_s, to_s) {
    const { source } = this;
    if (source === null || (to_s - from_s) / source.finest_s > source.most) return true;
    return [...this.channels.values()].every(({ finer }) => finer !== null && finer.from_s <= from_s && finer.to_s >= to_s);
  }

  /** Read a part again, with as much around it as one answer holds. @param {number} from_s @param {number} to_s */
  async refine(from_s, to_s) {
    const { source, channels, end_s } = this;
    if (source === null) return;
    const spare_s = (source.most * source.finest_s - (to_s - from_s)) / 2;
    const [start_s, stop_s] = [Math.max(0, from_s - spare_s), Math.min(end_s, to_s + spare_s)];
    await Promise.all([...channels.values()].map(async (channel) => {
      const points = await source.read(channel.spec.index, start_s, stop_s);
      // What is asked for beyond the ends is not there either.
      channel.finer = { from_s: start_s === 0 ? -Infinity : start_s, to_s: stop_s === end_s ? Infinity : stop_s, points };
    }));
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
    else if (result.type === "measures") this.#takeMeasures(result);
    else if (result.type === "consent") this.consent = result;
    else if (result.type === "summary") this.#takeSummary(result);
    else if (result.type === "stream_closed") this.closed = true;
  }

  /** @param {any} measures */
  #takeMeasures(measures) {
    this.measures = measures;
    for (const { channel, speakers } of measures.channels) {
      const known = this.channels.get(channel);
      if (known && speakers) known.same_as = Object.fromEntries(speakers.filter(({ same_as }) => same_as).map(({ name, same_as }) => [name, same_as]));
    }
  }

  /** @param {any} summary */
  #takeSummary(summary) {
    this.end_s = Math.max(this.end_s, summary.duration_s);
    if (summary.measures) this.#takeMeasures(summary.measures);
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
