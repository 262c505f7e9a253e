/** The wallboard: live streams for a screen on the wall, to be read from two metres. */
import { onFrame } from "../../shell/dom.js";
import { channelName, inOrder, ruleName, streamName } from "../../shell/names.js";
import { colourOf, inkOf, UNCLEAR } from "../../shell/palette.js";
import { h, render } from "../../shell/preact.js";
import { addressOf } from "../../shell/router.js";
import { filterOf } from "./filters.js";
import { followStreams } from "./follow.js";
import { AlertWords } from "./tile.js";
import { openAlerts, stateOf, Tiles } from "./tiles.js";
import { readPins } from "./views.js";

/** More would be too small to read. */
const MOST = 12;
const INTERVAL_MS = 1_000;
/** How long a screenful stays where there are more streams than fit. */
const TURN_MS = 15_000;
/** Columns by number of tiles, so that they fill a screen that is wider than high. */
const COLUMNS = [1, 1, 2, 2, 2, 3, 3, 3, 3, 3, 4, 4, 4];

/**
 * @param {HTMLElement} root @param {import("../../shell/types.js").Params} params its query filters as the wall's
 * @param {import("../../shell/types.js").App} app
 */
export function mountBoard(root, params, app) {
  const tiles = new Tiles();
  tiles.pinned = readPins();
  const filter = filterOf(params.query);
  let screen = 0;
  const frame = onFrame(draw, INTERVAL_MS);

  function draw() {
    const all = tiles.sorted(filter);
    const screens = Math.max(1, Math.ceil(all.length / MOST));
    const at = screen % screens;
    const shown = all.slice(at * MOST, (at + 1) * MOST);
    const empty = tiles.lost ? app.t("wall.lost") : app.t("wall.empty");
    render([
      h("h1", { class: "visually-hidden" }, app.t("wall.board")),
      h("ul", { class: "board", style: { "--columns": String(COLUMNS[shown.length]) } }, shown.map((tile) => h(BoardTile, { key: tile.stream_id, app, tile }))),
      tiles.loaded && all.length === 0 && h("p", { class: "board-empty" }, empty),
      h("p", { class: "board-foot" }, screens > 1 && h("span", { class: "number" }, `${at + 1} / ${screens}`), app.openAlerts.n > 0 && h("strong", {}, `${app.openAlerts.text} ${app.plural("wall.open_alerts", app.openAlerts.n)}`), h("a", { href: addressOf("/") }, app.t("wall.leave_board"))),
    ], root);
  }

  const live = followStreams(app, tiles, {
    onRaised: () => (screen = 0), // the worst come first
    onChange: (urgent) => frame.request(urgent),
    onConnection: () => frame.request(true),
  });
  const turn = setInterval(() => {
    screen += 1;
    frame.request(true);
  }, TURN_MS);
  const leave = (/** @type {KeyboardEvent} */ event) => event.key === "Escape" && app.navigate(addressOf("/"));
  const counted = app.on("open-alerts", () => frame.request());
  document.addEventListener("keydown", leave);
  document.documentElement.dataset.board = "true";
  draw();
  return () => {
    delete document.documentElement.dataset.board;
    document.removeEventListener("keydown", leave);
    counted();
    clearInterval(turn);
    live.close();
    frame.cancel();
    render(null, root);
  };
}

/** @param {{app: import("../../shell/types.js").App, tile: import("./tiles.js").Tile}} props */
function BoardTile({ app, tile }) {
  const [alert] = openAlerts(tile);
  const isCleared = alert?.cleared_s != null;
  const age = alert ? app.format.clock(tile.duration_s - (alert.cleared_s ?? alert.at_s)) : "";
  return h(
    "li",
    { class: "board-tile", "data-alert": alert && !isCleared ? alert.severity : "", "data-stream-id": tile.stream_id },
    h("div", { class: "board-head" }, h("span", {}, streamName(app, tile.name, tile.stream_id)), h("span", { class: "number" }, app.format.clock(tile.duration_s))),
    inOrder(tile.channels).filter((channel) => channel.analysed).map((channel) => {
      const state = stateOf(channel);
      const isSilent = state === "silent";
      const held_s = channel.since_s === null || isSilent ? 0 : tile.duration_s - channel.since_s;
      return h(
        "div",
        { key: channel.channel, class: `board-now ${isSilent ? "silent" : state === UNCLEAR ? "unclear" : ""}`, style: { "--emotion": isSilent ? "transparent" : colourOf(state), "--on-emotion": inkOf(state) } },
        h("strong", {}, isSilent ? app.t("common.silent") : app.label(state)),
        h("span", {}, channelName(app, channel), " ", h("span", { class: "number" }, held_s < 1 ? "" : app.format.clock(held_s))),
      );
    }),
    alert && h("div", { class: "board-alert" }, h(AlertWords, { app, message: isCleared ? "common.alert_cleared" : "common.alert_active", rule: ruleName(app, alert.rule), age })),
  );
}
