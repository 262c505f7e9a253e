/**
 * The timeline of one stream or file: Plotly's figure, what part of it is seen, and a crosshair.
 *
 * What is over is first seen whole, what is live is followed; closer looks read it again as finely as
 * it is kept. It draws at most once a frame and four times a second, and only what is seen.
 */
import { colour, fill, h, onFrame } from "../dom.js";
import { loadPlotly } from "../plotly.js";
import { Crosshair } from "./crosshair.js";
import { forPaper, makeFigure } from "./figure.js";

const SHORTEST_DRAW_MS = 240;
const FOLLOW_S = 120;
/** So much is seen at least of a stream that has just begun. */
const FIRST_S = 30;
/** Fifty frames of 20 ms: a frame is as wide as a finger. */
const SHORTEST_VIEW_S = 1;
const REFINE_AFTER_MS = 250;
/** Room at the right edge while following. */
const AHEAD_SHARE = 0.02;
const CONFIG = { displayModeBar: false, scrollZoom: false, doubleClick: false, showTips: false };

/**
 * @typedef {object} View
 * @property {number} from_s
 * @property {number} to_s
 * @property {boolean} follow  keeps to the live edge
 * @property {boolean} all  keeps to the whole, however long it becomes
 * @property {"area" | "lines" | "heatmap"} kind
 * @property {("wave" | "spectrum")[]} layers  of the audio
 */

