/**
 * Where things stand in the figure: for each channel a ribbon of labels, the posteriors, and a
 * strip of speech and confidence, one under the other on one time axis.
 *
 * @typedef {object} Row
 * @property {import("./timeline.js").ChannelTimeline} channel
 * @property {string} ribbon  id of its y axis, e.g. `y2`
 * @property {string} scores
 * @property {string} strip
 * @property {Record<"title" | "ribbon" | "scores" | "strip", [number, number]>} domains
 */

const TITLE_PX = 26;
const RIBBON_PX = 24;
const SCORES_PX = { one: 232, more: 152 };
const STRIP_PX = 26;
const SPACE_PX = 5;
const OFF_PX = 30;
const ROW_SPACE_PX = 10;
export const MARGIN = { top: 4, bottom: 30, right: 12 };

/**
 * @param {import("./timeline.js").ChannelTimeline[]} channels from top to bottom
 * @returns {{rows: Row[], off: {channel: import("./timeline.js").ChannelTimeline, middle: number}[], height_px: number}}
 */
export function layRows(channels) {
  const analysed = (channel) => channel.spec.analysed;
  const scores_height_px = channels.filter(analysed).length > 1 ? SCORES_PX.more : SCORES_PX.one;
  const full = TITLE_PX + RIBBON_PX + scores_height_px + STRIP_PX + 2 * SPACE_PX + ROW_SPACE_PX;
  const plot_px = channels.reduce((sum, channel) => sum + (analysed(channel) ? full : OFF_PX), 0);
  let top_px = 0;
  const span = (from_px, to_px) => /** @type {[number, number]} */ ([Math.max(0, 1 - to_px / plot_px), 1 - from_px / plot_px]);
  /** @type {Row[]} */
  const rows = [];
  const off = [];
  for (const channel of channels) {
    if (!analysed(channel)) {
      off.push({ channel, middle: 1 - (top_px + OFF_PX / 2) / plot_px });
      top_px += OFF_PX;
      continue;
    }
    const first = 3 * rows.length + 1;
    const axis = (offset) => (first + offset === 1 ? "y" : `y${first + offset}`);
    const ribbon_px = top_px + TITLE_PX;
    const scores_px = ribbon_px + RIBBON_PX + SPACE_PX;
    const strip_px = scores_px + scores_height_px + SPACE_PX;
    rows.push({
      channel,
      ribbon: axis(0),
      scores: axis(1),
      strip: axis(2),
      domains: {
        title: span(top_px, ribbon_px),
        ribbon: span(ribbon_px, ribbon_px + RIBBON_PX),
        scores: span(scores_px, scores_px + scores_height_px),
        strip: span(strip_px, strip_px + STRIP_PX),
      },
    });
    top_px += full;
  }
  return { rows, off, height_px: plot_px + MARGIN.top + MARGIN.bottom };
}

/** @param {string} axis `y2` @returns {string} `yaxis2` */
export function axisName(axis) {
  return axis.replace("y", "yaxis");
}

const STEPS_S = [0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600];

/**
 * Round places for the ticks of the time axis.
 * @param {number} from_s @param {number} to_s @param {number} most
 * @returns {{step_s: number, at_s: number[]}}
 */
export function ticks(from_s, to_s, most) {
  const step_s = STEPS_S.find((step) => (to_s - from_s) / step <= most) ?? 7200;
  const at_s = [];
  for (let index = Math.max(0, Math.ceil(from_s / step_s)); index * step_s <= to_s; index += 1) at_s.push(index * step_s);
  return { step_s, at_s };
}
