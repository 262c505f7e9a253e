/** Plotly's traces of one channel. */
import { colourOf, inkOf, STACK_ORDER, strengthOf, tint } from "../../shell/palette.js";

const MOST_COLUMNS = 480;
const MOST_FRAMES = 1000;
/** A gap or segment narrower than this is not worth an element of its own. */
const NARROWEST_SHARE = 0.001;
/** Gaps that are no loss. */
const QUIET = new Set(["silence", "tone", "too_short"]);

/**
 * @typedef {object} Look
 * @property {"area" | "heatmap"} kind
 * @property {boolean} fine  by frames, where there are frames
 * @property {number} from_s
 * @property {number} to_s
 * @property {number} px_a_s
 * @property {string} surface  colours, resolved
 * @property {string} ink
 * @property {string} faint
 * @property {string} accent
 * @property {(name: string | null) => string} label
 * @property {(reason: string) => string} reason
 */

/**
 * @param {import("./layout.js").Row} row @param {string[]} labels in the order of posteriors
 * @param {Look} look
 */
export function tracesOf(row, labels, look) {
  // Half a window more on both sides, so that there is something to pan to.
  const beyond_s = (look.to_s - look.from_s) / 2;
  const fine = look.fine ? labels : undefined;
  const most = fine ? MOST_FRAMES : MOST_COLUMNS;
  const runs = row.channel.columns(look.from_s - beyond_s, look.to_s + beyond_s, most, fine);
  const narrowest_s = (look.to_s - look.from_s) * NARROWEST_SHARE;
  const spans = row.channel
    .spansIn(look.from_s - beyond_s, look.to_s + beyond_s)
    .filter((span) => span.end_s - span.start_s > narrowest_s);
  const gaps = spans.filter((span) => span.type === "gap");
  const segments = spans.filter((span) => span.type === "segment");
  const said = segments.filter((segment) => segment.label);
  const unclear = segments.filter((segment) => !segment.label);
  const scores = look.kind === "area" ? areas(row, labels, runs, look) : [heatmap(row, labels, runs, look)];
  const tall = look.kind === "area" ? 1 : labels.length;
  return [...scores, gapBlocks(row, gaps, tall, look), ribbon(row, said, look), ribbonUnclear(row, unclear, look), ribbonGaps(row, gaps, look), ...strip(row, runs, look)];
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
    for (const column of run) put((column.start_s + column.end_s) / 2, column);
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

/** Segments that say something; see {@link ribbonUnclear} for the others. */
function ribbon(row, segments, look) {
  return {
    ...ribbonBars(row, segments, (segment) => look.label(segment.label), look),
    insidetextfont: { color: segments.map((segment) => (segment.confidence > 0.5 ? inkOf(segment.label) : look.ink)), size: 12 },
    marker: {
      color: segments.map((segment) => colourOf(segment.label)),
      opacity: segments.map((segment) => strengthOf(segment.confidence)),
      line: { width: 1, color: look.surface },
    },
  };
}

/** Speech without a label: hatched everywhere, and nothing else is hatched so. */
function ribbonUnclear(row, segments, look) {
  return {
    ...ribbonBars(row, segments, () => look.label(null), look),
    insidetextfont: { color: look.ink, size: 12 },
    marker: { color: look.surface, line: { width: 0 }, pattern: { shape: "/", fgcolor: colourOf(null), bgcolor: look.surface, size: 7, solidity: 0.2 } },
  };
}

function ribbonGaps(row, gaps, look) {
  return {
    ...ribbonBars(row, gaps, (gap) => look.reason(gap.reason ?? ""), look),
    insidetextfont: { color: look.ink, size: 11 },
    marker: { color: look.surface, line: { width: 0 }, pattern: lossPattern(gaps, look) },
  };
}

/** @param {import("./timeline.js").Span[]} spans @param {(span: any) => string} word @param {Look} look */
function ribbonBars(row, spans, word, look) {
  return {
    type: "bar",
    orientation: "h",
    base: spans.map((span) => span.start_s),
    x: spans.map((span) => span.end_s - span.start_s),
    y: spans.map(() => 0.5),
    width: 1,
    yaxis: row.ribbon,
    text: spans.map((span) => fitting(span, word(span), look)),
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
  const wide = [...word].reduce((sum, letter) => sum + (letter.charCodeAt(0) > 0x2e80 ? 12.5 : 6.2), 4);
  return (Math.min(span.end_s, look.to_s) - Math.max(span.start_s, look.from_s)) * look.px_a_s > wide ? word : "";
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
