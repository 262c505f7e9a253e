/** How the chart is seen: kind, follow, zoom, layers, selection. */
import { h, setText } from "../dom.js";
import { icon } from "../icons.js";
import { describeError, toast } from "../states.js";

export class Toolbar {
  /**
   * @param {import("../types.js").App} app @param {import("./timeline.js").Timeline} timeline
   * @param {import("./chart.js").Chart} chart
   * @param {...any} actions of the page, at the end of the row
   */
  constructor(app, timeline, chart, ...actions) {
    this.app = app;
    this.timeline = timeline;
    this.chart = chart;
    const { t } = app;
    const kind = (name) => h("button", { type: "button", onclick: () => chart.show(name) }, t(`chart.${name}`));
    this.kinds = { area: kind("area"), lines: kind("lines"), heatmap: kind("heatmap") };
    this.follow = h("button", { class: "button", type: "button", onclick: () => chart.follow(!chart.view.follow) }, icon("follow"), t("chart.follow"));
    this.layers = { wave: this.#layer("wave"), spectrum: this.#layer("spectrum") };
    this.select = h("button", { class: "button", type: "button", title: t("chart.select_title"), onclick: () => this.#toggleSelect() }, t("chart.select"));
    this.grain = h("span", { class: "muted number", title: t("chart.grain_title") });
    const tool = (text, label, action) => h("button", { class: "button icon-only", type: "button", "aria-label": label, title: label, onclick: action }, text);
    this.all = h("button", { class: "button", type: "button", onclick: () => chart.showAll() }, t("chart.show_all"));
    this.element = h(
      "div",
      { class: "toolbar", role: "toolbar", "aria-label": t("chart.toolbar") },
      h("div", { class: "switch", role: "group", "aria-label": t("chart.kind") }, Object.values(this.kinds)),
      this.follow,
      h("div", { class: "tools" }, tool("−", t("chart.zoom_out"), () => chart.zoom(1.6)), tool("+", t("chart.zoom_in"), () => chart.zoom(1 / 1.6)), this.all),
      Object.values(this.layers),
      this.select,
      this.grain,
      h("div", { class: "grow" }),
      actions,
    );
    this.draw(chart.view);
  }

  /** @param {"wave" | "spectrum"} name */
  #layer(name) {
    const { app, chart } = this;
    const press = async () => {
      const { sound } = chart;
      if (sound?.too_long) return toast(app.t("chart.audio_too_long"));
      button.setAttribute("aria-busy", "true");
      try {
        await chart.layer(name, !chart.view.layers.includes(name));
      } catch (error) {
        toast(app.t("chart.audio_failed", { reason: describeError(app, error) }), "error");
      }
      button.removeAttribute("aria-busy");
    };
    const button = h("button", { class: "button", type: "button", "data-testid": `layer-${name}`, onclick: () => void press() }, app.t(`chart.${name}`));
    return button;
  }

  #toggleSelect() {
    const { chart } = this;
    const begins = !chart.crosshair.selects;
    chart.crosshair.selects = begins;
    if (begins && chart.selection === null) chart.selectMiddle();
    if (!begins) chart.select(null);
    this.draw(chart.view);
  }

  /** @param {import("./chart.js").View} view */
  draw(view) {
    const { app, timeline, chart } = this;
    const press = (/** @type {HTMLElement} */ button, /** @type {boolean} */ on) => button.setAttribute("aria-pressed", String(on));
    for (const [name, button] of Object.entries(this.kinds)) press(button, name === view.kind);
    for (const [name, button] of Object.entries(this.layers)) {
      press(button, view.layers.includes(/** @type {any} */ (name)));
      button.hidden = chart.sound === null;
    }
    press(this.follow, view.follow);
    press(this.select, chart.crosshair.selects || chart.selection !== null);
    press(this.all, view.all);
    chart.element.classList.toggle("selecting", chart.crosshair.selects);
    this.follow.hidden = timeline.closed;
    const grain_s = chart.grain_s;
    setText(this.grain, grain_s === null ? "" : app.t("chart.grain", { time: grain_s < 0.9995 ? app.format.milliseconds(grain_s * 1000) : app.format.seconds(grain_s) }));
  }
}
