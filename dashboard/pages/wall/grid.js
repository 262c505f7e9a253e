/**
 * The tiles in their order. Only tiles that changed are touched, only visible ones drawn, and
 * elements move only where the order differs.
 */
import { h } from "../../shell/dom.js";
import { TileView } from "./tile.js";

const ORDER_INTERVAL_MS = 2_000;
/** Nobody wants to click on a tile that moves away under the pointer. */
const HOLD_MS = 4_000;

export class Grid {
  /** @param {import("../../shell/types.js").App} app */
  constructor(app) {
    this.app = app;
    /** @type {Map<string, TileView>} */
    this.views = new Map();
    this.list = h("ul", { class: "tiles", "aria-label": app.t("wall.tiles") });
    this.ordered_at = -Infinity;
    this.pointed_at = -Infinity;
    this.trend_px = 0;
    this.resizes = new ResizeObserver(() => this.#measure());
    this.resizes.observe(this.list);
    this.observer = new IntersectionObserver((entries) => this.#seen(entries), { rootMargin: "200px" });
    this.list.addEventListener("pointermove", () => (this.pointed_at = performance.now()));
    this.list.addEventListener("keydown", (event) => this.#move(event));
  }

  /**
   * @param {import("./tiles.js").Tile[]} tiles that match, in order
   * @param {Set<string>} changed
   * @param {boolean} now whether the order must not wait
   */
  draw(tiles, changed, now) {
    const time = performance.now();
    const held = time - this.pointed_at < HOLD_MS || this.list.contains(document.activeElement);
    const reorder = now || (!held && time - this.ordered_at >= ORDER_INTERVAL_MS);
    const wanted = new Set(tiles.map((tile) => tile.stream_id));
    for (const [id, view] of this.views) if (!wanted.has(id)) this.#remove(id, view);
    for (const tile of tiles) {
      let view = this.views.get(tile.stream_id);
      if (!view) {
        view = new TileView(this.app, tile, () => this.trend_px);
        this.views.set(tile.stream_id, view);
        this.list.append(view.item);
        this.observer.observe(view.item);
        view.draw(tile);
      } else if (changed.has(tile.stream_id)) view.draw(tile);
    }
    if (reorder) this.#order(tiles, time);
  }

  /** @param {import("./tiles.js").Tile[]} tiles @param {number} time */
  #order(tiles, time) {
    this.ordered_at = time;
    const focused = this.list.contains(document.activeElement) ? /** @type {HTMLElement} */ (document.activeElement) : null;
    let next = this.list.firstElementChild;
    for (const tile of tiles) {
      const item = /** @type {TileView} */ (this.views.get(tile.stream_id)).item;
      if (item === next) next = next.nextElementSibling;
      else this.list.insertBefore(item, next);
    }
    if (focused && document.activeElement !== focused) focused.focus({ preventScroll: true });
  }

  /** All tiles are of one width, so one of them is asked, once. */
  #measure() {
    const canvas = [...this.views.values()].find((view) => view.visible)?.item.querySelector("canvas");
    if (!canvas || canvas.clientWidth === this.trend_px) return;
    this.trend_px = canvas.clientWidth;
    for (const view of this.views.values()) if (view.tile) view.draw(view.tile);
  }

  /** @param {string} id @param {TileView} view */
  #remove(id, view) {
    this.observer.unobserve(view.item);
    view.item.remove();
    this.views.delete(id);
  }

  /** @param {IntersectionObserverEntry[]} entries */
  #seen(entries) {
    for (const entry of entries) {
      const id = /** @type {HTMLElement} */ (entry.target).dataset.id ?? "";
      this.views.get(id)?.show(entry.isIntersecting);
    }
    if (this.trend_px === 0) this.#measure();
  }

  /** Arrow keys go from tile to tile. @param {KeyboardEvent} event */
  #move(event) {
    const items = [...this.list.children];
    const at = items.findIndex((item) => item.contains(document.activeElement));
    const columns = getComputedStyle(this.list).gridTemplateColumns.split(" ").length;
    const steps = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns };
    const step = steps[/** @type {keyof typeof steps} */ (event.key)];
    const next = step && at >= 0 ? items[at + step] : undefined;
    if (!next) return;
    event.preventDefault();
    next.querySelector("a")?.focus();
  }

  destroy() {
    this.observer.disconnect();
    this.resizes.disconnect();
  }
}
