/** The strip above the wall: how many streams, how they sound, what is open. */
import { h, setText } from "../../shell/dom.js";
import { colourOf, STACK_ORDER } from "../../shell/palette.js";
import { openAlerts, stateOf } from "./tiles.js";

/** Only worth a word where there is one. */
const RARE = new Set(["other", "unknown"]);
const STATES = [...STACK_ORDER, "silent"];

export class Summary {
  /**
   * @param {import("../../shell/types.js").App} app
   * @param {(emotion: string) => void} onEmotion a press on a word: show only these
   */
  constructor(app, onEmotion) {
    this.app = app;
    this.streams = h("strong", { class: "number" }, "0");
    this.alerts = h("strong", { class: "number" }, "0");
    this.streamsWord = h("span", {});
    this.alertsWord = h("span", {});
    this.alertsBox = h("div", { class: "figure" }, this.alerts, this.alertsWord);
    this.bar = h("div", { class: "share", "aria-hidden": "true" });
    this.legend = h("div", { class: "legend", role: "group", "aria-label": app.t("wall.by_emotion") });
    this.parts = new Map();
    for (const state of STATES) {
      const segment = h("i", { style: { "--emotion": state === "silent" ? "transparent" : colourOf(state) } });
      const count = h("span", { class: "number" });
      const swatch = h("i", { class: `swatch ${state}`, style: { "--emotion": colourOf(state) }, "aria-hidden": "true" });
      const word = h("span", {}, state === "silent" ? app.t("common.silent") : app.label(state));
      const button = h("button", { type: "button", class: "legend-item", "aria-pressed": "false", onclick: () => onEmotion(state) }, swatch, word, count);
      this.parts.set(state, { segment, count, button });
      this.bar.append(segment);
      this.legend.append(button);
    }
    this.element = h(
      "section",
      { class: "summary card", "aria-label": app.t("wall.summary") },
      h("div", { class: "figure" }, this.streams, this.streamsWord),
      this.alertsBox,
      h("div", { class: "summary-share" }, this.bar, this.legend),
    );
  }

  /** @param {Iterable<import("./tiles.js").Tile>} tiles @param {string} emotion that is filtered for */
  draw(tiles, emotion) {
    const counts = new Map(STATES.map((state) => [state, 0]));
    let streams = 0;
    let alerts = 0;
    let channels = 0;
    for (const tile of tiles) {
      streams += 1;
      alerts += openAlerts(tile).length;
      for (const channel of tile.channels) {
        const state = stateOf(channel);
        if (!state) continue;
        channels += 1;
        counts.set(state, (counts.get(state) ?? 0) + 1);
      }
    }
    setText(this.streams, this.app.format.count(streams));
    setText(this.alerts, this.app.format.count(alerts));
    setText(this.streamsWord, this.app.plural("wall.streams", streams));
    setText(this.alertsWord, this.app.plural("wall.open_alerts", alerts));
    this.alertsBox.dataset.open = String(alerts > 0);
    for (const [state, { segment, count, button }] of this.parts) {
      const n = counts.get(state) ?? 0;
      segment.style.flexGrow = String(n);
      segment.hidden = n === 0;
      setText(count, n === 0 ? "0" : `${n} · ${this.app.format.percent(n / channels)}`);
      button.classList.toggle("none", n === 0);
      button.hidden = n === 0 && RARE.has(state) && state !== emotion;
      button.setAttribute("aria-pressed", String(state === emotion));
    }
  }
}
