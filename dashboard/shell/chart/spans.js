/**
 * Segments and gaps as they are drawn and measured. Pure: no elements.
 *
 * Where the picture is too small for single spans, each column of pixels shows what it is made of:
 * a short outburst in an hour of calm stays a visible part of its column.
 *
 * @typedef {import("../types.js").Span} Span
 * @typedef {{start_s: number, end_s: number, low: number, high: number, label: string | null, reason: string | null, confidence: number}} Block
 *   a rectangle of the ribbon, `low` and `high` of its height from 0 to 1; `reason`: of a gap
 * @typedef {{speech_s: number, gap_s: number, shares: {label: string | null, seconds: number}[], means: number[] | null}} Measured
 */
import { STACK_ORDER } from "../palette.js";

/** Spans that are narrower are shown in columns, px. */
export const NARROW_PX = 4;
/** What stands out takes at least this part of its column. */
const LEAST_SHARE = 0.3;
/** Gaps that are no loss: absence, and nothing to see in a column. */
export const QUIET = new Set(["silence", "tone", "music", "too_short", "left_out"]);
/** Everyday labels need not stand out. */
const CALM = new Set(["neutral", "unknown", "other"]);

/**
 * @param {Span[]} spans by start, without overlaps
 * @param {number} column_s length of {@link NARROW_PX}
 * @returns {Block[]} the narrow ones last: drawn over their neighbours
 */
export function blocksOf(spans, column_s) {
  /** @type {Block[]} */
  const wide = [];
  /** @type {Block[]} */
  const narrow = [];
  /** @type {Span[]} narrow neighbours */
  let run = [];
  const close = () => {
    if (run.length > 0) narrow.push(...columnsOf(run, column_s));
    run = [];
  };
  for (const span of spans) {
    if (span.end_s - span.start_s < column_s) {
      // A hole in between, of whatever length, is not made of the spans beside it.
      if (run.length > 0 && span.start_s - run[run.length - 1].end_s > column_s) close();
      run.push(span);
    } else {
      close();
      wide.push(blockOf(span, 0, 1));
    }
  }
  close();
  return [...wide, ...narrow];
}

/** @param {Span} span @param {number} low @param {number} high @returns {Block} */
function blockOf({ type, start_s, end_s, label, reason, confidence }, low, high) {
  const isGap = type === "gap";
  return { start_s, end_s, low, high, label: isGap ? null : (label ?? null), reason: isGap ? (reason ?? "") : null, confidence: confidence ?? 0 };
}

/** @param {Span[]} run @param {number} column_s @returns {Block[]} */
function columnsOf(run, column_s) {
  const start_s = run[0].start_s;
  const count = Math.max(1, Math.round((run[run.length - 1].end_s - start_s) / column_s));
  const width_s = (run[run.length - 1].end_s - start_s) / count;
  /** @type {Block[]} */
  const blocks = [];
  let from = 0;
  for (let index = 0; index < count; index += 1) {
    const left_s = start_s + index * width_s;
    const right_s = left_s + width_s;
    while (from < run.length - 1 && run[from].end_s <= left_s) from += 1;
    /** @type {Map<string, {span: Span, seconds: number}>} */
    const parts = new Map();
    for (let at = from; at < run.length && run[at].start_s < right_s; at += 1) {
      const span = run[at];
      const seconds = Math.min(span.end_s, right_s) - Math.max(span.start_s, left_s);
      if (seconds <= 0 || (span.type === "gap" && QUIET.has(span.reason ?? ""))) continue;
      const key = span.type === "gap" ? `gap ${span.reason}` : `label ${span.label}`;
      const known = parts.get(key);
      if (known) known.seconds += seconds;
      else parts.set(key, { span, seconds });
    }
    // A single one in a hair of the picture is widened, or nobody would see it.
    const end_s = Math.max(right_s, count === 1 ? left_s + column_s / 2 : right_s);
    blocks.push(...stacked([...parts.values()], left_s, end_s, width_s));
  }
  return blocks;
}

/** @param {{span: Span, seconds: number}[]} parts of a column @returns {Block[]} */
function stacked(parts, start_s, end_s, width_s) {
  const place = ({ span }) => (span.type === "gap" ? 99 : span.label ? STACK_ORDER.indexOf(span.label) : 98);
  const shares = parts
    .sort((one, other) => place(one) - place(other))
    .map(({ span, seconds }) => {
      const standsOut = span.type === "gap" || (span.label && !CALM.has(span.label));
      return { span, share: Math.max(seconds / width_s, standsOut ? LEAST_SHARE : 0) };
    });
  const total = Math.max(1, shares.reduce((sum, { share }) => sum + share, 0));
  let low = 0;
  return shares.map(({ span, share }) => {
    const high = low + share / total;
    const block = { ...blockOf(span, low, Math.min(1, high)), start_s, end_s };
    low = high;
    return block;
  });
}

/**
 * What is said of a part of a channel: the shares of its speech by label, and the mean scores.
 * @param {import("./timeline.js").ChannelTimeline} channel @param {number} from_s @param {number} to_s
 * @returns {Measured}
 */
export function measure(channel, from_s, to_s) {
  const inside = ({ start_s, end_s }) => Math.max(0, Math.min(end_s, to_s) - Math.max(start_s, from_s));
  /** @type {Map<string | null, number>} */
  const seconds = new Map();
  let gap_s = 0;
  for (const span of channel.spansIn(from_s, to_s)) {
    if (span.type === "gap") gap_s += inside(span);
    else seconds.set(span.label ?? null, (seconds.get(span.label ?? null) ?? 0) + inside(span));
  }
  const speech_s = [...seconds.values()].reduce((sum, each) => sum + each, 0);
  const shares = [...seconds].map(([label, each]) => ({ label, seconds: each })).sort((one, other) => other.seconds - one.seconds);
  const points = channel.pointsIn(from_s, to_s).map((point) => ({ point, weight: inside(point) }));
  const weight = points.reduce((sum, each) => sum + each.weight, 0);
  const means = weight > 0 ? points[0].point.posteriors.map((_, index) => points.reduce((sum, each) => sum + each.weight * each.point.posteriors[index], 0) / weight) : null;
  return { speech_s, gap_s, shares, means };
}

/**
 * Captions that do not lie over each other: where there is no room, the one before says how many more.
 * @template {{x: number, text: string, right?: boolean}} Caption
 * @param {Caption[]} captions `x`: px; `right`: it ends there
 * @returns {(Caption & {more: number})[]}
 */
export function placed(captions) {
  /** @type {(Caption & {more: number})[]} */
  const kept = [];
  let free_px = -Infinity;
  for (const caption of [...captions].sort((one, other) => one.x - other.x)) {
    const width_px = textWidth(caption.text);
    const start_px = caption.right ? caption.x - width_px : caption.x;
    const last = kept[kept.length - 1];
    if (start_px < free_px && last !== undefined) {
      last.more += 1;
      continue;
    }
    kept.push({ ...caption, more: 0 });
    // Room for the "+12" that may follow.
    free_px = start_px + width_px + 28;
  }
  return kept;
}

/** @param {string} text @returns {number} px at 12 px, roughly, for where it is not measured */
export function textWidth(text) {
  return [...text].reduce((sum, letter) => sum + (letter.charCodeAt(0) > 0x2e80 ? 12.5 : 6.4), 4);
}
