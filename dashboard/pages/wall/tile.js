/** One stream on the wall. Every part is written only where it differs from what is shown. */
import { fill, h, icon, setText } from "../../shell/dom.js";
import { channelName, inOrder, roleName, streamName } from "../../shell/names.js";
import { colourOf, inkOf } from "../../shell/palette.js";
import { drawSparkline } from "./sparkline.js";
import { openAlerts, stateOf } from "./tiles.js";

/** How strong the colour behind the word is at full confidence, in percent. */
const STRONGEST = 42;
/** What needs nobody is quieter. */
const CALM = new Set(["neutral", "other", "unknown"]);
const STRONGEST_CALM = 14;
const TREND_STEP_S = 2.5;

export class TileView {
  /**
   * @param {import("../../shell/types.js").App} app @param {import("./tiles.js").Tile} tile
   * @param {() => number} trend_px width of a sparkline
   */
  constructor(app, tile, trend_px) {
    this.app = app;
    this.trend_px = trend_px;
    this.name = h("span", { class: "tile-name" });
    this.duration = h("span", { class: "tile-duration number" });
    this.alert = h("div", { class: "tile-alert" });
    this.channels = inOrder(tile.channels).map((channel) => channelView(app, channel));
    this.link = h(
      "a",
      { class: "tile", href: `/streams/${encodeURIComponent(tile.stream_id)}` },
      this.alert,
      h("div", { class: "tile-head" }, this.name, this.duration),
      this.channels.map((view) => view.row),
    );
    this.item = h("li", {}, this.link);
    this.item.dataset.id = tile.stream_id;
    this.alertKey = "";
    this.visible = false;
    this.stale = true;
  }

  /** @param {import("./tiles.js").Tile} tile */
  draw(tile) {
    const { app } = this;
    this.tile = tile;
    if (!this.visible) {
      this.stale = true; // drawn when it is scrolled into view
      return;
    }
    this.stale = false;
    setText(this.name, streamName(app, tile.name, tile.stream_id));
    setText(this.duration, app.format.clock(tile.duration_s));
    this.#drawAlert(tile);
    const alerting = new Set(openAlerts(tile).map((alert) => alert.channel));
    inOrder(tile.channels).forEach((channel, index) => {
      drawChannel(app, this.channels[index], channel, tile.duration_s, alerting.has(channel.channel), this.trend_px());
    });
  }

  /** @param {boolean} visible whether it is on the screen, or nearly so */
  show(visible) {
    this.visible = visible;
    if (visible && this.stale && this.tile) this.draw(this.tile);
  }

  /** @param {import("./tiles.js").Tile} tile */
  #drawAlert(tile) {
    const alert = openAlerts(tile)[0] ?? tile.alerts[0];
    const key = alert ? `${alert.alert_id} ${alert.acknowledged} ${tile.alerts.length}` : "";
    if (key === this.alertKey) return;
    this.alertKey = key;
    this.link.dataset.alert = alert ? (alert.acknowledged ? "acknowledged" : alert.severity) : "";
    if (!alert) return fill(this.alert);
    const more = tile.alerts.length > 1 ? ` +${tile.alerts.length - 1}` : "";
    const text = alert.acknowledged ? this.app.t("wall.acknowledged", { rule: alert.rule }) : alert.rule;
    fill(this.alert, icon(alert.acknowledged ? "check" : "warning"), h("span", {}, text + more));
  }
}

function channelView(app, channel) {
  if (!channel.analysed) {
    const text = `${roleName(app, channel.role)} · ${app.t("common.not_analysed")}`;
    return { row: h("div", { class: "tile-off" }, text), state: "" };
  }
  const word = h("strong", {});
  const confidence = h("span", { class: "number" });
  const since = h("span", { class: "tile-since number" });
  const now = h("div", { class: "tile-now" }, word, confidence, since);
  const canvas = h("canvas", { class: "tile-trend", "aria-hidden": "true" });
  const row = h("div", { class: "tile-channel" }, h("span", { class: "tile-role" }, channelName(app, channel)), now, canvas);
  return { row, now, word, confidence, since, canvas, state: "", trendKey: "" };
}

/** @param {any} view @param {import("./tiles.js").TileChannel} channel */
function drawChannel(app, view, channel, now_s, alerting, trend_px) {
  if (!channel.analysed) return;
  const state = stateOf(channel);
  const percent = channel.confidence === null ? "" : app.format.percent(channel.confidence);
  if (state === "silent") setText(view.word, channel.label ? app.t("common.silent") : app.t("common.no_speech"));
  else setText(view.word, app.label(state));
  setText(view.confidence, state === "silent" ? "" : percent);
  const held_s = channel.since_s === null ? 0 : now_s - channel.since_s;
  setText(view.since, state === "silent" || held_s < 1 ? "" : app.format.clock(held_s));
  const strength = state === "silent" ? 0 : Math.round((CALM.has(state) ? STRONGEST_CALM : STRONGEST) * (channel.confidence ?? 0));
  const key = `${state} ${strength} ${alerting}`;
  if (key !== view.state) {
    view.state = key;
    const { style, dataset } = view.now;
    dataset.state = state === "silent" ? "silent" : alerting ? "alert" : "speech";
    style.setProperty("--emotion", colourOf(state));
    style.setProperty("--on-emotion", inkOf(state));
    style.setProperty("--strength", `${strength}%`);
  }
  // It moves on by a pixel or so; more often would be seen by nobody.
  const trendKey = `${Math.floor(now_s / TREND_STEP_S)} ${state} ${channel.trend.length} ${trend_px}`;
  if (trendKey !== view.trendKey) {
    view.trendKey = trendKey;
    drawSparkline(view.canvas, channel, now_s, trend_px);
  }
}