export class Chart {
  /**
   * @param {import("../types.js").App} app
   * @param {import("./timeline.js").Timeline} timeline
   * @param {{onView?: (view: View) => void, onHover?: (at_s: number | null) => void, onPick?: (at_s: number) => void, onSelect?: (selection: {from_s: number, to_s: number} | null) => void, sound?: import("./sound.js").Sound | null}} [handlers]
   */
  constructor(app, timeline, { onView, onHover, onPick, onSelect, sound } = {}) {
    this.app = app;
    this.timeline = timeline;
    this.onView = onView ?? (() => {});
    /** @type {View} */
    this.view = { from_s: 0, to_s: FIRST_S, follow: !timeline.closed, all: timeline.closed, kind: "area", layers: [] };
    this.sound = sound ?? null;
    /** @type {{from_s: number, to_s: number} | null} */
    this.selection = null;
    this.onSelect = onSelect ?? (() => {});
    this.refining = 0;
    /** @type {number | null} length of the columns of scores */
    this.grain_s = null;
    this.follow_s = FOLLOW_S;
    this.plot = h("div", { class: "chart-plot" });
    this.crosshair = new Crosshair(app, timeline, this, { onHover: onHover ?? (() => {}), onPick: onPick ?? (() => {}) });
    this.element = h(
      "div",
      { class: "chart", tabindex: 0, role: "img", "aria-label": app.t("chart.chart_label"), "aria-keyshortcuts": "ArrowLeft ArrowRight + - Home End S", "data-testid": "chart", "data-loading": app.t("state.loading") },
      this.plot,
      this.crosshair.element,
    );
    this.frame = onFrame(() => void this.#draw(), SHORTEST_DRAW_MS);
    this.busy = false;
    this.stale = false;
    this.dragging = false;
    this.destroyed = false;
    this.coarse = matchMedia("(pointer: coarse)").matches;
    this.element.addEventListener("keydown", (event) => this.#key(event));
    this.element.addEventListener("wheel", (event) => this.#wheel(event), { passive: false });
    this.element.addEventListener("dblclick", () => this.showAll());
    this.resizes = new ResizeObserver(() => this.request(true));
    this.resizes.observe(this.element);
    this.offTheme = app.on("theme", () => {
      this.colours = undefined;
      this.request(true);
    });
  }

  /** There is something new to draw. @param {boolean} [now] do not wait for the next turn */
  request(now = false) {
    this.frame.request(now);
  }

  /** @param {boolean} follow */
  follow(follow) {
    if (follow) this.follow_s = this.view.all ? FOLLOW_S : this.view.to_s - this.view.from_s;
    this.#setView({ follow, all: false });
  }

  /** @param {"area" | "lines" | "heatmap"} kind */
  show(kind) {
    this.#setView({ kind });
  }

  /** Rejects where the audio cannot be had. @param {"wave" | "spectrum"} layer @param {boolean} shown */
  async layer(layer, shown) {
    if (shown) await this.sound?.load();
    const others = this.view.layers.filter((each) => each !== layer);
    // The waveform is always the upper one.
    this.#setView({ layers: shown ? /** @type {any} */ ([...others, layer].sort().reverse()) : others });
    // Its level can be told now.
    this.onSelect(this.selection);
  }

  /** @param {{from_s: number, to_s: number} | null} selection */
  select(selection) {
    if (selection !== null) {
      const within = (/** @type {number} */ at_s) => Math.max(0, Math.min(at_s, this.timeline.end_s));
      selection = { from_s: within(Math.min(selection.from_s, selection.to_s)), to_s: within(Math.max(selection.from_s, selection.to_s)) };
    }
    this.selection = selection;
    this.crosshair.draw();
    this.onSelect(selection);
  }

  /** @param {number} factor below 1: closer */
  zoom(factor, about_s = (this.view.from_s + this.view.to_s) / 2) {
    const span_s = this.view.to_s - this.view.from_s;
    const next_s = Math.min(Math.max(span_s * factor, SHORTEST_VIEW_S), Math.max(this.timeline.end_s * 1.1, FOLLOW_S));
    this.follow_s = next_s;
    const share = (about_s - this.view.from_s) / span_s;
    const from_s = about_s - share * next_s;
    this.#setView({ from_s, to_s: from_s + next_s, all: false });
  }

  /** @param {number} share of what is seen */
  pan(share) {
    const move_s = share * (this.view.to_s - this.view.from_s);
    this.#setView({ from_s: this.view.from_s + move_s, to_s: this.view.to_s + move_s, follow: false, all: false });
  }

  showAll() {
    this.#setView({ follow: false, all: true });
  }

  /** Bring a moment to the middle. @param {number} at_s @param {number} [span_s] */
  jump(at_s, span_s = Math.min(60, this.view.to_s - this.view.from_s)) {
    const from_s = Math.max(0, Math.min(at_s - span_s / 2, this.timeline.end_s - span_s));
    this.#setView({ from_s, to_s: from_s + span_s, follow: false, all: false });
    this.crosshair.pin(at_s);
  }

  /** @param {number} from_s @param {number} to_s */
  see(from_s, to_s) {
    this.#setView({ from_s, to_s, follow: false, all: false });
  }

  /** @param {Partial<View>} change */
  #setView(change) {
    const { view, timeline } = this;
    Object.assign(view, change);
    if (!view.follow && !view.all) {
      // Half a view beyond either end may be seen, no more.
      const span_s = view.to_s - view.from_s;
      view.from_s = Math.max(-span_s / 2, Math.min(view.from_s, timeline.end_s - span_s / 2));
      view.to_s = view.from_s + span_s;
    }
    this.request(true);
  }

  #place() {
    const { view, timeline, follow_s } = this;
    if (view.all) Object.assign(view, { from_s: 0, to_s: Math.max(timeline.end_s, SHORTEST_VIEW_S) });
    if (!view.follow) return;
    view.to_s = Math.max(timeline.end_s + follow_s * AHEAD_SHARE, Math.min(follow_s, FIRST_S));
    view.from_s = Math.max(0, view.to_s - follow_s);
  }

  #figure() {
    const { view } = this;
    this.colours ??= resolveColours();
    const width_px = this.element.clientWidth;
    this.#place();
    const layers = this.sound !== null && this.sound.channels.size > 0 ? view.layers : [];
    return makeFigure(this.app, this.timeline, { ...view, layers, sound: this.sound, width_px, colours: this.colours });
  }

