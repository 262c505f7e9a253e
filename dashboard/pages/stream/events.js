/** Alerts, marks and warnings; each leads to its moment. */
import { fill, h } from "../../shell/dom.js";
import { icon } from "../../shell/icons.js";
import { roleName, ruleName } from "../../shell/names.js";
import { describeWarning } from "../../shell/states.js";

const ROWS = 200;

export class Events {
  /**
   * @param {import("../../shell/types.js").App} app @param {import("../../shell/chart/timeline.js").Timeline} timeline
   * @param {(at_s: number) => void} jump
   */
  constructor(app, timeline, jump) {
    this.app = app;
    this.timeline = timeline;
    this.jump = jump;
    this.key = "";
    this.events = h("ul", { class: "events" });
    this.shown = ROWS;
    this.more = h("button", { class: "button", type: "button", hidden: true, onclick: () => this.#showMore() }, app.t("action.more"));
    this.element = h("section", { class: "card events-box", "aria-label": app.t("stream.events.title") }, h("h2", {}, app.t("stream.events.title")), this.events, this.more);
  }

  #showMore() {
    this.shown += ROWS;
    this.#drawEvents();
  }

  draw() {
    const { timeline } = this;
    const held = [...timeline.alerts.values()].map((alert) => alert.cleared_s !== null);
    const key = `${held.join()} ${timeline.marks.length} ${timeline.warnings.length}`;
    if (key !== this.key) {
      this.key = key;
      this.#drawEvents();
    }
  }

  #drawEvents() {
    const { app, timeline } = this;
    const events = [
      ...[...timeline.alerts.values()].map((alert) => ({ at_s: alert.at_s, row: this.#alert(alert) })),
      ...timeline.marks.map((mark) => ({ at_s: mark.at_s, row: this.#row(mark.at_s, "arrow", app.t("stream.events.mark"), mark.name, "") })),
      ...timeline.warnings.map((warning) => ({ at_s: warning.at_s, row: this.#row(warning.at_s, "info", app.t(`warning.${warning.code}`), describeWarning(app, warning), "warning") })),
    ].sort((a, b) => b.at_s - a.at_s);
    if (events.length === 0) fill(this.events, h("li", { class: "muted events-none" }, app.t("stream.events.none")));
    else fill(this.events, events.slice(0, this.shown).map((event) => event.row));
    this.more.hidden = events.length <= this.shown;
  }

  /** @param {import("../../shell/chart/timeline.js").Alert} alert */
  #alert(alert) {
    const { app, timeline } = this;
    const role = timeline.channels.get(alert.channel)?.spec.role ?? "";
    const state = alert.cleared_s === null ? app.t("common.active") : app.t("stream.events.cleared", { when: app.format.clock(alert.cleared_s) });
    return this.#row(alert.at_s, "warning", ruleName(app, alert.rule), `${roleName(app, role)} · ${app.format.percent(alert.posterior)} · ${state}`, alert.severity === "critical" ? "alert" : "warning");
  }

  /** @param {number} at_s @param {any} iconName @param {string} title @param {string} text @param {string} kind */
  #row(at_s, iconName, title, text, kind) {
    const { app } = this;
    return h(
      "li",
      {},
      h(
        "button",
        { class: `event ${kind}`, type: "button", onclick: () => this.jump(at_s) },
        icon(iconName),
        h("span", { class: "number event-time" }, app.format.clock(at_s)),
        h("span", { class: "event-text" }, h("strong", {}, title), " ", h("span", { class: "muted" }, text)),
      ),
    );
  }
}
