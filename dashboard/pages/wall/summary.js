/** The strip above the wall: how many streams, how they sound, how many alerts are open. */
import { colourOf, hatchOf, STACK_ORDER, UNCLEAR } from "../../shell/palette.js";
import { h } from "../../shell/preact.js";
import { stateOf } from "./tiles.js";

/** Listed only if there is one. */
const RARE = new Set(["other", "unknown"]);
const STATES = [...STACK_ORDER, UNCLEAR, "silent"];

/** A press on an emotion shows its streams only. */
export function Summary({ app, tiles, emotion, onEmotion }) {
  const { format } = app;
  const states = tiles.flatMap((tile) => tile.channels.map(stateOf)).filter((state) => state !== "");
  const parts = STATES.map((state) => ({ state, n: states.filter((each) => each === state).length }));
  return h(
    "section",
    { class: "summary card", "aria-label": app.t("wall.summary") },
    figure(format.count(tiles.length), app.plural("wall.streams", tiles.length)),
    // The same number as in the header: alerts of streams that have ended are open, too.
    figure(app.openAlerts.text, app.plural("wall.open_alerts", app.openAlerts.n), app.openAlerts.n > 0),
    h(
      "div",
      { class: "summary-share" },
      h("div", { class: "share", "aria-hidden": "true" }, parts.map(({ state, n }) => h("i", { key: state, class: hatchOf(state), hidden: n === 0, style: { "flex-grow": String(n), "--emotion": state === "silent" ? "transparent" : colourOf(state) } }))),
      h(
        "div",
        { class: "legend", role: "group", "aria-label": app.t("wall.by_emotion") },
        parts.map(({ state, n }) =>
          h(
            "button",
            { key: state, type: "button", class: `legend-item ${n === 0 ? "none" : ""}`, hidden: n === 0 && RARE.has(state) && state !== emotion, "aria-pressed": state === emotion, onclick: () => onEmotion(state) },
            h("i", { class: `swatch ${hatchOf(state) || state}`, style: { "--emotion": colourOf(state) }, "aria-hidden": "true" }),
            h("span", {}, state === "silent" ? app.t("common.silent") : app.label(state)),
            h("span", { class: "number" }, n === 0 ? "0" : `${n} · ${format.percent(n / states.length)}`),
          ),
        ),
      ),
    ),
  );
}

function figure(number, word, isOpen = false) {
  return h("div", { class: "figure", "data-open": String(isOpen) }, h("strong", { class: "number" }, number), h("span", {}, word));
}