  /** Read again what is seen, once it stays so for a moment. */
  #refine() {
    const { from_s, to_s } = this.view;
    clearTimeout(this.refining);
    if (this.timeline.isFine(from_s, to_s)) return;
    this.refining = setTimeout(() => {
      // Coarse is better than nothing; the next move tries again.
      void this.timeline.refine(from_s, to_s).then(() => this.destroyed || this.request(true), () => {});
    }, REFINE_AFTER_MS);
  }

  async #draw() {
    if (this.dragging || this.destroyed || this.element.clientWidth === 0) return;
    if (this.busy) {
      this.stale = true;
      return;
    }
    this.busy = true;
    this.stale = false;
    try {
      const Plotly = await loadPlotly();
      if (this.destroyed) return;
      const { data, layout, grain_s } = this.#figure();
      this.grain_s = grain_s;
      this.margins = layout.margin;
      this.element.parentElement?.style.setProperty("--plot-left", `${layout.margin.l}px`);
      await Plotly.react(this.plot, data, layout, { ...CONFIG, staticPlot: this.coarse });
      if (!this.listens) this.#listen();
      this.crosshair.draw();
      this.element.dataset.drawn = "true";
      this.onView(this.view);
      this.#refine();
    } catch (error) {
      if (!this.destroyed) fill(this.plot, h("p", { class: "notice error" }, String(error instanceof Error ? error.message : error)));
    } finally {
      this.busy = false;
      if (this.stale) this.request();
    }
  }

  #listen() {
    this.listens = true;
    const plot = /** @type {any} */ (this.plot);
    plot.on("plotly_relayouting", () => {
      this.dragging = true;
      this.#readRange();
    });
    plot.on("plotly_relayout", (/** @type {any} */ change) => {
      this.dragging = false;
      if (change["xaxis.range[0]"] === undefined) return;
      Object.assign(this.view, { follow: false, all: false });
      this.#readRange();
      this.request(true);
    });
  }

  #readRange() {
    const [from_s, to_s] = /** @type {any} */ (this.plot).layout.xaxis.range;
    Object.assign(this.view, { from_s, to_s });
    this.crosshair.draw();
  }

  /** @param {KeyboardEvent} event */
  #key(event) {
    const actions = {
      ArrowLeft: () => this.pan(-0.1),
      ArrowRight: () => this.pan(0.1),
      "+": () => this.zoom(0.7),
      "=": () => this.zoom(0.7),
      "-": () => this.zoom(1.4),
      Home: () => this.showAll(),
      End: () => this.follow(!this.timeline.closed),
      s: () => this.selectMiddle(),
      Escape: () => this.select(null),
    };
    const action = actions[/** @type {keyof typeof actions} */ (event.key)];
    if (!action || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    action();
  }

  /** What a person without a pointer begins with; its ends are changed in the fields beside it. */
  selectMiddle() {
    const { from_s, to_s } = this.view;
    this.select({ from_s: from_s + (to_s - from_s) / 3, to_s: to_s - (to_s - from_s) / 3 });
  }

  /** With Ctrl or ⌘; without, the page scrolls. @param {WheelEvent} event */
  #wheel(event) {
    if (!event.ctrlKey && !event.metaKey) return;
    event.preventDefault();
    this.zoom(event.deltaY > 0 ? 1.2 : 1 / 1.2, this.crosshair.timeAt(event.clientX) ?? undefined);
  }

  /** @param {string} title @returns {Promise<string>} a PNG of what is seen, as a data URL */
  async image(title) {
    const Plotly = await loadPlotly();
    const { colours = resolveColours() } = this;
    const figure = forPaper(this.#figure(), title, colours);
    return Plotly.toImage(figure, { format: "png", width: figure.layout.width, height: figure.layout.height, scale: 2 });
  }

  destroy() {
    this.destroyed = true;
    clearTimeout(this.refining);
    this.frame.cancel();
    this.resizes.disconnect();
    this.offTheme();
    if (this.listens) void loadPlotly().then((Plotly) => Plotly.purge(this.plot));
  }
}

/** @returns {Record<string, string>} */
function resolveColours() {
  return {
    surface: colour("--surface"),
    ink: colour("--ink"),
    muted: colour("--ink-2"),
    faint: colour("--line-strong"),
    grid: colour("--line"),
    line: colour("--line-strong"),
    accent: colour("--accent"),
    alert: colour("--alert"),
    warning: colour("--warning"),
    font: getComputedStyle(document.documentElement).fontFamily,
  };
}
