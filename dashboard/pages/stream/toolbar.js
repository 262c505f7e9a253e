/** How the chart is seen: kind, follow, zoom; and what can be taken along. */
import { h, menuKeys, placeBelow } from "../../shell/dom.js";
import { icon } from "../../shell/icons.js";
import { describeError, toast } from "../../shell/states.js";
import { saveImage, saveJson } from "./exports.js";

export class Toolbar {
  /**
   * @param {import("../../shell/types.js").App} app @param {any} stream
   * @param {import("./timeline.js").Timeline} timeline @param {import("./chart.js").Chart} chart
   */
  constructor(app, stream, timeline, chart) {
    this.app = app;
    this.timeline = timeline;
    const kind = (name) => h("button", { type: "button", onclick: () => chart.show(name) }, app.t(`stream.${name}`));
    this.kinds = { area: kind("area"), heatmap: kind("heatmap") };
    this.follow = h("button", { class: "button", type: "button", onclick: () => chart.follow(!chart.view.follow) }, icon("follow"), app.t("stream.follow"));
    this.frames = h("button", { class: "button", type: "button", title: app.t("stream.frames_title"), onclick: () => chart.showFrames(!chart.view.fine) }, app.t("stream.frames"));
    const tool = (text, label, action) => h("button", { class: "button icon-only", type: "button", "aria-label": label, title: label, onclick: action }, text);
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
      item("PNG", app.t("stream.export.png"), guarded(() => saveImage(app, chart, stream))),
      app.info.store && link(app.t("common.report"), "HTML", app.api.reportUrl(stream.stream_id, app.lang), `${stream.stream_id}.html`),
      app.info.store && link("CSV", app.t("stream.export.csv"), app.api.pointsCsvUrl(stream.stream_id), `${stream.stream_id}.csv`),
      item("JSON", app.t("stream.export.json"), guarded(() => saveJson(app, stream, timeline))),
      app.info.store && [annotations("Praat TextGrid", "textgrid", ".TextGrid"), annotations("ELAN EAF", "eaf", ".eaf"), annotations("Audacity", "audacity", ".labels.txt")],
    );
    const opener = h("button", { class: "button export", type: "button", popovertarget: "export-menu", "aria-haspopup": "menu" }, icon("download"), app.t("stream.export.label"));
    menu.addEventListener("toggle", () => placeBelow(menu, opener));
    menuKeys(menu);
    this.element = h(
      "div",
      { class: "toolbar", role: "toolbar", "aria-label": app.t("stream.toolbar") },
      h("div", { class: "switch", role: "group", "aria-label": app.t("stream.kind") }, this.kinds.area, this.kinds.heatmap),
      this.follow,
      this.frames,
      h(
        "div",
        { class: "tools" },
        tool("−", app.t("stream.zoom_out"), () => chart.zoom(1.6)),
        tool("+", app.t("stream.zoom_in"), () => chart.zoom(1 / 1.6)),
        h("button", { class: "button", type: "button", onclick: () => chart.showAll() }, app.t("stream.show_all")),
      ),
      h("div", { class: "grow" }),
      opener,
      menu,
    );
  }

  /** @param {import("./chart.js").View} view */
  draw(view) {
    for (const [name, button] of Object.entries(this.kinds)) button.setAttribute("aria-pressed", String(name === view.kind));
    this.follow.setAttribute("aria-pressed", String(view.follow));
    this.frames.setAttribute("aria-pressed", String(view.fine));
    this.frames.hidden = !this.timeline.has_frames;
    this.follow.hidden = this.timeline.closed;
  }
}
