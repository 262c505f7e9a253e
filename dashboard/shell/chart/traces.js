/** Plotly's traces of one channel. */
import { colourOf, inkOf, STACK_ORDER, strengthOf, tint } from "../palette.js";
import { BINS, FLOOR_DB, TOP_HZ } from "./sound.js";
import { blocksOf, NARROW_PX, QUIET, textWidth } from "./spans.js";

const MOST_COLUMNS = 480;
/** Frames are drawn each by itself: at 20 ms these are 20 s. */
export const MOST_FRAMES = 1000;
const PX_A_WAVE_COLUMN = 1.5;
const PX_A_SPECTRUM_COLUMN = 3;
const CEILING_DB = -20;

/**
 * @typedef {object} Look
 * @property {"area" | "lines" | "heatmap"} kind
 * @property {number} from_s
 * @property {number} to_s
 * @property {number} px_a_s
 * @property {import("./sound.js").Sound | null} sound
 * @property {string} surface  colours, resolved
 * @property {string} ink
 * @property {string} muted
 * @property {string} faint
 * @property {string} accent
 * @property {(name: string | null) => string} label
 * @property {(reason: string) => string} reason
 * @property {(channel: import("./timeline.js").ChannelTimeline, speaker: string | null) => string} track
 */

/**
 * @param {import("./layout.js").Row} row @param {string[]} labels in the order of posteriors
 * @param {Look} look
 */
export function tracesOf(row, labels, look) {
  // Half a window more on both sides, so that there is something to pan to.
  const beyond_s = (look.to_s - look.from_s) / 2;
  const [from_s, to_s] = [look.from_s - beyond_s, look.to_s + beyond_s];
  const runs = row.channel.columns(from_s, to_s, MOST_COLUMNS, MOST_FRAMES, labels);
  const run = runs.find((each) => each.length > 2);
  if (run) row.grain_s = run[1].end_s - run[1].start_s;
  const blocks = blocksOf(row.channel.shownIn(from_s, to_s), NARROW_PX / look.px_a_s);
  const gaps = blocks.filter((block) => block.reason !== null);
  const said = blocks.filter((block) => block.label !== null);
  const unclear = blocks.filter((block) => block.reason === null && block.label === null);
  const isHeatmap = look.kind === "heatmap";
  const scores = isHeatmap ? [heatmap(row, labels, runs, look)] : look.kind === "lines" ? lines(row, labels, runs, look) : areas(row, labels, runs, look);
  // Aggregated columns have their scores, gaps among them or not.
  const holes = gaps.filter((gap) => gap.low === 0 && gap.high === 1);
  return [...scores, gapBlocks(row, holes, isHeatmap ? labels.length : 1, look), ribbon(row, said, look), ribbonUnclear(row, unclear, look), ribbonGaps(row, gaps, look), ...who(row, from_s, to_s, look), ...strip(row, runs, look), ...audio(row, look)];
}

/** @param {string[]} labels @returns {number[]} indices from the bottom of the stack */
export function stackOrder(labels) {
  const place = (label) => (STACK_ORDER.includes(label) ? STACK_ORDER.indexOf(label) : STACK_ORDER.length);
  return labels.map((_, index) => index).sort((a, b) => place(labels[a]) - place(labels[b]));
}

/** @param {import("./timeline.js").Column[][]} runs @param {Look} look */
function areas(row, labels, runs, look) {
  const hair_s = 1e-4;
  const x = [];
  /** @type {(import("./timeline.js").Column | null)[]} null: nothing there */
  const columns = [];
  const put = (at_s, column) => {
    x.push(at_s);
    columns.push(column);
  };
  for (const run of runs) {
    const last = run[run.length - 1];
    put(run[0].start_s - hair_s, null);
    put(run[0].start_s, run[0]);
    for (const column of run) {
      // A piece has one result from its start to its end, not a slope to the next one.
      if (row.channel.is_stepped) put(column.start_s, column);
      put(row.channel.is_stepped ? column.end_s : (column.start_s + column.end_s) / 2, column);
    }
    put(last.end_s, last);
    put(last.end_s + hair_s, null);
  }
  return stackOrder(labels).map((index) => ({
    type: "scatter",
    mode: "lines",
    x,
    y: columns.map((column) => column?.posteriors[index] ?? 0),
    yaxis: row.scores,
    stackgroup: row.scores,
    line: { width: 0 },
    fillcolor: tint(labels[index], 0.88),
    hoverinfo: "skip",
    name: look.label(labels[index]),
  }));
}

