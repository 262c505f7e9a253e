/** What recordings are analysed for: a preset, or the single options. */
import { h } from "../../shell/preact.js";

const GRANULARITIES = ["stream", "frame", "utterance"];
const HOPS_MS = [20, 10];

/**
 * @param {object} props
 * @param {import("../../shell/types.js").App} props.app
 * @param {import("./jobs.js").Options} props.options changed in place
 * @param {Record<string, any>} props.presets of the server
 * @param {() => void} props.onChange
 */
export function Options({ app, options, presets, onChange }) {
  const { t } = app;
  const set = (change) => {
    Object.assign(options, change);
    onChange();
  };
  const choose = (name) => set(name ? { ...presets[name], speakers: options.speakers, roles: options.roles, preset: name } : { preset: "" });
  const check = (key, testid, text, change) =>
    h("label", { class: "analyse-option" }, h("input", { type: "checkbox", "data-testid": testid, checked: options[key], onchange: (event) => set({ [key]: event.target.checked, ...change }) }), h("span", {}, text));
  return h(
    "div",
    { class: "analyse-options" },
    Object.keys(presets).length > 0 &&
      h(
        "label",
        { class: "analyse-option" },
        h("span", {}, t("analyse.preset")),
        h(
          "select",
          { class: "field", "data-testid": "preset", value: options.preset, onchange: (event) => choose(event.target.value) },
          h("option", { value: "" }, t("analyse.preset.none")),
          Object.keys(presets).map((name) => h("option", { value: name }, presetText(app, name))),
        ),
      ),
    h(
      "div",
      { class: "switch", role: "group", "aria-label": t("analyse.granularity") },
      GRANULARITIES.map((name) =>
        h("button", { type: "button", title: t(`analyse.granularity.${name}.help`), "data-testid": `granularity-${name}`, "aria-pressed": name === options.granularity, onclick: () => set({ granularity: name, preset: "" }) }, t(`analyse.granularity.${name}`)),
      ),
    ),
    // An utterance has one embedding in any case, and no frames.
    options.granularity !== "utterance" &&
      h(
        "label",
        { class: "analyse-option" },
        h("span", {}, t("analyse.hop")),
        h(
          "select",
          { class: "field", "data-testid": "frame-hop", value: String(options.frame_hop_ms), onchange: (event) => set({ frame_hop_ms: Number(event.target.value), preset: "" }) },
          HOPS_MS.map((ms) => h("option", { value: String(ms) }, app.format.milliseconds(ms))),
        ),
      ),
    options.granularity === "frame" && check("embeddings", "embeddings", t("analyse.embeddings"), { preset: "" }),
    check("speakers", "tell-speakers", t("analyse.tell_speakers")),
    h(
      "label",
      { class: "analyse-option", title: t("analyse.roles.help") },
      h("span", {}, t("analyse.roles")),
      h("input", { type: "text", class: "field", "data-testid": "roles", value: options.roles, placeholder: "customer,agent", spellcheck: false, oninput: (event) => set({ roles: event.target.value.trim() }) }),
    ),
  );
}

/** In a few words. @param {import("../../shell/types.js").App} app @param {import("./jobs.js").Options} options */
export function optionsText(app, options) {
  const text = granularityText(app, options);
  return options.speakers ? `${text} · ${app.t("analyse.speakers")}` : text;
}

function granularityText(app, options) {
  if (options.preset) return presetText(app, options.preset);
  if (options.granularity === "frame") return app.t("analyse.every", { hop: app.format.milliseconds(options.frame_hop_ms) });
  return app.t(`analyse.granularity.${options.granularity}`);
}

function presetText(app, name) {
  const key = `analyse.preset.${name}`;
  const text = app.t(key);
  return text === key ? name : text;
}
