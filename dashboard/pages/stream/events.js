/** Alerts, marks and warnings, and the segments as a table; each leads to its moment. */
import { fill, h } from "../../shell/dom.js";
import { icon } from "../../shell/icons.js";
import { channelName, roleName, ruleName } from "../../shell/names.js";
import { emotion } from "../../shell/palette.js";

const MOST_ROWS = 200;

export class Events {
  /**
   * @param {import("../../shell/types.js").App} app @param {import("./timeline.js").Timeline} timeline
   * @param {(at_s: number) => void} jump
   */
  constructor(app, timeline, jump) {
    this.app = app;
    this.timeline = timeline;
    this.jump = jump;
    this.key = "";
    this.events = h("ul", { class: "events" });
    this.rows = h("tbody");
    this.summary = h("summary", {}, app.t("stream.segments.title"));
    const heads = ["channel", "from", "to", "emotion", "confidence"].map((name) => h("th", { scope: "col" }, app.t(`stream.segments.${name}`)));
    this.table = h(
      "details",
      { class: "card segments", ontoggle: () => this.#drawTable() },
      this.summary,
      h("div", { class: "table-box" }, h("table", {}, h("thead", {}, h("tr", {}, heads)), this.rows)),
    );
    this.box = h("section", { class: "card events-box", "aria-label": app.t("stream.events.title") }, h("h2", {}, app.t("stream.events.title")), this.events);
    this.element = h("div", { class: "stream-foot" }, this.box, this.table);
  }

  draw() {
    const { timeline } = this;
    const held = [...timeline.alerts.values()].map((alert) => alert.cleared_s !== null);
    const spans = [...timeline.channels.values()].reduce((sum, channel) => sum + channel.spans.length, 0);
    const key = `${held.join()} ${timeline.marks.length} ${timeline.warnings.length}`;
    if (key !== this.key) {
      this.key = key;
      this.#drawEvents();
    }
    if (this.table.open && spans !== this.spans) {
      this.spans = spans;
      this.#drawTable();
    }
  }

  #drawEvents() {
    const { app, timeline } = this;
    const events = [
      ...[...timeline.alerts.values()].map((alert) => ({ at_s: alert.at_s, row: this.#alert(alert) })),
      ...timeline.marks.map((mark) => ({ at_s: mark.at_s, row: this.#row(mark.at_s, "arrow", app.t("stream.events.mark"), mark.name, "") })),
      ...timeline.warnings.map((warning) => ({ at_s: warning.at_s, row: this.#row(warning.at_s, "info", app.t(`warning.${warning.code}`), warning.message, "warning") })),
    ].sort((a, b) => b.at_s - a.at_s);
    if (events.length === 0) fill(this.events, h("li", { class: "muted events-none" }, app.t("stream.events.none")));
    else fill(this.events, events.slice(0, MOST_ROWS).map((event) => event.row));
  }

  /** @param {import("./timeline.js").Alert} alert */
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

  #drawTable() {
    if (!this.table.open) return;
    const { app, timeline } = this;
    const rows = [...timeline.channels.values()].flatMap((channel) => channel.spans.map((span) => ({ channel, span })));
    rows.sort((a, b) => b.span.start_s - a.span.start_s);
    fill(
      this.rows,
      rows.slice(0, MOST_ROWS).map(({ channel, span }) =>
        h(
          "tr",
          {},
          h("td", {}, channelName(app, channel.spec)),
          h("td", { class: "number" }, h("button", { class: "link", type: "button", onclick: () => this.jump(span.start_s) }, app.format.moment(span.start_s))),
          h("td", { class: "number" }, app.format.moment(span.end_s)),
          h("td", {}, span.type === "gap" ? h("span", { class: "muted" }, app.t(`gap.${span.reason}`)) : emotion(app, span.label ?? null)),
          h("td", { class: "number" }, span.type === "gap" || !span.label ? "–" : app.format.percent(span.confidence ?? 0)),
        ),
      ),
    );
  }
}