/**
 * Each emotion as a line of its own, against which thresholds can be read.
 * @param {import("./timeline.js").Column[][]} runs @param {Look} look
 */
function lines(row, labels, runs, look) {
  return stackOrder(labels).map((index) => ({
    type: "scatter",
    mode: "lines",
    x: runs.flatMap((run) => [...run.map((column) => (column.start_s + column.end_s) / 2), run[run.length - 1].end_s, null]),
    y: runs.flatMap((run) => [...run.map((column) => column.posteriors[index]), run[run.length - 1].posteriors[index], null]),
    yaxis: row.scores,
    connectgaps: false,
    line: { width: 2, color: colourOf(labels[index]) },
    hoverinfo: "skip",
    name: look.label(labels[index]),
  }));
}

/**
 * One heatmap whose colour scale has a ramp for each emotion: row i holds i + posterior.
 * @param {import("./timeline.js").Column[][]} runs
 */
function heatmap(row, labels, runs, look) {
  const order = stackOrder(labels).reverse(); // the strong ones at the top
  const x = [];
  const z = order.map(() => /** @type {(number | null)[]} */ ([]));
  runs.forEach((run, at) => {
    for (const column of run) {
      x.push(column.start_s);
      order.forEach((index, place) => z[place].push(place + 0.998 * column.posteriors[index] + 0.001));
    }
    const last = run[run.length - 1];
    x.push(last.end_s);
    if (at < runs.length - 1) z.forEach((values) => values.push(null));
  });
  const rows = order.length;
  const colorscale = order.flatMap((index, place) => [
    [place / rows, look.surface],
    [(place + 0.999) / rows, colourOf(labels[index])],
  ]);
  colorscale.push([1, colourOf(labels[order[rows - 1]])]);
  return { type: "heatmap", x, y: [...Array(rows + 1).keys()], z, zmin: 0, zmax: rows, colorscale, showscale: false, yaxis: row.scores, hoverinfo: "skip" };
}

function gapBlocks(row, gaps, tall, look) {
  return {
    type: "bar",
    x: gaps.map((gap) => (gap.start_s + gap.end_s) / 2),
    width: gaps.map((gap) => gap.end_s - gap.start_s),
    y: gaps.map(() => tall),
    yaxis: row.scores,
    hoverinfo: "skip",
    marker: { color: look.surface, line: { width: 0 }, pattern: lossPattern(gaps, look) },
  };
}

/** Who speaks when, a line each: their place tells them apart. Who is left out is an outline. @param {Look} look */
function who(row, from_s, to_s, look) {
  if (!row.who) return [];
  // What lies within a pixel cannot be told apart.
  const px_s = 1 / look.px_a_s;
  const turns = row.channel.turnsIn(from_s, to_s, Math.max(px_s, 0.05));
  return [
    {
      type: "bar",
      orientation: "h",
      base: turns.map((turn) => turn.start_s),
      x: turns.map((turn) => Math.max(turn.end_s - turn.start_s, px_s)),
      y: turns.map((turn) => row.tracks.indexOf(look.track(row.channel, turn.speaker))),
      width: turns.map(() => 0.6),
      yaxis: row.who,
      hoverinfo: "skip",
      marker: { color: turns.map((turn) => (turn.speaker === null ? look.surface : look.muted)), line: { width: turns.map((turn) => (turn.speaker === null ? 1 : 0)), color: look.muted } },
    },
  ];
}

/** Segments that say something; see {@link ribbonUnclear} for the others. */
function ribbon(row, blocks, look) {
  return {
    ...ribbonBars(row, blocks, (block) => look.label(block.label), look),
    insidetextfont: { color: blocks.map((block) => (block.confidence > 0.5 ? inkOf(block.label) : look.ink)), size: 12 },
    marker: {
      color: blocks.map((block) => colourOf(block.label)),
      opacity: blocks.map((block) => strengthOf(block.confidence)),
      // Between columns lines would be all there is.
      line: { width: blocks.map((block) => (isWhole(block) ? 1 : 0)), color: look.surface },
    },
  };
}

