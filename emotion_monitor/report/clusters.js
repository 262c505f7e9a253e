"use strict";

// The emotions' colours have a meaning of their own, so groups have others, and each its sign.
const COLOURS = ["#4A55C8", "#B8791F", "#2F8F6B", "#B0486E", "#5B7F95", "#7D5BA6", "#8A6D3B", "#3C6E71"];
const SIGNS = ["circle", "square", "diamond", "triangle-up", "cross", "x", "star", "hexagon"];

function draw() {
  const groups = [...new Set(DATA.points.map((point) => point.cluster))].sort((one, other) => one - other);
  const data = groups.map((group, place) => {
    const points = DATA.points.filter((point) => point.cluster === group);
    return {
      type: "scatter",
      mode: "markers",
      name: `cluster ${group} (${points.length})`,
      x: points.map((point) => point.x),
      y: points.map((point) => point.y),
      text: points.map((point) => point.label),
      marker: {
        color: COLOURS[place % COLOURS.length], symbol: SIGNS[place % SIGNS.length], size: 10,
        line: { color: colour("--surface"), width: 1 },
      },
      hovertemplate: "%{text}<extra></extra>",
    };
  });
  const axis = (share) => ({
    title: { text: `${(100 * share).toFixed(0)}\u202f% of the variance` }, gridcolor: colour("--line"),
    zerolinecolor: colour("--line-strong"),
  });
  Plotly.react(document.getElementById("plane"), data, {
    ...baseLayout(),
    margin: { l: 64, r: 12, t: 8, b: 48 },
    hovermode: "closest",
    showlegend: true,
    legend: { orientation: "h", y: -0.12 },
    xaxis: axis(DATA.shares[0]),
    yaxis: { ...axis(DATA.shares[1]), scaleanchor: "x" },
  }, CHART_OPTIONS);
}

drawAlways(draw);
