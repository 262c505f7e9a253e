/** The picture of a result without a course: its scores as bars. */
import { colour } from "../../shell/dom.js";
import { colourOf } from "../../shell/palette.js";

function base(title) {
  const ink = colour("--ink-2");
  return {
    title: { text: title, font: { size: 15, color: colour("--ink") }, x: 0.01, xanchor: "left" },
    paper_bgcolor: colour("--surface"),
    plot_bgcolor: colour("--surface"),
    font: { family: getComputedStyle(document.body).fontFamily, size: 12, color: ink },
    showlegend: false,
  };
}

/**
 * @param {import("../../shell/types.js").App} app
 * @param {import("./result.js").ChannelView} channel
 * @param {string} title
 */
export function barFigure(app, channel, title) {
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
    },
  ];
  const layout = {
    ...base(title),
    margin: { l: 96, r: 48, t: 44, b: 36 },
    xaxis: { range: [0, 1], tickformat: ".0%", gridcolor: colour("--line"), zeroline: false, fixedrange: true },
    yaxis: { fixedrange: true },
  };
  return { data, layout };
}
