/** Charts of an analysis, as Plotly figures: what is shown, and what the PNG holds. */
import { colour } from "../../shell/dom.js";
import { colourOf, STACK_ORDER } from "../../shell/palette.js";

const MOST_COLUMNS = 1200; // more are less than a pixel each
const RIBBON = [0, 0.12];
const AREA = [0.17, 1];

/**
 * @param {import("../../shell/types.js").App} app
 * @param {import("./result.js").ChannelView} channel
 * @param {string} title "" for none
 */
export function figureOf(app, channel, title = "") {
  return channel.series ? timeFigure(app, channel, title) : barFigure(app, channel, title);
}

function base(title) {
  const ink = colour("--ink-2");
  return {
    title: title ? { text: title, font: { size: 15, color: colour("--ink") }, x: 0.01, xanchor: "left" } : undefined,
    paper_bgcolor: colour("--surface"),
    plot_bgcolor: colour("--surface"),
    font: { family: getComputedStyle(document.body).fontFamily, size: 12, color: ink },
    margin: { l: 48, r: 12, t: title ? 44 : 8, b: 36 },
    hoverlabel: { bgcolor: colour("--surface"), bordercolor: colour("--line-strong"), font: { color: colour("--ink") } },
    hovermode: "x unified",
    showlegend: true,
    legend: { orientation: "h", y: -0.12, traceorder: "normal" },
  };
}

function timeFigure(app, channel, title) {
  const line = colour("--line");
  const { times, values } = thinned(channel.series);
  const data = STACK_ORDER.filter((label) => values[label]).map((label) => ({
    type: "scatter",
    mode: "lines",
    name: app.label(label),
    x: times,
    y: values[label],
    stackgroup: "emotions",
    connectgaps: false,
    // A piece has one result from its start to its end.
    line: { width: 0, color: colourOf(label), shape: channel.isPieces ? "vh" : "linear" },
    fillcolor: colourOf(label),
    hovertemplate: "%{y:.0%}",
  }));
  const layout = {
    ...base(title),
    xaxis: {
      // Below the ribbon, not between it and the areas.
      anchor: "free",
      position: 0,
      range: [0, channel.durationS],
      gridcolor: line,
      zeroline: false,
      ticksuffix: "\u202fs",
      hoverformat: ".1f",
    },
    yaxis: { domain: channel.segments.length ? AREA : [0, 1], range: [0, 1], tickformat: ".0%", gridcolor: line, zeroline: false, fixedrange: true },
    shapes: channel.segments.map((segment) => ({
      type: "rect",
      yref: "paper",
      x0: segment.start_s,
      x1: segment.end_s,
      y0: RIBBON[0],
      y1: RIBBON[1],
      // Shapes cannot be hatched: what has no label is an outline.
      line: segment.label ? { width: 0 } : { width: 1, dash: "dot", color: colourOf(null) },
      fillcolor: segment.label ? colourOf(segment.label) : "rgba(0, 0, 0, 0)",
    })),
  };
  return { data, layout };
}

function barFigure(app, channel, title) {
  const labels = [...channel.labels].reverse();
  const data = [
    {
      type: "bar",
      orientation: "h",
      x: labels.map((label) => channel.overall.scores[label]),
      y: labels.map((label) => app.label(label)),
      marker: { color: labels.map(colourOf) },
      text: labels.map((label) => app.format.percent(channel.overall.scores[label])),
      textposition: "outside",
      cliponaxis: false,
      hovertemplate: "%{y} %{x:.1%}<extra></extra>",
    },
  ];
  const layout = {
    ...base(title),
    showlegend: false,
    hovermode: "closest",
    margin: { l: 96, r: 48, t: title ? 44 : 8, b: 36 },
    xaxis: { range: [0, 1], tickformat: ".0%", gridcolor: colour("--line"), zeroline: false, fixedrange: true },
    yaxis: { fixedrange: true },
  };
  return { data, layout };
}

/** Mean of neighbouring values, so that a long recording is no longer than the screen is wide. */
function thinned({ times, ends, values }) {
  const perColumn = Math.ceil(times.length / MOST_COLUMNS);
  const columns = { times: [], values: Object.fromEntries(Object.keys(values).map((label) => [label, []])) };
  const add = (time, valueOf) => {
    columns.times.push(time);
    for (const label of Object.keys(values)) columns.values[label].push(valueOf(values[label]));
  };
  let lastEnd = null;
  for (let from = 0; from < times.length; from += perColumn) {
    const to = Math.min(from + perColumn, times.length);
    const mean = (series) => {
      let sum = 0;
      for (let at = from; at < to; at += 1) sum += series[at];
      return sum / (to - from);
    };
    // Where nothing was scored the areas end; they do not lead on to what comes after.
    if (lastEnd !== null && times[from] - lastEnd > 0.2) {
      add(lastEnd, () => 0);
      add(times[from], () => 0);
    }
    if (lastEnd === null || times[from] - lastEnd > 0.2) add(times[from], mean);
    add(ends[to - 1], mean);
    lastEnd = ends[to - 1];
  }
  return columns;
}
