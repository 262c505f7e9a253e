/** What can be taken along of a stream. The table of points comes from the server. */

import { h, menuKeys, placeBelow } from "../../shell/dom.js";
import { icon } from "../../shell/icons.js";
import { streamName } from "../../shell/names.js";
import { describeError, toast } from "../../shell/states.js";

const FREE_AFTER_MS = 60_000;

/**
 * The menu, and what opens it.
 * @param {import("../../shell/types.js").App} app @param {any} stream
 * @param {import("../../shell/chart/timeline.js").Timeline} timeline
 * @param {() => import("../../shell/chart/chart.js").Chart} chart
 * @returns {HTMLElement[]}
 */
export function exportMenu(app, stream, timeline, chart) {
  const guarded = (action) => async () => {
    menu.hidePopover();
    try {
      await action();
    } catch (error) {
      toast(describeError(app, error), "error");
    }
  };
  const item = (text, hint, action) => h("button", { class: "menu-item", type: "button", role: "menuitem", onclick: action }, h("span", {}, text), h("span", { class: "muted" }, hint));
  const link = (text, hint, href, name) => h("a", { class: "menu-item", role: "menuitem", href, download: name, onclick: () => menu.hidePopover() }, h("span", {}, text), h("span", { class: "muted" }, hint));
  const annotations = (text, format, suffix) => link(text, app.t("stream.export.segments"), app.api.annotationsUrl(stream.stream_id, format), `${stream.stream_id}${suffix}`);
  const menu = h(
    "div",
    { class: "menu", popover: "auto", id: "export-menu", role: "menu" },
    item("PNG", app.t("stream.export.png"), guarded(() => saveImage(app, chart(), stream))),
    app.info.store && link(app.t("common.report"), "HTML", app.api.reportUrl(stream.stream_id, app.lang), `${stream.stream_id}.html`),
    app.info.store && link("CSV", app.t("stream.export.csv"), app.api.pointsCsvUrl(stream.stream_id), `${stream.stream_id}.csv`),
    item("JSON", app.t("stream.export.json"), guarded(() => saveJson(app, stream, timeline))),
    app.info.store && [annotations("Praat TextGrid", "textgrid", ".TextGrid"), annotations("ELAN EAF", "eaf", ".eaf"), annotations("Audacity", "audacity", ".labels.txt")],
  );
  const opener = h("button", { class: "button export", type: "button", popovertarget: "export-menu", "aria-haspopup": "menu" }, icon("download"), app.t("stream.export.label"));
  menu.addEventListener("toggle", () => placeBelow(menu, opener));
  menuKeys(menu);
  return [opener, menu];
}

/** @param {import("../../shell/types.js").App} app @param {import("../../shell/chart/chart.js").Chart} chart @param {any} stream */
async function saveImage(app, chart, stream) {
  const title = [streamName(app, stream.name, stream.stream_id), app.format.fullTime(stream.opened_at), stream.model.name].join(" · ");
  save(await chart.image(title), `${stream.stream_id}.png`);
}

/**
 * Everything that is kept of it, or, where nothing is kept, what this page has seen.
 * @param {import("../../shell/types.js").App} app @param {any} stream @param {import("../../shell/chart/timeline.js").Timeline} timeline
 */
async function saveJson(app, stream, timeline) {
  const results = app.info.store ? await allResults(app, stream.stream_id) : seen(timeline);
  const text = JSON.stringify({ stream, results }, null, 1);
  const url = URL.createObjectURL(new Blob([text], { type: "application/json" }));
  save(url, `${stream.stream_id}.json`);
  setTimeout(() => URL.revokeObjectURL(url), FREE_AFTER_MS);
}

/** @param {import("../../shell/types.js").App} app @param {string} stream_id */
async function allResults(app, stream_id) {
  const all = [];
  let after_seq = -1;
  for (;;) {
    const { results, complete, next_seq } = await app.api.results(stream_id, { after_seq });
    all.push(...results);
    if (complete || next_seq === after_seq) return all;
    after_seq = next_seq;
  }
}

/** @param {import("../../shell/chart/timeline.js").Timeline} timeline */
function seen(timeline) {
  return [...timeline.channels.values()].map((channel) => ({ ...channel.spec, points: channel.points, spans: channel.spans }));
}

/** @param {string} href @param {string} name of the file */
function save(href, name) {
  const link = document.createElement("a");
  link.href = href;
  link.download = name;
  link.click();
}
