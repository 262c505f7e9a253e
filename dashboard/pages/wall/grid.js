/**
 * The tiles in their order. Only visible tiles that changed are compared and drawn, and the order
 * does not change under the pointer.
 */
import { Component, createRef, h } from "../../shell/preact.js";
import { TileView } from "./tile.js";

const ORDER_INTERVAL_MS = 2_000;
/** Nobody wants to click on a tile that moves away under the pointer. */
const HOLD_MS = 4_000;

export class Grid extends Component {
  list = createRef();
  /** @type {string[]} */
  order = [];
  ordered_at = -Infinity;
  pointed_at = -Infinity;
  /** @type {Map<Element, TileView>} by the element that is observed */
  views = new Map();
  observer = new IntersectionObserver((entries) => this.seen(entries), { rootMargin: "200px" });
  resizes = new ResizeObserver(() => this.measure());

  componentDidMount() {
    this.resizes.observe(this.list.current);
  }

  // A browser takes the focus from what is moved.
  getSnapshotBeforeUpdate() {
    return this.list.current.contains(document.activeElement) ? document.activeElement : null;
  }

  componentDidUpdate(props, state, focused) {
    if (focused && document.activeElement !== focused) focused.focus({ preventScroll: true });
  }

  componentWillUnmount() {
    this.observer.disconnect();
    this.resizes.disconnect();
  }

  /** @param {TileView} view @param {Element} element */
  watch(view, element) {
    this.views.set(element, view);
    this.observer.observe(element);
  }

  /** @param {Element} element */
  unwatch(element) {
    this.views.delete(element);
    this.observer.unobserve(element);
  }

  /** @param {IntersectionObserverEntry[]} entries */
  seen(entries) {
    for (const { target, isIntersecting } of entries) this.views.get(target)?.show(isIntersecting);
    if (!this.state.trend_px) this.measure();
  }

  /** All tiles are of one width, so one of them is measured: each would lay out the page anew. */
  measure() {
    const canvas = [...this.views].find(([, view]) => view.visible)?.[0].querySelector("canvas");
    if (canvas && canvas.clientWidth !== this.state.trend_px) this.setState({ trend_px: canvas.clientWidth });
  }

  /** Tiles in the order they are shown in. @param {import("./tiles.js").Tile[]} sorted @param {boolean} urgent */
  arrange(sorted, urgent) {
    const time = performance.now();
    const isHeld = time - this.pointed_at < HOLD_MS || this.list.current?.contains(document.activeElement);
    if (urgent || (!isHeld && time - this.ordered_at >= ORDER_INTERVAL_MS)) {
      this.ordered_at = time;
      this.order = sorted.map((tile) => tile.stream_id);
      return sorted;
    }
    const byId = new Map(sorted.map((tile) => [tile.stream_id, tile]));
    // Where they were, and those that are new at the end.
    this.order = [...new Set([...this.order.filter((id) => byId.has(id)), ...byId.keys()])];
    return this.order.map((id) => byId.get(id));
  }

  /** Arrow keys go from tile to tile. @param {KeyboardEvent} event */
  move(event) {
    const list = this.list.current;
    const items = [...list.children];
    const at = items.findIndex((item) => item.contains(document.activeElement));
    const columns = getComputedStyle(list).gridTemplateColumns.split(" ").length;
    const steps = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns };
    const step = steps[/** @type {keyof typeof steps} */ (event.key)];
    const next = step && at >= 0 ? items[at + step] : undefined;
    if (!next) return;
    event.preventDefault();
    next.querySelector("a")?.focus();
  }

  render({ app, tiles, urgent, pinned, onPin }, { trend_px = 0 }) {
    return h(
      "ul",
      { ref: this.list, class: "tiles", "aria-label": app.t("wall.tiles"), hidden: tiles.length === 0, onpointermove: () => (this.pointed_at = performance.now()), onkeydown: (event) => this.move(event) },
      this.arrange(tiles, urgent).map((tile) => h(TileView, { key: tile.stream_id, app, tile, trend_px, grid: this, pinned: pinned.has(tile.stream_id), onPin })),
    );
  }
}