/** Speech without a label: hatched everywhere, and nothing else is hatched so. */
function ribbonUnclear(row, blocks, look) {
  return {
    ...ribbonBars(row, blocks, () => look.label(null), look),
    insidetextfont: { color: look.ink, size: 12 },
    marker: { color: look.surface, line: { width: 0 }, pattern: { shape: "/", fgcolor: colourOf(null), bgcolor: look.surface, size: 7, solidity: 0.2 } },
  };
}

function ribbonGaps(row, blocks, look) {
  return {
    ...ribbonBars(row, blocks, (block) => look.reason(block.reason ?? ""), look),
    insidetextfont: { color: look.ink, size: 11 },
    marker: { color: look.surface, line: { width: 0 }, pattern: lossPattern(blocks, look) },
  };
}

/** @param {import("./spans.js").Block} block */
function isWhole({ low, high }) {
  return low === 0 && high === 1;
}

/** @param {import("./spans.js").Block[]} blocks @param {(block: import("./spans.js").Block) => string} word @param {Look} look */
function ribbonBars(row, blocks, word, look) {
  return {
    type: "bar",
    orientation: "h",
    base: blocks.map((block) => block.start_s),
    x: blocks.map((block) => block.end_s - block.start_s),
    y: blocks.map((block) => (block.low + block.high) / 2),
    width: blocks.map((block) => block.high - block.low),
    yaxis: row.ribbon,
    text: blocks.map((block) => (isWhole(block) ? fitting(block, word(block), look) : "")),
    textposition: "inside",
    constraintext: "none",
    insidetextanchor: "middle",
    textangle: 0,
    hoverinfo: "skip",
  };
}

/** Silence is absence; a gap of another reason is a loss, and crossed out. */
function lossPattern(gaps, look) {
  return { shape: gaps.map((gap) => (QUIET.has(gap.reason) ? "" : "x")), fgcolor: look.faint, bgcolor: look.surface, size: 7, solidity: 0.15 };
}

/** A word where there is room for it: rather none than a tiny one. @param {Look} look */
function fitting(span, word, look) {
  return (Math.min(span.end_s, look.to_s) - Math.max(span.start_s, look.from_s)) * look.px_a_s > textWidth(word) ? word : "";
}

/** @param {import("./timeline.js").Column[][]} runs */
function strip(row, runs, look) {
  const x = [];
  const speech = [];
  const confidence = [];
  for (const run of runs) {
    for (const column of run) {
      x.push(column.start_s);
      speech.push(column.speech_share);
      confidence.push(column.confidence);
    }
    // An area goes on over missing values, so it is brought down to nothing.
    const last = run[run.length - 1];
    x.push(last.end_s, last.end_s);
    speech.push(0, 0);
    confidence.push(last.confidence, null);
  }
  const common = { type: "scatter", mode: "lines", x, yaxis: row.strip, hoverinfo: "skip", connectgaps: false };
  return [
    { ...common, y: speech, line: { width: 0, shape: "hv" }, fill: "tozeroy", fillcolor: look.faint },
    { ...common, y: confidence, line: { width: 1.5, color: look.accent, shape: "hv" } },
  ];
}

/** The envelope, as the area between its two sides, and the spectrogram. @param {Look} look */
function audio(row, look) {
  const samples = look.sound?.channels.get(row.channel.spec.index);
  if (!samples) return [];
  const traces = [];
  const px = (look.to_s - look.from_s) * look.px_a_s;
  if (row.wave) {
    const { at_s, low, high } = samples.envelope(look.from_s, look.to_s, Math.ceil(px / PX_A_WAVE_COLUMN));
    const common = { type: "scatter", mode: "lines", x: at_s, yaxis: row.wave, hoverinfo: "skip", line: { width: 1, color: look.accent } };
    traces.push({ ...common, y: low }, { ...common, y: high, fill: "tonexty", fillcolor: look.accent });
  }
  if (row.spectrum) {
    const { at_s, levels } = samples.spectrogram(look.from_s, look.to_s, Math.ceil(px / PX_A_SPECTRUM_COLUMN));
    const y = Array.from({ length: BINS }, (_, bin) => ((bin + 0.5) * TOP_HZ) / BINS / 1000);
    const colorscale = [[0, look.surface], [1, look.ink]];
    if (at_s.length > 1) traces.push({ type: "heatmap", x: at_s, y, z: levels, zmin: FLOOR_DB, zmax: CEILING_DB, colorscale, showscale: false, yaxis: row.spectrum, hoverinfo: "skip" });
  }
  return traces;
}
