/** One stream on the wall. */
import { icon } from "../../shell/icons.js";
import { channelName, inOrder, roleName, ruleName, streamName } from "../../shell/names.js";
import { colourOf, inkOf, UNCLEAR } from "../../shell/palette.js";
import { Component, createRef, h } from "../../shell/preact.js";
import { addressOf } from "../../shell/router.js";
import { drawSparkline } from "./sparkline.js";
import { openAlerts, stateOf } from "./tiles.js";

/** How strong the colour behind the word is at full confidence, in percent. */
const STRONGEST = 42;
/** Emotions that need no attention are quieter. */
const CALM = new Set(["neutral", "other", "unknown"]);
const STRONGEST_CALM = 14;
/** Neutral is said wherever no emotion is certain; how certain neutral itself is says nothing then. */
const LEAST_SHOWN = 0.5;
const TREND_STEP_S = 2.5;
/** What was longer ago is on the page of the stream. */
const WORTH_TELLING_MIN = 10;

export class TileView extends Component {
  visible = false;

  componentDidMount() {
    this.element = this.base;
    this.props.grid.watch(this, this.element);
  }

  componentWillUnmount() {
    this.props.grid.unwatch(this.element);
  }

  // Tiles.take makes a new object of each that changed, and of no other.
  shouldComponentUpdate({ tile, trend_px, pinned }) {
    return this.visible && (tile !== this.shown || trend_px !== this.props.trend_px || pinned !== this.props.pinned);
  }

  /** @param {boolean} visible whether it is on the screen, or nearly so */
  show(visible) {
    this.visible = visible;
    if (visible && this.props.tile !== this.shown) this.forceUpdate();
  }

  render({ app, tile, trend_px, pinned, onPin }) {
    this.shown = tile;
    const name = streamName(app, tile.name, tile.stream_id);
    const alerting = new Set(openAlerts(tile).filter((alert) => alert.cleared_s === null).map((alert) => alert.channel));
    const alert = openAlerts(tile)[0] ?? tile.alerts[0];
    const kind = alert ? (alert.acknowledged ? "acknowledged" : alert.severity) : "";
    return h(
      "li",
      {},
      h(
        "a",
        { class: "tile", href: addressOf(`/streams/${encodeURIComponent(tile.stream_id)}`), "data-alert": kind, "data-cleared": String(alert?.cleared_s != null) },
        h("div", { class: "tile-alert" }, alert && alertText(app, tile, alert)),
        tile.withheld && h("div", { class: "tile-withheld muted", "data-testid": "withheld" }, app.t(`gap.${tile.withheld}`)),
        h("div", { class: "tile-head" }, h("span", { class: "tile-name", title: name }, name), h("span", { class: "tile-duration number" }, app.format.clock(tile.duration_s))),
        inOrder(tile.channels).map((channel) =>
          channel.analysed
            ? h(ChannelView, { key: channel.channel, app, channel, now_s: tile.duration_s, alerting: alerting.has(channel.channel), trend_px })
            : h("div", { key: channel.channel, class: "tile-off" }, `${roleName(app, channel.role)} · ${app.t("common.not_analysed")}`),
        ),
      ),
      // Beside the link, not in it: a press must not open the stream.
      h("button", { class: "tile-pin button quiet icon-only", type: "button", "aria-pressed": pinned, "aria-label": app.t("wall.pin", { name }), title: app.t("wall.pin", { name }), onclick: () => onPin(tile.stream_id) }, icon("pin")),
    );
  }
}

/** How it has been, beside the word of the moment: "Angry 5:12", or "was angry 2 min ago". */
function stateText(app, { state }, now_s) {
  if (state?.label) return app.t("wall.state", { label: app.label(state.label), time: app.format.clock(Math.max(0, now_s - state.since_s)) });
  // That somebody was calm is no news.
  if (!state?.before || CALM.has(state.before)) return " ";
  const minutes = Math.round((now_s - state.before_until_s) / 60);
  if (minutes > WORTH_TELLING_MIN) return " ";
  const label = app.label(state.before).toLocaleLowerCase(app.lang);
  return minutes < 1 ? app.t("wall.was_just", { label }) : app.t("wall.was", { label, n: minutes });
}

function alertText(app, tile, alert) {
  const all = tile.alerts.reduce((sum, each) => sum + each.times, 0);
  const age = app.format.clock(tile.duration_s - (alert.cleared_s ?? alert.at_s));
  const key = alert.acknowledged ? "wall.acknowledged" : alert.cleared_s === null ? "common.alert_active" : "common.alert_cleared";
  return [
    icon(alert.acknowledged ? "check" : "warning"),
    h(AlertWords, { app, message: key, rule: ruleName(app, alert.rule), age }),
    all > 1 && h("span", { class: "tile-alerts number", title: app.plural("nav.open_alerts", all) }, `×${all}`),
  ];
}

/**
 * An alert in a line: what does not fit is cut from the rule's name, never from how long it has lasted.
 * @param {{app: import("../../shell/types.js").App, message: string, rule: string, age: string}} props
 */
export function AlertWords({ app, message, rule, age }) {
  // No name of a rule has this character.
  const [before, after] = app.t(message, { rule: "\0", age }).split("\0");
  return h("span", { class: "alert-words" }, before && h("span", { class: "number" }, before), h("span", { class: "alert-words-rule", title: rule }, rule), after && h("span", { class: "number" }, after));
}

class ChannelView extends Component {
  canvas = createRef();
  trendKey = "";

  componentDidMount() {
    this.componentDidUpdate();
  }

  componentDidUpdate() {
    const { channel, now_s, trend_px } = this.props;
    // It moves on by a pixel or so; more often nobody would see.
    const key = `${Math.floor(now_s / TREND_STEP_S)} ${stateOf(channel)} ${channel.trend.length} ${trend_px}`;
    if (key === this.trendKey) return;
    this.trendKey = key;
    drawSparkline(this.canvas.current, channel, now_s, trend_px);
  }

  render({ app, channel, now_s, alerting }) {
    const state = stateOf(channel);
    const isSilent = state === "silent";
    const held_s = channel.since_s === null ? 0 : now_s - channel.since_s;
    const strength = isSilent || state === UNCLEAR ? 0 : Math.round((CALM.has(state) ? STRONGEST_CALM : STRONGEST) * (channel.confidence ?? 0));
    const isUnclear = state === UNCLEAR;
    const style = { "--emotion": colourOf(state), "--on-emotion": inkOf(state), "--strength": `${strength}%` };
    return h(
      "div",
      { class: "tile-channel" },
      h("span", { class: "tile-role" }, channelName(app, channel)),
      h(
        "div",
        { class: "tile-now", "data-state": isSilent ? "silent" : isUnclear ? "unclear" : alerting ? "alert" : "speech", style },
        h("strong", {}, isSilent ? app.t(channel.confidence === null ? "common.no_speech" : "common.silent") : app.label(state)),
        h("span", { class: "number" }, isSilent || isUnclear || (channel.confidence ?? 0) < LEAST_SHOWN ? "" : app.format.percent(channel.confidence)),
        h("span", { class: "tile-since number" }, isSilent || held_s < 1 ? "" : app.format.clock(held_s)),
      ),
      h("div", { class: "tile-state muted number" }, stateText(app, channel, now_s)),
      h("canvas", { ref: this.canvas, class: "tile-trend", "aria-hidden": "true" }),
    );
  }
}
