/* Shared by all pages: colours as the style has them now, and charts that follow the theme. */
"use strict";

const DATA = JSON.parse(document.getElementById("data").textContent);

function colour(name) {
  const probe = document.createElement("span");
  probe.style.color = `var(${name})`;
  document.body.append(probe);
  const value = getComputedStyle(probe).color;
  probe.remove();
  return value;
}

function colourOf(label) {
  return getComputedStyle(document.documentElement).getPropertyValue(`--emotion-${label}`).trim()
    || colour("--emotion-unknown");
}

function baseLayout() {
  return {
    paper_bgcolor: colour("--surface"),
    plot_bgcolor: colour("--surface"),
    font: { family: getComputedStyle(document.body).fontFamily, size: 12, color: colour("--ink-2") },
    hoverlabel: {
      bgcolor: colour("--surface"),
      bordercolor: colour("--line-strong"),
      font: { color: colour("--ink") },
    },
  };
}

/** Draw, and draw again when the system's theme changes. */
function drawAlways(draw) {
  draw();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
}

const CHART_OPTIONS = { responsive: true, displaylogo: false, displayModeBar: false };
