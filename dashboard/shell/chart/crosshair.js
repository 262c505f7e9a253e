/** What lies over the chart: a line at a moment, with what was heard there; the playhead; a selection. */
import { fill, h } from "../dom.js";
import { channelName, speakerName } from "../names.js";
import { emotion } from "../palette.js";

const TOP = 3;

export class Crosshair {
  /**
   * @param {import("../types.js").App} app @param {import("./timeline.js").Timeline} timeline
   * @param {import("./chart.js").Chart} chart
   * @param {{onHover: (at_s: number | null) => void, onPick: (at_s: number) => void}} handlers
   */
  constructor(app, timeline, chart, { onHover, onPick }) {
    this.app = app;
    this.timeline = timeline;
    this.chart = chart;
    this.onHover = onHover;
    /** @type {number | null} */
    this.at_s = null;
    this.pinned = false;
    /** @type {number | null} */
    this.played_s = null;
    this.line = h("div", { class: "crosshair", hidden: true });
    this.tip = h("div", { class: "tip", hidden: true });
    this.cursor = h("div", { class: "cursor", hidden: true });
    this.range = h("div", { class: "chart-range", hidden: true });
    this.element = h("div", { class: "chart-over", "aria-hidden": "true" }, this.range, this.line, this.cursor, this.tip);
    /** The next drag selects; with Shift each one does. */
    this.selects = false;
    const plot = chart.plot;
    this.#selectByDragging(plot);
    plot.addEventListener("pointermove", (event) => this.#point(event.clientX));
    plot.addEventListener("pointerleave", () => !this.pinned && this.#set(null));
    let down_x = 0;
    plot.addEventListener("pointerdown", (event) => (down_x = event.clientX), true);
    plot.addEventListener("pointerup", (event) => {
      if (Math.abs(event.clientX - down_x) > 4 || event.button !== 0) return;
      const at_s = this.timeAt(event.clientX);
      if (at_s !== null) onPick(at_s);
    }, true);
  }

  /** @param {HTMLElement} plot */
  #selectByDragging(plot) {
    /** @type {number | null} */
    let start_s = null;
    // Plotly would take the mouse for its own drag.
    plot.addEventListener("mousedown", (event) => (event.shiftKey || this.selects) && event.stopImmediatePropagation(), true);
    plot.addEventListener("pointerdown", (event) => {
      if (!event.shiftKey && !this.selects) return;
      start_s = this.timeAt(event.clientX);
      if (start_s !== null) plot.setPointerCapture(event.pointerId);
    }, true);
    plot.addEventListener("pointermove", (event) => {
      const at_s = start_s === null ? null : this.timeAt(event.clientX);
      if (start_s !== null && at_s !== null && at_s !== start_s) this.chart.select({ from_s: start_s, to_s: at_s });
    });
    for (const name of ["pointerup", "pointercancel"]) plot.addEventListener(name, () => (start_s = null));
  }

  /** @param {number} x of the window @returns {number | null} s of the stream; null: beside the plot */
  timeAt(x) {
    const { left, right } = this.#edges();
    const at = x - this.chart.element.getBoundingClientRect().left;
    if (at < left || at > right) return null;
    const { from_s, to_s } = this.chart.view;
    return from_s + ((at - left) / (right - left)) * (to_s - from_s);
  }

  #edges() {
    const { l = 0, r = 0 } = this.chart.margins ?? {};
    return { left: l, right: this.chart.element.clientWidth - r };
  }

  /** @param {number} at_s @returns {number | null} px from the left edge of the chart */
  #x(at_s) {
    const { left, right } = this.#edges();
    const { from_s, to_s } = this.chart.view;
    const share = (at_s - from_s) / (to_s - from_s);
    return share < 0 || share > 1 ? null : left + share * (right - left);
  }

  /** @param {number} x */
  #point(x) {
    this.pinned = false;
    this.#set(this.timeAt(x));
  }

  /** Stay at a moment until the pointer comes. @param {number} at_s */
  pin(at_s) {
    this.pinned = true;
    this.#set(at_s);
  }

  /** @param {number | null} at_s of the playback */
  play(at_s) {
    this.played_s = at_s;
    this.draw();
  }

  /** @param {number | null} at_s */
  #set(at_s) {
    if (at_s === this.at_s) return;
    this.at_s = at_s;
    this.onHover(at_s);
    this.draw();
  }

  #drawRange() {
    const { selection, view } = this.chart;
    const from_s = Math.max(selection?.from_s ?? 0, view.from_s);
    const to_s = Math.min(selection?.to_s ?? 0, view.to_s);
    const left = selection && to_s > from_s ? this.#x(from_s) : null;
    move(this.range, left);
    if (left !== null) this.range.style.width = `${((this.#x(to_s) ?? left) - left).toFixed(1)}px`;
  }

  draw() {
    this.#drawRange();
    move(this.cursor, this.played_s === null ? null : this.#x(this.played_s));
    const x = this.at_s === null ? null : this.#x(this.at_s);
    move(this.line, x);
    this.tip.hidden = x === null;
    if (x === null || this.at_s === null) return;
    this.#fillTip(this.at_s);
    const width = this.chart.element.clientWidth;
    const flip = x > width / 2;
    this.tip.style.transform = `translateX(${Math.round(x)}px) translateX(${flip ? "calc(-100% - 12px)" : "12px"})`;
  }

  /** @param {number} at_s */
  #fillTip(at_s) {
    const { app, timeline } = this;
    fill(this.tip, h("strong", { class: "number" }, app.format.moment(at_s)));
    for (const channel of timeline.channels.values()) {
      if (!channel.spec.analysed) continue;
      const point = channel.pointAt(at_s);
      const span = channel.spanAt(at_s);
      const box = h("div", { class: "tip-channel" }, h("span", { class: "muted" }, channelName(app, channel.spec)));
      const speakers = channel.speakersIn(at_s - 0.1, at_s + 0.1).map((speaker) => speakerName(app, speaker, channel));
      if (speakers.length > 0) box.append(h("span", {}, [...new Set(speakers)].join(", ")));
      if (point) {
        const best = point.posteriors
          .map((value, index) => ({ value, name: timeline.labels[index] }))
          .sort((a, b) => b.value - a.value)
          .slice(0, TOP);
        fill(box, ...box.childNodes, best.map(({ name, value }) => emotion(app, name, app.format.percent(value))));
      } else {
        const reason = span?.type === "gap" ? span.reason : undefined;
        box.append(h("span", {}, reason ? app.t(`gap.${reason}`) : app.t("chart.nothing_here")));
      }
      this.tip.append(box);
    }
  }
}

/** @param {HTMLElement} element @param {number | null} x */
function move(element, x) {
  element.hidden = x === null;
  if (x !== null) element.style.transform = `translateX(${x.toFixed(1)}px)`;
}
