/** Alerts: open ones, acknowledged ones, all that there were. */
import { acknowledge, mayDeal } from "../../shell/acknowledge.js";
import { whileVisible } from "../../shell/dom.js";
import { chooseNotifyLevel, LEVELS, notifyLevel } from "../../shell/notify.js";
import { icon } from "../../shell/icons.js";
import { roleName, ruleName, streamName } from "../../shell/names.js";
import { emotion } from "../../shell/palette.js";
import { Component, h, render } from "../../shell/preact.js";
import { addressOf } from "../../shell/router.js";
import { ask, describeError, emptyState, errorState, loadingState, toast } from "../../shell/states.js";

const STATES = ["unacknowledged", "acknowledged", "all"];
const PAGE = 50;
const INTERVAL_MS = 5_000;
const SAMPLES_A_S = 16_000;
/** A moment is easier to judge with what led to it. */
const LEAD_S = 2;
const MOST_LETTERS = 80;
/** What the server calls a person who did not log in. */
const NAMELESS = "machine";

/**
 * @param {HTMLElement} root @param {import("../../shell/types.js").Params} params @param {import("../../shell/types.js").App} app
 */
export async function mount(root, params, app) {
  const wanted = params.query.get("state") ?? "";
  render(h(Alerts, { app, wanted: STATES.includes(wanted) ? wanted : STATES[0] }), root);
  return () => render(null, root);
}

class Alerts extends Component {
  asked = 0;
  limit = PAGE;
  state = { shown: this.props.wanted, alerts: null, error: null, text: "" };

  componentDidMount() {
    this.end = whileVisible(() => void this.load(), INTERVAL_MS);
  }

  componentWillUnmount() {
    this.end();
    this.asked += 1; // an answer on its way comes too late
  }

  choose(shown) {
    this.limit = PAGE;
    history.replaceState(null, "", addressOf(shown === STATES[0] ? "/alerts" : `/alerts?state=${shown}`));
    this.setState({ shown, alerts: null, error: null }, () => void this.load());
  }

  async load() {
    const ticket = ++this.asked;
    try {
      const { alerts } = await this.props.app.api.alerts({ state: this.state.shown, limit: this.limit + 1 });
      if (ticket === this.asked) this.setState({ alerts, error: null });
    } catch (error) {
      if (ticket === this.asked) this.setState({ error });
    }
  }

  render({ app }, { shown }) {
    const { t } = app;
    const tabs = STATES.map((name) => h("button", { type: "button", "aria-pressed": name === shown, onclick: () => this.choose(name) }, t(`alerts.${name}`)));
    return [
      h(
        "div",
        { class: "page-head" },
        h("h1", {}, t("alerts.title")),
        h("div", { class: "grow" }),
        h("input", { class: "field alert-search", type: "search", placeholder: t("alerts.search"), "aria-label": t("alerts.search"), oninput: (event) => this.setState({ text: event.target.value }) }),
        h(Notify, { app }),
        h("div", { class: "switch", role: "group", "aria-label": t("alerts.tabs") }, tabs),
      ),
      h("div", { class: "alert-list", "aria-live": "polite" }, this.list()),
      h(Precision, { app }),
    ];
  }

  list() {
    const { app } = this.props;
    const { shown, alerts, error } = this.state;
    if (error) return errorState(app, error, () => void this.load());
    if (alerts === null) return loadingState([92, 92, 92], app.t("state.loading"));
    if (alerts.length === 0) return emptyState("bell", app.t(`alerts.none_${shown}`), app.t(`alerts.none_${shown}_text`));
    const press = async (...chosen) => {
      await acknowledge(app, ...chosen);
      void this.load();
    };
    const found = alerts.slice(0, this.limit).filter((alert) => matches(alert, this.state.text));
    if (found.length === 0) return emptyState("search", app.t("alerts.no_match"), app.t("alerts.no_match_text"));
    const more = () => {
      this.limit += PAGE;
      void this.load();
    };
    return [
      byCall(found).map((calls) => h(Call, { key: calls[0].stream_id, app, alerts: calls, press, onChanged: () => void this.load() })),
      alerts.length > this.limit && h("button", { class: "button", type: "button", onclick: more }, app.t("action.more")),
    ];
  }
}

/** @param {import("../../shell/types.js").AlertRecord} alert @param {string} text */
function matches(alert, text) {
  return `${alert.rule} ${alert.stream_name} ${alert.stream_id} ${alert.role} ${alert.acknowledged_note ?? ""} ${alert.assigned_to ?? ""}`.toLowerCase().includes(text.trim().toLowerCase());
}

/** @param {import("../../shell/types.js").AlertRecord[]} alerts newest first @returns {import("../../shell/types.js").AlertRecord[][]} those of a call together */
function byCall(alerts) {
  /** @type {Map<string, any[]>} */
  const calls = new Map();
  for (const alert of alerts) calls.set(alert.stream_id, [...(calls.get(alert.stream_id) ?? []), alert]);
  return [...calls.values()];
}

