/** Alerts: open ones, acknowledged ones, all that there were. */
import { acknowledge } from "../../shell/acknowledge.js";
import { fill, h, whileVisible } from "../../shell/dom.js";
import { icon } from "../../shell/icons.js";
import { roleName, streamName } from "../../shell/names.js";
import { emotion } from "../../shell/palette.js";
import { emptyState, errorState, loadingState } from "../../shell/states.js";

const STATES = ["unacknowledged", "acknowledged", "all"];
const PAGE = 50;
const INTERVAL_MS = 5_000;
const SAMPLES_A_S = 16_000;
/** A moment is seen better with what led to it. */
const LEAD_S = 2;

/**
 * @param {HTMLElement} root @param {import("../../shell/types.js").Params} params @param {import("../../shell/types.js").App} app
 */
export async function mount(root, params, app) {
  const wanted = params.query.get("state") ?? "";
  let state = STATES.includes(wanted) ? wanted : STATES[0];
  let limit = PAGE;
  let shown = "";
  let asked = 0;
  const buttons = new Map(STATES.map((name) => [name, h("button", { type: "button", onclick: () => choose(name) }, app.t(`alerts.${name}`))]));
  const list = h("div", { class: "alert-list", "aria-live": "polite" });
  root.append(
    h("div", { class: "page-head" }, h("h1", {}, app.t("alerts.title")), h("div", { class: "grow" }), h("div", { class: "switch", role: "group", "aria-label": app.t("alerts.tabs") }, [...buttons.values()])),
    list,
  );

  /** @param {string} name */
  function choose(name) {
    state = name;
    limit = PAGE;
    shown = "";
    history.replaceState(null, "", name === STATES[0] ? "/alerts" : `/alerts?state=${name}`);
    fill(list, loadingState([92, 92, 92], app.t("state.loading")));
    void load();
  }

  async function load() {
    for (const [name, button] of buttons) button.setAttribute("aria-pressed", String(name === state));
    const ticket = ++asked;
    try {
      const { alerts } = await app.api.alerts({ state, limit: limit + 1 });
      if (ticket === asked) draw(alerts);
    } catch (error) {
      if (ticket !== asked) return;
      shown = "";
      fill(list, errorState(app, error, () => void load()));
    }
  }

  /** @param {import("../../shell/types.js").AlertRecord[]} alerts */
  function draw(alerts) {
    const key = JSON.stringify(alerts);
    if (key === shown) return;
    shown = key;
    if (alerts.length === 0) return fill(list, emptyState("bell", app.t(`alerts.none_${state}`), app.t(`alerts.none_${state}_text`)));
    const focused = /** @type {HTMLElement | null} */ (document.activeElement)?.closest?.("[data-alert-id]");
    const id = focused instanceof HTMLElement ? focused.dataset.alertId : undefined;
    const more = h("button", { class: "button", type: "button", onclick: () => ((limit += PAGE), void load()) }, app.t("action.more"));
    fill(list, h("ul", { class: "card rows" }, alerts.slice(0, limit).map((alert) => row(app, alert, press))), alerts.length > limit && more);
    if (id) /** @type {HTMLElement | null} */ (list.querySelector(`[data-alert-id="${CSS.escape(id)}"] .button`))?.focus();
  }

  /** @param {import("../../shell/types.js").AlertRecord} alert */
  async function press(alert) {
    if (await acknowledge(app, alert)) void load();
  }

  fill(list, loadingState([92, 92, 92], app.t("state.loading")));
  return whileVisible(() => void load(), INTERVAL_MS);
}

/**
 * @param {import("../../shell/types.js").App} app @param {import("../../shell/types.js").AlertRecord} alert
 * @param {(alert: import("../../shell/types.js").AlertRecord) => void} press
 */
function row(app, alert, press) {
  const { format, t } = app;
  const kind = alert.severity === "critical" ? "alert" : alert.severity === "warning" ? "warning" : "";
  const moment_s = Math.max(0, alert.raised_sample / SAMPLES_A_S - LEAD_S);
  const stream = `/streams/${encodeURIComponent(alert.stream_id)}`;
  const end_s = alert.cleared_sample === null ? null : (alert.cleared_sample - alert.since_sample) / SAMPLES_A_S;
  const open = alert.acknowledged_at === null;
  return h(
    "li",
    { class: `alert-row ${open ? kind : ""}`, "data-alert-id": alert.alert_id },
    h("span", { class: `badge ${open ? kind : ""}` }, icon(open ? "warning" : "check"), t(`severity.${alert.severity}`)),
    h(
      "div",
      { class: "alert-what" },
      h("h2", {}, alert.rule),
      h(
        "p",
        { class: "facts" },
        h("a", { href: stream }, streamName(app, alert.stream_name, alert.stream_id)),
        h("span", {}, roleName(app, alert.role)),
        alert.labels.map((name) => emotion(app, name)),
        h("span", { class: "number" }, format.percent(alert.posterior)),
      ),
      alert.acknowledged_at !== null && h("p", { class: "alert-note" }, h("span", { class: "muted", title: format.fullTime(alert.acknowledged_at) }, t("alerts.acknowledged_at", { when: format.dateTime(alert.acknowledged_at) })), alert.acknowledged_note && h("q", {}, alert.acknowledged_note)),
    ),
    h(
      "div",
      { class: "alert-when number" },
      h("span", { title: format.fullTime(alert.raised_at) }, format.dateTime(alert.raised_at)),
      h("span", { class: "muted" }, format.ago(alert.raised_at)),
      h("span", { class: end_s === null ? "alert-holds" : "muted" }, end_s === null ? t("common.holds") : t("alerts.lasted", { length: format.clock(end_s) })),
    ),
    h(
      "div",
      { class: "alert-actions" },
      open && h("button", { class: "button primary", type: "button", onclick: () => press(alert) }, icon("check"), t("acknowledge.action")),
      h("a", { class: "button", href: `${stream}?t=${moment_s.toFixed(1)}` }, t("alerts.jump"), icon("arrow")),
    ),
  );
}
