/** The segments and gaps as a table, the equivalent of the chart: as many rows as one asks for. */
import { fill, h, setText } from "../dom.js";
import { channelName, speakerName } from "../names.js";
import { emotion } from "../palette.js";

const ROWS = 200;

export class SegmentTable {
  /**
   * @param {import("../types.js").App} app @param {import("./timeline.js").Timeline} timeline
   * @param {(at_s: number) => void} jump
   */
  constructor(app, timeline, jump) {
    this.app = app;
    this.timeline = timeline;
    this.jump = jump;
    this.shown = ROWS;
    this.drawn = "";
    const { t } = app;
    this.rows = h("tbody");
    this.count = h("span", { class: "muted number", "data-testid": "segments-shown" });
    this.more = h("button", { class: "button", type: "button", onclick: () => this.#show(this.shown + ROWS) }, t("action.more"));
    this.all = h("button", { class: "button", type: "button", onclick: () => this.#show(Infinity) }, t("chart.show_all"));
    const heads = ["channel", "from", "to", "speaker", "emotion", "confidence"].map((name) => h("th", { scope: "col", class: name === "speaker" ? "segment-speaker" : "" }, t(`chart.segments.${name}`)));
    this.element = h(
      "details",
      { class: "card segments", ontoggle: () => this.draw() },
      h("summary", {}, t("chart.segments.title")),
      h("div", { class: "table-box", tabindex: 0, role: "group", "aria-label": t("chart.segments.title") }, h("table", { "data-testid": "segments" }, h("thead", {}, h("tr", {}, heads)), this.rows)),
      h("p", { class: "segments-foot" }, this.count, this.more, this.all),
    );
  }

  #show(rows) {
    this.shown = rows;
    this.draw();
  }

  draw() {
    if (!this.element.open) return;
    const { app, timeline } = this;
    const rows = [...timeline.channels.values()].flatMap((channel) => channel.spans.map((span) => ({ channel, span })));
    // Interim ones grow: their count alone does not tell of a change.
    const channels = [...timeline.channels.values()];
    const key = `${rows.length} ${this.shown} ${timeline.closed || timeline.end_s} ${JSON.stringify(channels.map(({ names }) => names))}`;
    if (key === this.drawn) return;
    this.drawn = key;
    // Without speakers to name the column would be empty.
    this.element.classList.toggle("has-one-channel", channels.length === 1);
    this.element.classList.toggle("has-speakers", channels.some(({ speakers }) => speakers.length > 0));
    // What is over is read from its beginning, what is live from its newest end.
    rows.sort((a, b) => (timeline.closed ? a.span.start_s - b.span.start_s : b.span.start_s - a.span.start_s));
    fill(this.rows, rows.slice(0, this.shown).map(({ channel, span }) => this.#row(channel, span)));
    setText(this.count, app.t("chart.segments.shown", { n: app.format.count(Math.min(this.shown, rows.length)), all: app.format.count(rows.length) }));
    this.more.hidden = this.all.hidden = rows.length <= this.shown;
  }

  #row(channel, span) {
    const { app } = this;
    const speakers = span.type === "gap" ? [] : channel.speakersIn(span.start_s, span.end_s).map((speaker) => speakerName(app, speaker, channel));
    const what = span.type === "gap" ? h("span", { class: "muted" }, app.t(`gap.${span.reason}`)) : emotion(app, span.label ?? null);
    return h(
      "tr",
      {},
      h("td", {}, channelName(app, channel.spec)),
      h("td", { class: "number" }, h("button", { class: "link", type: "button", onclick: () => this.jump(span.start_s) }, app.format.moment(span.start_s))),
      h("td", { class: "number" }, app.format.moment(span.end_s)),
      h("td", { class: "segment-speaker" }, [...new Set(speakers)].join(", ") || "–"),
      h("td", {}, what),
      h("td", { class: "number" }, span.type === "gap" || !span.label ? "–" : app.format.percent(span.confidence ?? 0)),
    );
  }
}
