/**
 * Where things stand in the figure: for each channel who speaks, if that is known, a ribbon of labels,
 * the posteriors, a strip of speech and confidence, and what is shown of its audio, one under the other on one time axis.
 *
 * @typedef {object} Row
 * @property {import("./timeline.js").ChannelTimeline} channel
 * @property {string} ribbon  id of its y axis, e.g. `y2`
 * @property {string} [who]  where its speakers were told apart
 * @property {string[]} tracks  who speaks, from top to bottom: a line of `who` each
 * @property {string} scores
 * @property {string} strip
 * @property {string} [wave]
 * @property {string} [spectrum]
 * @property {number} [grain_s]  length of a column of scores, once they are drawn
 * @property {Record<string, [number, number]>} domains  by those names, and `title`
 */

const TITLE_PX = 26;
const SPACE_PX = 5;
const OFF_PX = 30;
const ROW_SPACE_PX = 10;
const TRACK_PX = 15;
const LANES_PX = { ribbon: 24, strip: 26, wave: 48, spectrum: 96 };
const SCORES_PX = { one: 232, more: 152 };
export const MARGIN = { top: 4, bottom: 30, right: 12 };

/**
 * @param {import("./timeline.js").ChannelTimeline[]} channels from top to bottom
 * @param {("wave" | "spectrum")[]} layers of the audio that are shown
 * @param {(channel: import("./timeline.js").ChannelTimeline) => string[]} tracksOf see {@link Row}
 * @returns {{rows: Row[], off: {channel: import("./timeline.js").ChannelTimeline, middle: number}[], height_px: number}}
 */
export function layRows(channels, layers, tracksOf) {
  const analysed = (channel) => channel.spec.analysed;
  const scores_px = channels.filter(analysed).length > 1 ? SCORES_PX.more : SCORES_PX.one;
  const plans = new Map(channels.filter(analysed).map((channel) => {
    const tracks = tracksOf(channel);
    const lanes = [...(tracks.length > 0 ? ["who"] : []), "ribbon", "scores", "strip", ...layers];
    const height_of = (lane) => (lane === "scores" ? scores_px : lane === "who" ? tracks.length * TRACK_PX : LANES_PX[lane]);
    const full = TITLE_PX + lanes.reduce((sum, lane) => sum + height_of(lane) + SPACE_PX, 0) - SPACE_PX + ROW_SPACE_PX;
    return [channel, { tracks, lanes, height_of, full }];
  }));
  const plot_px = channels.reduce((sum, channel) => sum + (plans.get(channel)?.full ?? OFF_PX), 0);
  const span = (from_px, to_px) => /** @type {[number, number]} */ ([Math.max(0, 1 - to_px / plot_px), 1 - from_px / plot_px]);
  let top_px = 0;
  let axes = 0;
  /** @type {Row[]} */
  const rows = [];
  const off = [];
  for (const channel of channels) {
    const plan = plans.get(channel);
    if (plan === undefined) {
      off.push({ channel, middle: 1 - (top_px + OFF_PX / 2) / plot_px });
      top_px += OFF_PX;
      continue;
    }
    const { tracks, lanes, height_of, full } = plan;
    const row = /** @type {any} */ ({ channel, tracks, domains: { title: span(top_px, top_px + TITLE_PX) } });
    let lane_px = top_px + TITLE_PX;
    lanes.forEach((lane) => {
      axes += 1;
      row[lane] = axes === 1 ? "y" : `y${axes}`;
      row.domains[lane] = span(lane_px, lane_px + height_of(lane));
      lane_px += height_of(lane) + SPACE_PX;
    });
    // What hangs from the row reaches to its end.
    row.domains.foot = row.domains[lanes[lanes.length - 1]];
    rows.push(row);
    top_px += full;
  }
  return { rows, off, height_px: plot_px + MARGIN.top + MARGIN.bottom };
}

/** @param {string} axis `y2` @returns {string} `yaxis2` */
export function axisName(axis) {
  return axis.replace("y", "yaxis");
}

const STEPS_S = [0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600];

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
