/** The whole stream in one strip, and the part that is seen; drag it, or press somewhere. */
import { colour, h } from "../dom.js";
import { paintOf, strengthOf } from "../palette.js";

const CHANNEL_PX = 10;
const SPACE_PX = 2;

export class Overview {
  /**
   * @param {import("../types.js").App} app @param {import("./timeline.js").Timeline} timeline
   * @param {import("./chart.js").Chart} chart
   */
  constructor(app, timeline, chart) {
    this.timeline = timeline;
    this.chart = chart;
    this.channels = [...timeline.channels.values()].filter((channel) => channel.spec.analysed);
    this.height_px = this.channels.length * (CHANNEL_PX + SPACE_PX) + SPACE_PX;
    this.canvas = h("canvas", { style: { height: `${this.height_px}px` } });
    this.window = h("div", { class: "overview-window" });
    this.element = h("div", { class: "overview", title: app.t("chart.overview"), "aria-hidden": "true" }, this.canvas, this.window);
    this.element.addEventListener("pointerdown", (event) => {
      this.element.setPointerCapture(event.pointerId);
      this.#go(event);
    });
    this.element.addEventListener("pointermove", (event) => event.buttons > 0 && this.#go(event));
    this.offTheme = app.on("theme", () => (this.alert = undefined));
  }

  get length_s() {
    return Math.max(this.timeline.end_s, this.chart.view.follow ? this.chart.view.to_s : 0, 1);
  }

  /** @param {PointerEvent} event */
  #go(event) {
    const box = this.element.getBoundingClientRect();
    const at_s = ((event.clientX - box.left) / box.width) * this.length_s;
    const { from_s, to_s } = this.chart.view;
    const half_s = (to_s - from_s) / 2;
    this.chart.see(at_s - half_s, at_s + half_s);
  }

  draw() {
    const { canvas, length_s } = this;
    const ratio = Math.min(devicePixelRatio || 1, 2);
    const width = Math.round(canvas.clientWidth * ratio);
    const height = Math.round(this.height_px * ratio);
    if (canvas.width !== width) canvas.width = width;
    if (canvas.height !== height) canvas.height = height;
    const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
    context.clearRect(0, 0, width, height);
    const x = (at_s) => (at_s / length_s) * width;
    this.alert ??= colour("--alert");
    this.channels.forEach((channel, row) => {
      const top = (SPACE_PX + row * (CHANNEL_PX + SPACE_PX)) * ratio;
      for (const span of channel.spans) {
        if (span.type !== "segment") continue;
        context.globalAlpha = span.label ? strengthOf(span.confidence ?? 0) : 1;
        context.fillStyle = paintOf(context, span.label ?? null);
        context.fillRect(x(span.start_s), top, Math.max(1, x(span.end_s) - x(span.start_s)), CHANNEL_PX * ratio);
      }
      context.globalAlpha = 1;
      context.fillStyle = this.alert ?? "";
      for (const alert of this.timeline.alerts.values()) {
        if (alert.channel === channel.spec.index) context.fillRect(x(alert.at_s) - ratio, top - ratio, 2 * ratio, (CHANNEL_PX + 2) * ratio);
      }
    });
    const { from_s, to_s } = this.chart.view;
    const share = (at_s) => Math.min(1, Math.max(0, at_s / length_s)) * 100;
    this.window.style.left = `${share(from_s)}%`;
    this.window.style.width = `${Math.max(0.5, share(to_s) - share(from_s))}%`;
  }

  destroy() {
    this.offTheme();
  }
}
