/**
 * A channel as a whole, the same for streams and files: shares of the speech, how it went by
 * quarters, and the trend. It is called "mostly" something only where that had more than half.
 *
 * @typedef {{duration_s: number, speech_s: number, labels: Record<string, number>, unclear: number, silence: number, left_out?: number, missing: number}} Shares
 * @typedef {{shares: Shares, quarters: Shares[], trend: Record<string, number>}} Whole
 */
import { colourOf, emotion, hatchOf, STACK_ORDER, UNCLEAR } from "./palette.js";
import { h } from "./preact.js";

const MOST = 0.5;
/** Smaller trends are not worth a line. */
const SEEN_TREND = 0.05;

/**
 * @param {object} props
 * @param {import("./types.js").App} props.app @param {Whole} props.whole
 * @param {boolean} [props.withPauses] speech and silence were not told apart
 */
export function WholeView({ app, whole, withPauses = false }) {
  const { t, format } = app;
  const { shares } = whole;
  const parts = partsOf(shares);
  if (parts.length === 0) return h("div", { class: "whole" }, h("strong", { class: "whole-word", "data-testid": "whole" }, t("whole.no_speech")));
  const [first] = [...parts].sort((a, b) => b.share - a.share);
  const others = [
    { word: t("gap.silence"), share: shares.silence },
    { word: t("whole.left_out"), share: shares.left_out ?? 0 },
    { word: t("whole.missing"), share: shares.missing },
  ].filter(({ share }) => share > 0);
  return h(
    "div",
    { class: "whole" },
    h("strong", { class: "whole-word", "data-testid": "whole" }, first.share > MOST ? t("whole.mostly", { label: app.label(first.name).toLocaleLowerCase(app.lang) }) : t("whole.mixed")),
    h("p", { class: "muted" }, t(withPauses ? "whole.of_all" : "whole.of_speech", { time: format.clock(shares.speech_s) })),
    h(ShareBar, { app, parts }),
    h("ul", { class: "whole-shares", "data-testid": "shares" }, [...parts].sort((a, b) => b.share - a.share).map(({ name, share }) => h("li", {}, emotion(app, name), h("span", { class: "number" }, format.percent(share))))),
    others.length > 0 && h("p", { class: "muted number" }, others.map(({ word, share }) => t("whole.of_time", { word, share: format.percent(share) })).join(" · ")),
    h("h3", { class: "whole-course" }, t("whole.course")),
    h("ol", { class: "whole-quarters", "data-testid": "quarters" }, whole.quarters.map((quarter, index) => h("li", {}, h(ShareBar, { app, parts: partsOf(quarter) }), h("span", { class: "muted number" }, t("whole.quarter", { n: index + 1 }))))),
    h(Trend, { app, trend: whole.trend }),
  );
}

/** @param {Shares} shares @returns {{name: string, share: number}[]} as they are stacked, what is unclear last */
function partsOf(shares) {
  const known = STACK_ORDER.filter((name) => shares.labels[name] > 0);
  const names = [...known, ...Object.keys(shares.labels).filter((name) => !known.includes(name))];
  const parts = names.map((name) => ({ name, share: shares.labels[name] }));
  return shares.unclear > 0 ? [...parts, { name: UNCLEAR, share: shares.unclear }] : parts;
}

function ShareBar({ app, parts }) {
  const words = parts.map(({ name, share }) => `${app.label(name)} ${app.format.percent(share)}`).join(", ");
  return h(
    "div",
    { class: "share", role: "img", "aria-label": words || app.t("whole.no_speech"), title: words },
    parts.map(({ name, share }) => h("i", { class: hatchOf(name), style: { "--emotion": colourOf(name), "flex-grow": String(share) } })),
  );
}

function Trend({ app, trend }) {
  const moved = Object.entries(trend).filter(([, change]) => Math.abs(change) >= SEEN_TREND);
  if (moved.length === 0) return false;
  const sign = (change) => `${change > 0 ? "+" : "−"}${Math.abs(change).toFixed(2)}`;
  return h(
    "div",
    { class: "whole-trend", "data-testid": "trend" },
    h("span", {}, app.t("whole.trend")),
    moved.map(([name, change]) => emotion(app, name, sign(change))),
    h("span", { class: "muted" }, app.t("whole.trend_formula")),
  );
}
