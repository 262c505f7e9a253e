/** The live wall: every live stream a tile, the worst first. */
import { onFrame } from "../../shell/dom.js";
import { ModelBadge } from "../../shell/model.js";
import { icon } from "../../shell/icons.js";
import { roleName, ruleName, streamName } from "../../shell/names.js";
import { h, render } from "../../shell/preact.js";
import { addressOf } from "../../shell/router.js";
import { emptyState } from "../../shell/states.js";
import { mountBoard } from "./board.js";
import { EmptyWall, SampleButton } from "./empty.js";
import { Filters, filterOf, remember } from "./filters.js";
import { followStreams } from "./follow.js";
import { Grid } from "./grid.js";
import { Summary } from "./summary.js";
import { grouped, Tiles } from "./tiles.js";
import { readPins, togglePin } from "./views.js";

/** Nobody reads faster, and hundreds of tiles are a lot to paint. What is urgent does not wait. */
const INTERVAL_MS = 500;

/**
 * @param {HTMLElement} root @param {import("../../shell/types.js").Params} params
 * @param {import("../../shell/types.js").App} app
 */
export async function mount(root, params, app) {
  if (params.query.get("view") === "board") return mountBoard(root, params, app);
  const { t } = app;
  const tiles = new Tiles();
  tiles.pinned = readPins();
  let filter = filterOf(params.query);
  let urgent = true;
  let news = "";
  const frame = onFrame(draw, INTERVAL_MS);

  /** @param {Partial<import("./tiles.js").Filter>} change */
  function setFilter(change) {
    filter = { ...filter, ...change };
    remember(filter);
    urgent = true;
    frame.request(true);
  }
  const clear = () => setFilter({ text: "", emotion: "", role: "", alerts: false });
  const pin = (/** @type {string} */ stream_id) => {
    togglePin(tiles.pinned, stream_id);
    setFilter({});
  };

  function draw() {
    const all = [...tiles.all.values()];
    const shown = tiles.sorted(filter);
    render([
      h("div", { class: "page-head" },
        h("h1", {}, t("wall.title")),
        h(ModelBadge, { app }),
        h("div", { class: "grow" }),
        all.length > 0 && h("div", { class: "wall-tools" }, h(Filters, { app, filter, tiles: all, onChange: setFilter }), h("a", { class: "button quiet", href: addressOf(`/?${boardQuery()}`) }, icon("wall"), t("wall.board")), h(SampleButton, { app, kind: "quiet" })),
      ),
      all.length > 0 && h(Summary, { app, tiles: all, emotion: filter.emotion, onEmotion: (emotion) => setFilter({ emotion: emotion === filter.emotion ? "" : emotion }) }),
      !tiles.loaded && h("div", { class: "tiles", role: "status", "aria-label": t("state.loading") }, Array.from({ length: 8 }, () => h("div", { class: "skeleton tile-skeleton" }))),
      grouped(shown, filter.group).map(({ key, tiles: some }) => [
        filter.group !== "none" && h("h2", { key: `${filter.group} ${key}`, class: "wall-group" }, groupName(key), h("span", { class: "muted number" }, app.format.count(some.length))),
        h(Grid, { key: `grid ${filter.group} ${key}`, app, tiles: some, urgent, pinned: tiles.pinned, onPin: pin }),
      ]),
      // Without the server nobody knows whether anything streams.
      tiles.loaded && all.length === 0 && (tiles.lost ? emptyState("warning", t("wall.lost"), t("wall.lost_text")) : h(EmptyWall, { app })),
      all.length > 0 && shown.length === 0 && emptyState("search", t("wall.no_match"), t("wall.no_match_text"), h("button", { class: "button", type: "button", onclick: clear }, t("wall.clear"))),
      h("div", { class: "visually-hidden", role: "status", "aria-live": "assertive" }, news),
    ], root);
    urgent = false;
  }

  /** @param {string} key */
  function groupName(key) {
    if (key === "") return t("wall.group.without");
    return filter.group === "role" ? roleName(app, key) : key;
  }

  const live = followStreams(app, tiles, {
    onRaised(alerts) {
      // Those that were there when the page was opened are no news.
      if (tiles.loaded) news = alerts.map((alert) => announce(alert)).join(". ");
    },
    onChange(isUrgent) {
      urgent ||= isUrgent;
      frame.request(urgent);
    },
    onConnection: () => frame.request(true),
  });

  /** @param {import("./tiles.js").TileAlert} alert */
  function announce(alert) {
    const tile = [...tiles.all.values()].find((candidate) => candidate.alerts.includes(alert));
    return t("wall.announce", { rule: ruleName(app, alert.rule), name: tile ? streamName(app, tile.name, tile.stream_id) : "" });
  }

  const counted = app.on("open-alerts", () => frame.request());
  draw();
  return () => {
    counted();
    live.close();
    frame.cancel();
    render(null, root);
  };
}

/** The query of a wallboard that shows what the wall shows. */
function boardQuery() {
  const query = new URLSearchParams(location.search);
  query.set("view", "board");
  return query;
}
