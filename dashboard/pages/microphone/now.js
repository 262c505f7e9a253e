/** The emotion of the moment: the word, how sure it is, and the scores of all classes. */
import { fill, h, setText } from "../../shell/dom.js";

/** @param {import("../../shell/types.js").App} app */
export function makeNow(app) {
  const { t, palette } = app;
  const swatch = h("i", { class: "overall-swatch", "aria-hidden": "true" });
  // The word is spoken by screen readers when it changes, the figures are not.
  const word = h("strong", { class: "overall-word", "aria-live": "polite", "data-testid": "mic-label" });
  const detail = h("span", { class: "muted number" });
  const bars = h("ul", { class: "scores", "aria-label": t("common.scores") });
  const element = h(
    "section",
    { class: "card mic-now" },
    h("div", { class: "overall" }, swatch, h("div", {}, word, detail)),
    bars,
  );
  /** @type {{row: any, bar: any, value: any, label: string}[]} */
  let rows = [];

  function makeRows(labels) {
    if (rows.map((row) => row.label).join() === labels.join()) return;
    rows = labels.map((label) => {
      const bar = h("i", { style: { "--emotion": palette.colourOf(label) } });
      const value = h("span", { class: "number" });
      const row = h("li", {}, h("span", {}, app.label(label)), h("span", { class: "score-bar" }, bar), value);
      return { row, bar, value, label };
    });
    fill(bars, rows.map(({ row }) => row));
  }

  return {
    element,
    /** @param {import("./session.js").MicrophoneSession} session */
    show(session) {
      const { point } = session;
      makeRows((session.labels.length ? session.labels : app.labels).map((label) => label.name));
      const last = lastSpan(session);
      const isSpeaking = point !== null && (last === null || last.type !== "gap" || last.end_s <= point.end_s);
      element.classList.toggle("silent", !isSpeaking);
      setText(word, isSpeaking ? app.label(point.label) : t(session.isActive ? "microphone.now.silent" : "microphone.now.nothing"));
      const isSaid = isSpeaking && point.label !== null;
      swatch.classList.toggle("hatched", isSpeaking && !isSaid);
      setText(detail, isSaid ? `${app.format.percent(point.confidence)}${point.provisional ? ` · ${t("microphone.now.provisional")}` : ""}` : "");
      swatch.style.setProperty("--emotion", isSpeaking ? palette.colourOf(point.label) : "var(--surface-3)");
      rows.forEach(({ bar, value }, at) => {
        const share = isSpeaking ? point.posteriors[at] : 0;
        bar.style.transform = `scaleX(${share})`;
        setText(value, isSpeaking ? app.format.percent(share) : "–");
      });
    },
  };
}

function lastSpan(session) {
  let last = null;
  for (const span of session.results.spans.values()) last = span;
  return last;
}