/** The alerts of one call. */
function Call({ app, alerts, press, onChanged }) {
  const open = alerts.filter((alert) => alert.acknowledged_at === null);
  const [{ stream_id, stream_name }] = alerts;
  return h(
    "div",
    // No landmark: several calls may have one name.
    { class: "card alert-call", role: "group", "aria-label": streamName(app, stream_name, stream_id) },
    alerts.length > 1 &&
      h(
        "div",
        { class: "alert-call-head" },
        h("strong", {}, streamName(app, stream_name, stream_id)),
        h("span", { class: "muted number" }, app.plural("alerts.of_call", alerts.length)),
        h("div", { class: "grow" }),
        mayDeal(app) && open.length > 1 && h("button", { class: "button", type: "button", onclick: () => void press(...open) }, icon("check"), app.t("alerts.acknowledge_all", { n: open.length })),
      ),
    h("ul", { class: "rows" }, alerts.map((alert) => h(Row, { key: alert.alert_id, app, alert, press, onChanged }))),
  );
}

/** Why an alert came, what happened in the minute before, and whether it helped to step in. */
class Why extends Component {
  state = { detail: null, error: null };

  async load(event) {
    const { app, alert } = this.props;
    if (!event.target.open) return;
    try {
      this.setState({ detail: await app.api.alert(alert.alert_id), error: null });
    } catch (error) {
      this.setState({ error });
    }
  }

  render({ app, alert }, { detail, error }) {
    const { t } = app;
    return h(
      "details",
      { class: "alert-why", ontoggle: (event) => void this.load(event) },
      h("summary", {}, t("alerts.why")),
      error && h("p", { role: "alert" }, describeError(app, error)),
      detail && h("div", { "data-testid": "why" }, whyLines(app, alert, detail).map((line) => h("p", {}, line))),
    );
  }
}

function whyLines(app, alert, { held_s, minute, outcome }) {
  const { format, t } = app;
  const words = alert.labels.map((name) => app.label(name)).join(" + ");
  const lines = [t("alerts.because", { labels: words, share: format.percent(alert.posterior), held: format.clock(held_s), since: format.clock(alert.since_sample / SAMPLES_A_S) })];
  if (minute) {
    const shares = Object.entries(minute.labels).sort((a, b) => b[1] - a[1]).map(([name, share]) => `${app.label(name)} ${format.percent(share)}`);
    if (minute.unclear > 0) shares.push(`${app.label(null)} ${format.percent(minute.unclear)}`);
    lines.push(t("alerts.minute", { speech: format.clock(minute.speech_s), shares: shares.join(", ") || "–" }));
  }
  if (outcome) lines.push(t(outcome.fell ? "alerts.fell" : "alerts.stayed", { labels: words, before: format.percent(outcome.before), after: format.percent(outcome.after) }));
  return lines;
}

/** How often each rule was right in the last weeks. */
class Precision extends Component {
  state = { weeks: null };

  async load(event) {
    if (!event.target.open) return;
    const { weeks } = await this.props.app.api.precision({ weeks: 8 });
    this.setState({ weeks });
  }

  render({ app }, { weeks }) {
    const { t, format } = app;
    const heads = ["rule", "week", "right", "wrong", "unjudged", "share"].map((name) => h("th", { scope: "col" }, t(`alerts.precision.${name}`)));
    const row = (each) => h("tr", {}, h("td", {}, ruleName(app, each.rule)), [each.week, each.right, each.wrong, each.unjudged, each.precision === null ? "–" : format.percent(each.precision)].map((cell) => h("td", { class: "number" }, cell)));
    return h(
      "details",
      { class: "card alert-precision", ontoggle: (event) => void this.load(event) },
      h("summary", {}, t("alerts.precision.title")),
      weeks && h("div", { class: "table-box", tabindex: 0, role: "region", "aria-label": t("alerts.precision.title") }, h("table", { "data-testid": "precision" }, h("thead", {}, h("tr", {}, heads)), h("tbody", {}, weeks.map(row)))),
    );
  }
}

/** Which alerts call: with a notification of the browser and two tones. */
class Notify extends Component {
  async choose(level) {
    const { app } = this.props;
    if (!(await chooseNotifyLevel(level))) toast(app.t("alerts.notify_denied"));
    this.forceUpdate();
  }

  render({ app }) {
    const options = LEVELS.map((level) => h("option", { value: level, selected: level === notifyLevel() }, app.t(`alerts.notify_${level}`)));
    return h("select", { class: "field", "aria-label": app.t("alerts.notify"), onchange: (event) => void this.choose(event.target.value) }, options);
  }
}

