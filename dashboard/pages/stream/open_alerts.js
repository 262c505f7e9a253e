/** Alerts of a stream that nobody has acknowledged, above its timeline. */
import { acknowledge, mayDeal } from "../../shell/acknowledge.js";
import { fill, h, whileVisible } from "../../shell/dom.js";
import { icon } from "../../shell/icons.js";
import { roleName, ruleName } from "../../shell/names.js";
import { addressOf } from "../../shell/router.js";

const MOST = 3;
const INTERVAL_MS = 10_000;

export class OpenAlerts {
  /**
   * @param {import("../../shell/types.js").App} app @param {string} stream_id
   * @param {import("../../shell/chart/timeline.js").Timeline} timeline @param {(at_s: number) => void} jump
   */
  constructor(app, stream_id, timeline, jump) {
    this.app = app;
    this.stream_id = stream_id;
    this.timeline = timeline;
    this.jump = jump;
    /** @type {Set<string>} */
    this.acknowledged = new Set();
    this.drawn = "";
    this.element = h("div", { class: "open-alerts", role: "status" });
    this.element.hidden = true;
    // Alerts come by the feed. What others have acknowledged only the store knows.
    this.end = app.info.store ? whileVisible(() => void this.#ask(), INTERVAL_MS) : () => {};
  }

  draw() {
    const open = [...this.timeline.alerts.values()].filter((alert) => !this.acknowledged.has(alert.alert_id)).reverse();
    const key = open.map((alert) => `${alert.alert_id} ${alert.cleared_s}`).join();
    if (key === this.drawn) return;
    this.drawn = key;
    this.element.hidden = open.length === 0;
    const more = open.length - MOST;
    fill(
      this.element,
      open.slice(0, MOST).map((alert) => this.#row(alert)),
      more > 0 && h("a", { href: addressOf("/alerts") }, this.app.plural("stream.more_alerts", more)),
    );
  }

  destroy() {
    this.end();
  }

  async #ask() {
    try {
      const { alerts } = await this.app.api.alerts({ state: "acknowledged", stream: this.stream_id, limit: 1000 });
      for (const alert of alerts) this.acknowledged.add(alert.alert_id);
      this.draw();
    } catch {
      // With the next round, then.
    }
  }

  /** @param {import("../../shell/chart/timeline.js").Alert} alert */
  #row(alert) {
    const { app } = this;
    const role = this.timeline.channels.get(alert.channel)?.spec.role ?? "";
    const press = async () => {
      if (!(await acknowledge(app, alert))) return;
      this.acknowledged.add(alert.alert_id);
      this.draw();
    };
    const state = alert.cleared_s === null ? app.t("common.active") : app.t("stream.events.cleared", { when: app.format.clock(alert.cleared_s) });
    return h(
      "div",
      { class: `notice ${alert.severity === "critical" && alert.cleared_s === null ? "error" : ""}`, "data-alert-id": alert.alert_id },
      icon("warning"),
      h("span", { class: "open-alert-text" }, h("strong", {}, ruleName(app, alert.rule)), ` · ${roleName(app, role)} · `, h("button", { class: "link number", type: "button", onclick: () => this.jump(alert.at_s) }, app.format.clock(alert.at_s)), ` · ${state}`),
      app.info.store && mayDeal(app) && h("button", { class: "button", type: "button", onclick: () => void press() }, icon("check"), app.t("acknowledge.action")),
    );
  }
}
