/** How loud it is: a bar from −60 to 0 dB of full scale, red where the microphone is overdriven. */
import { h, setText } from "../../shell/dom.js";

const FLOOR_DBFS = -60;
const CLIPPING = 0.99;
const HOLD_MS = 1000;

/** @param {import("../../shell/types.js").App} app */
export function makeLevelMeter(app) {
  const bar = h("i", {});
  const text = h("span", { class: "number muted" });
  const meter = h(
    "div",
    { class: "mic-meter-bar", role: "meter", "aria-label": app.t("microphone.level"), "aria-valuemin": FLOOR_DBFS, "aria-valuemax": 0 },
    bar,
  );
  const element = h("div", { class: "mic-meter", "data-testid": "mic-level" }, h("span", { class: "muted" }, app.t("microphone.level")), meter, text);
  let clippedAt = -Infinity;

  return {
    element,
    /** @param {{peak: number, dbfs: number}} level @param {boolean} isOn */
    draw({ peak, dbfs }, isOn) {
      if (peak >= CLIPPING) clippedAt = performance.now();
      const isClipped = isOn && performance.now() - clippedAt < HOLD_MS;
      const shown = isOn ? Math.max(FLOOR_DBFS, Math.min(0, dbfs)) : FLOOR_DBFS;
      bar.style.transform = `scaleX(${1 - shown / FLOOR_DBFS})`;
      meter.classList.toggle("clipped", isClipped);
      meter.setAttribute("aria-valuenow", String(Math.round(shown)));
      element.dataset.heard = String(isOn && dbfs > FLOOR_DBFS);
      const figure = isOn ? `${shown <= FLOOR_DBFS ? "< " : ""}−${Math.abs(Math.round(shown))}\u202fdBFS` : "";
      setText(text, isClipped ? app.t("microphone.clipped") : figure);
    },
  };
}