/** Ask whom to assign an alert to; the suggestion is oneself. @param {import("../../shell/types.js").App} app @param {import("../../shell/types.js").AlertRecord} alert */
async function assign(app, alert) {
  const to = await ask(app, {
    title: app.t("alerts.assign_title", { rule: ruleName(app, alert.rule) }),
    text: app.t("alerts.assign_text"),
    action: app.t("alerts.assign"),
    field: { label: app.t("alerts.assignee"), value: alert.assigned_to ?? app.info.me.name, most: MOST_LETTERS },
  });
  if (to === null) return;
  try {
    await app.api.assign(alert.alert_id, to);
  } catch (error) {
    toast(describeError(app, error), "error");
  }
}

/** When it was acknowledged, and by whom where people have names. @param {import("../../shell/types.js").App} app @param {import("../../shell/types.js").AlertRecord} alert */
function acknowledgedText(app, { acknowledged_at, acknowledged_by }) {
  const when = app.format.dateTime(acknowledged_at);
  return acknowledged_by && acknowledged_by !== NAMELESS ? app.t("alerts.acknowledged_by", { when, who: acknowledged_by }) : app.t("alerts.acknowledged_at", { when });
}

/** @param {{app: import("../../shell/types.js").App, alert: import("../../shell/types.js").AlertRecord, press: (...alerts: any[]) => void, onChanged: () => void}} props */
function Row({ app, alert, press, onChanged }) {
  const { format, t } = app;
  const isOpen = alert.acknowledged_at === null;
  const may = mayDeal(app);
  const kind = !isOpen ? "" : alert.severity === "critical" ? "alert" : alert.severity === "warning" ? "warning" : "";
  const stream = addressOf(`/streams/${encodeURIComponent(alert.stream_id)}`);
  const moment_s = Math.max(0, alert.raised_sample / SAMPLES_A_S - LEAD_S);
  /** One key while the focus is in the row: whether the alert was right. @param {"right" | "wrong"} verdict */
  const judge = async (verdict) => {
    try {
      await app.api.judge(alert.alert_id, alert.verdict === verdict ? null : verdict);
      toast(t(alert.verdict === verdict ? "alerts.judged_back" : `alerts.judged_${verdict}`));
    } catch (error) {
      toast(describeError(app, error), "error");
    }
    onChanged();
  };
  const verdictButton = (/** @type {"right" | "wrong"} */ verdict, /** @type {string} */ key) =>
    h("button", { class: "button quiet", type: "button", "aria-pressed": alert.verdict === verdict, title: key, "aria-keyshortcuts": key, onclick: () => void judge(verdict) }, t(`alerts.${verdict}`));
  const onKey = (/** @type {KeyboardEvent} */ event) => {
    if (!may || event.ctrlKey || event.metaKey || event.altKey) return;
    const verdict = /** @type {const} */ ({ r: "right", w: "wrong" })[event.key.toLowerCase()];
    if (verdict) void judge(verdict);
  };
  const length_s = alert.cleared_sample === null ? null : (alert.cleared_sample - alert.since_sample) / SAMPLES_A_S;
  return h(
    "li",
    { class: `alert-row ${kind}`, "data-alert-id": alert.alert_id, onkeydown: onKey },
    h("span", { class: `badge ${kind}` }, icon(isOpen ? "warning" : "check"), t(`severity.${alert.severity}`)),
    h(
      "div",
      { class: "alert-what" },
      h("h2", {}, ruleName(app, alert.rule)),
      h(
        "p",
        { class: "facts" },
        h("a", { href: stream }, streamName(app, alert.stream_name, alert.stream_id)),
        h("span", {}, roleName(app, alert.role)),
        alert.labels.map((name) => emotion(app, name)),
        h("span", { class: "number" }, format.percent(alert.posterior)),
        alert.assigned_to && h("span", { class: "badge", "data-testid": "assigned" }, t("alerts.assigned_to", { who: alert.assigned_to })),
      ),
      !isOpen && h("p", { class: "alert-note" }, h("span", { class: "muted", title: format.fullTime(alert.acknowledged_at) }, acknowledgedText(app, alert)), alert.acknowledged_note && h("q", {}, alert.acknowledged_note)),
    ),
    h(
      "div",
      { class: "alert-when number" },
      h("span", { title: format.fullTime(alert.raised_at) }, format.dateTime(alert.raised_at)),
      h("span", { class: "muted" }, format.ago(alert.raised_at)),
      h("span", { class: length_s === null ? "alert-active" : "muted" }, length_s === null ? t("common.active") : t("alerts.lasted", { length: format.clock(length_s) })),
    ),
    h(
      "div",
      { class: "alert-actions" },
      may && isOpen && h("button", { class: "button primary", type: "button", onclick: () => press(alert) }, icon("check"), t("acknowledge.action")),
      may && isOpen && h("button", { class: "button", type: "button", onclick: () => void assign(app, alert).then(onChanged) }, t("alerts.assign")),
      h("a", { class: "button", href: `${stream}?t=${moment_s.toFixed(1)}` }, t("alerts.jump"), icon("arrow")),
      may && h("div", { class: "alert-verdict", role: "group", "aria-label": t("alerts.verdict") }, verdictButton("right", "R"), verdictButton("wrong", "W")),
    ),
    h(Why, { app, alert }),
  );
}
