/** Alerts of a stream that nobody has dealt with, above its timeline. */
import { acknowledge } from "../../shell/acknowledge.js";
import { fill, h } from "../../shell/dom.js";
import { icon } from "../../shell/icons.js";
import { roleName } from "../../shell/names.js";

const SAMPLES_A_S = 16_000;
const MOST = 3;

export class OpenAlerts {
  /**
   * @param {import("../../shell/types.js").App} app @param {string} stream_id
   * @param {import("./timeline.js").Timeline} timeline @param {(at_s: number) => void} jump
   */
  constructor(app, stream_id, timeline, jump) {
    this.app = app;
    this.stream_id = stream_id;
    this.timeline = timeline;
    this.jump = jump;
    this.asked = "";
    this.element = h("div", { class: "open-alerts", role: "status" });
    this.element.hidden = true;
  }

  /** Ask anew where an alert was raised or cleared since. */
  draw() {
    const key = [...this.timeline.alerts.values()].map((alert) => `${alert.alert_id} ${alert.cleared_s}`).join();
    if (!this.app.info.store || key === this.asked) return;
    this.asked = key;
    void this.#ask();
  }

  async #ask() {
    try {
      const { alerts } = await this.app.api.alerts({ state: "unacknowledged", stream: this.stream_id });
      this.element.hidden = alerts.length === 0;
      fill(this.element, alerts.slice(0, MOST).map((/** @type {any} */ alert) => this.#row(alert)));
    } catch {
      this.asked = ""; // with the next result, then
    }
  }

  /** @param {import("../../shell/types.js").AlertRecord} alert */
  #row(alert) {
    const { app } = this;
    const raised_s = alert.raised_sample / SAMPLES_A_S;
    const press = async () => {
      if (await acknowledge(app, alert)) await this.#ask();
    };
    return h(
      "div",
      { class: `notice ${alert.severity === "critical" ? "error" : ""}` },
      icon("warning"),
      h("span", { class: "open-alert-text" }, h("strong", {}, alert.rule), ` · ${roleName(app, alert.role)} · `, h("button", { class: "link number", type: "button", onclick: () => this.jump(raised_s) }, app.format.clock(raised_s)), alert.cleared_at === null && ` · ${app.t("common.active")}`),
      h("button", { class: "button", type: "button", onclick: () => void press() }, icon("check"), app.t("acknowledge.action")),
    );
  }
}
