"use strict";

// From the bottom: strong ones first, as in the dashboard.
const STACK_ORDER = ["angry", "fearful", "disgusted", "sad", "surprised", "happy", "other", "neutral", "unknown"];
const RIBBON_HEIGHT = 0.07;
const RIBBON_PITCH = 0.095;

function drawChannel(element, channel, durationS) {
  const names = Object.keys(channel.chart.ribbons);
  const top = names.length * RIBBON_PITCH;
  const labels = STACK_ORDER.filter((label) => channel.chart.series[label])
    .concat(Object.keys(channel.chart.series).filter((label) => !STACK_ORDER.includes(label)));
  const data = labels.map((label) => ({
    type: "scatter",
    mode: "lines",
    name: label,
    x: channel.chart.times,
    y: channel.chart.series[label],
    stackgroup: "emotions",
    line: { width: 0, color: colourOf(label) },
    fillcolor: colourOf(label),
    hovertemplate: "%{y:.0%}",
  }));
  const shapes = [];
  const annotations = [];
  names.forEach((name, place) => {
    const y0 = top - (place + 1) * RIBBON_PITCH;
    for (const [start, end, label] of channel.chart.ribbons[name]) {
      shapes.push({
        type: "rect", xref: "x", yref: "paper", x0: start, x1: end, y0, y1: y0 + RIBBON_HEIGHT,
        line: { width: 0 }, fillcolor: colourOf(label),
      });
    }
    annotations.push({
      xref: "paper", yref: "paper", x: 0, xanchor: "right", xshift: -8, y: y0 + RIBBON_HEIGHT / 2,
      yanchor: "middle", text: name, showarrow: false, font: { color: colour("--ink-2"), size: 12 },
    });
  });
  for (const turn of channel.turns) {
    shapes.push({
      type: "line", xref: "x", yref: "paper", x0: turn.at_s, x1: turn.at_s, y0: 0, y1: 1,
      line: { color: colour("--ink"), width: 1, dash: "dot" },
    });
  }
  Plotly.react(element, data, {
    ...baseLayout(),
    margin: { l: 96, r: 12, t: 8, b: 32 },
    hovermode: "x unified",
    legend: { orientation: "h", y: -0.16, traceorder: "normal" },
    xaxis: {
      anchor: "free", position: 0, range: [0, durationS], gridcolor: colour("--line"), zeroline: false,
      ticksuffix: "\u202fs", hoverformat: ".2f",
    },
    yaxis: {
      domain: [top + 0.03, 1], range: [0, 1], tickformat: ".0%", gridcolor: colour("--line"),
      zeroline: false, fixedrange: true, nticks: 5,
    },
    shapes,
    annotations,
  }, CHART_OPTIONS);
}

drawAlways(() => {
  for (const element of document.querySelectorAll("[data-file]")) {
    const file = DATA.files[Number(element.dataset.file)];
    drawChannel(element, file.channels[Number(element.dataset.channel)], file.duration_s);
  }
});
