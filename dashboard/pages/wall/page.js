/** The live wall: every live stream a tile, the worst first. */
import { h, onFrame } from "../../shell/dom.js";
import { connectLive } from "../../shell/live.js";
import { modelBadge } from "../../shell/model.js";
import { streamName } from "../../shell/names.js";
import { emptyState } from "../../shell/states.js";
import { emptyWall, sampleButton } from "./empty.js";
import { makeFilters } from "./filters.js";
import { Grid } from "./grid.js";
import { Summary } from "./summary.js";
import { Tiles } from "./tiles.js";

/** Nobody reads faster, and hundreds of tiles are a lot to paint. What is urgent does not wait. */
const INTERVAL_MS = 500;

/**
 * @param {HTMLElement} root @param {import("../../shell/types.js").Params} params @param {import("../../shell/types.js").App} app
 */
export async function mount(root, params, app) {
  const tiles = new Tiles();
  let loaded = false;
  let urgent = true;
  const frame = onFrame(draw, INTERVAL_MS);
  const filters = makeFilters(app, params.query, () => {
    urgent = true;
    frame.request(true);
  });
  const grid = new Grid(app);
  const summary = new Summary(app, (emotion) => filters.toggleEmotion(emotion));
  const empty = emptyWall(app);
  const clear = h("button", { class: "button", type: "button", onclick: () => filters.clear() }, app.t("wall.clear"));
  const nothing = emptyState("search", app.t("wall.no_match"), app.t("wall.no_match_text"), [clear]);
  const loading = h("div", { class: "tiles", role: "status", "aria-label": app.t("state.loading") });
  for (let index = 0; index < 8; index += 1) loading.append(h("div", { class: "skeleton tile-skeleton" }));
  const news = h("div", { class: "visually-hidden", role: "status", "aria-live": "assertive" });
  const model = modelBadge(app);
  const tools = h("div", { class: "wall-tools" }, filters.element, sampleButton(app, "quiet"));
  const head = h("div", { class: "page-head" }, h("h1", {}, app.t("wall.title")), model.element, h("div", { class: "grow" }), tools);
  root.append(head, summary.element, loading, grid.list, empty, nothing, news);
  for (const element of [grid.list, empty, nothing]) element.hidden = true;

  function draw() {
    if (!loaded) return;
    const changed = tiles.takeChanged();
    const shown = tiles.sorted(filters.filter);
    loading.hidden = true;
    const isEmpty = tiles.all.size === 0;
    summary.element.hidden = isEmpty;
    tools.hidden = isEmpty;
    empty.hidden = !isEmpty;
    nothing.hidden = isEmpty || shown.length > 0;
    grid.list.hidden = shown.length === 0;
    filters.offer(tiles.all.values());
    summary.draw(tiles.all.values(), filters.filter.emotion);
    grid.draw(shown, changed, urgent);
    urgent = false;
  }

  const live = connectLive({
    url: () => app.api.urlOf("/live"),
    onState(state) {
      app.connection(state);
      root.dataset.stale = String(state === "waiting");
    },
    onMessage(message) {
      const first = !loaded;
      urgent ||= message.type === "snapshot";
      const raised = tiles.take(message);
      loaded ||= message.type === "snapshot";
      if (raised.length > 0) {
        urgent = true;
        app.emit("alerts");
        if (!first) news.textContent = raised.map((alert) => announce(tiles, alert)).join(". ");
      }
      frame.request(urgent);
    },
  });

  /** @param {Tiles} all @param {import("./tiles.js").TileAlert} alert */
  function announce(all, alert) {
    const tile = [...all.all.values()].find((candidate) => candidate.alerts.includes(alert));
    return app.t("wall.announce", { rule: alert.rule, name: tile ? streamName(app, tile.name, tile.stream_id) : "" });
  }

  return () => {
    live.close();
    frame.cancel();
    grid.destroy();
    filters.destroy();
    model.destroy();
  };
}
