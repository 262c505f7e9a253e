/** What recordings are analysed for: a preset, or the single options. */
import { h } from "../../shell/dom.js";

const GRANULARITIES = ["stream", "frame", "utterance"];
const HOPS_MS = [20, 10];

/**
 * @param {import("../../shell/types.js").App} app
 * @param {import("./jobs.js").Options} options changed in place
 * @param {Record<string, any>} presets  of the server
 * @param {() => void} onChange
 */
export function makeOptionsView(app, options, presets, onChange) {
  const { t } = app;
  const buttons = GRANULARITIES.map((name) =>
    h("button", { type: "button", title: t(`analyse.granularity.${name}.help`), dataset: { testid: `granularity-${name}` }, onclick: () => set({ granularity: name, preset: "" }) }, t(`analyse.granularity.${name}`)),
  );
  const hop = h(
    "select",
    { class: "field", "data-testid": "frame-hop", onchange: () => set({ frame_hop_ms: Number(hop.value), preset: "" }) },
    HOPS_MS.map((ms) => h("option", { value: String(ms) }, app.format.milliseconds(ms))),
  );
  const embeddings = h("input", { type: "checkbox", "data-testid": "embeddings", onchange: () => set({ embeddings: embeddings.checked, preset: "" }) });
  const speakers = h("input", { type: "checkbox", "data-testid": "tell-speakers", onchange: () => set({ speakers: speakers.checked }) });
  const preset = h(
    "select",
    { class: "field", "data-testid": "preset", onchange: () => set(preset.value ? { ...presets[preset.value], speakers: options.speakers, preset: preset.value } : { preset: "" }) },
    h("option", { value: "" }, t("analyse.preset.none")),
    Object.keys(presets).map((name) => h("option", { value: name }, presetText(app, name))),
  );
  const hopLabel = h("label", { class: "analyse-option" }, h("span", {}, t("analyse.hop")), hop);
  const embeddingsLabel = h("label", { class: "analyse-option" }, embeddings, h("span", {}, t("analyse.embeddings")));
  const element = h(
    "div",
    { class: "analyse-options" },
    Object.keys(presets).length > 0 && h("label", { class: "analyse-option" }, h("span", {}, t("analyse.preset")), preset),
    h("div", { class: "switch", role: "group", "aria-label": t("analyse.granularity") }, buttons),
    hopLabel,
    embeddingsLabel,
    h("label", { class: "analyse-option" }, speakers, h("span", {}, t("analyse.tell_speakers"))),
  );

  function set(change) {
    Object.assign(options, change);
    show();
    onChange();
  }

  function show() {
    buttons.forEach((button, at) => button.setAttribute("aria-pressed", String(GRANULARITIES[at] === options.granularity)));
    hop.value = String(options.frame_hop_ms);
    embeddings.checked = options.embeddings;
    speakers.checked = options.speakers;
    preset.value = options.preset;
    // An utterance has one embedding in any case, and no frames.
    hopLabel.hidden = options.granularity === "utterance";
    embeddingsLabel.hidden = options.granularity !== "frame";
  }

  show();
  return element;
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
