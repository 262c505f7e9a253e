/** How each channel sounds now, or at the moment that is pointed at: the word and nine bars. */
import { h, setText } from "../../shell/dom.js";
import { channelName } from "../../shell/names.js";
import { colourOf, STACK_ORDER } from "../../shell/palette.js";
import { h as describe, render } from "../../shell/preact.js";
import { WholeView } from "../../shell/whole.js";

export class Current {
  /** @param {import("../../shell/types.js").App} app @param {import("../../shell/chart/timeline.js").Timeline} timeline */
  constructor(app, timeline) {
    this.app = app;
    this.timeline = timeline;
    /** @type {number | null} */
    this.at_s = null;
    this.views = [...timeline.channels.values()].filter((channel) => channel.spec.analysed).map((channel) => this.#view(channel));
    this.element = h("section", { class: "currents", "aria-label": app.t("stream.current") }, this.views.map((view) => view.card));
  }

  /** @param {import("../../shell/chart/timeline.js").ChannelTimeline} channel */
  #view(channel) {
    const { app } = this;
    const word = h("strong", { class: "current-word" });
    const percent = h("span", { class: "number current-percent" });
    const when = h("span", { class: "muted number" });
    const detail = h("p", { class: "muted number current-detail" });
    const { labels } = this.timeline;
    const bars = STACK_ORDER.filter((name) => labels.includes(name))
      .concat(labels.filter((name) => !STACK_ORDER.includes(name)))
      .map((name) => {
        const fillBar = h("i", { style: { "--emotion": colourOf(name) } });
        const value = h("span", { class: "number" });
        const row = h("li", { class: "bar" }, h("i", { class: "swatch", style: { "--emotion": colourOf(name) } }), h("span", { class: "bar-word" }, app.label(name)), h("span", { class: "bar-track" }, fillBar), value);
        return { index: labels.indexOf(name), name, fillBar, value, row };
      });
    const head = h("div", { class: "current-head" }, word, percent);
    const whole = h("div", { class: "current-whole", hidden: true });
    const moment = h("div", {}, head, h("ul", { class: "bars" }, bars.map((bar) => bar.row)), detail);
    const card = h(
      "article",
      { class: "card current" },
      h("div", { class: "current-title" }, h("h2", {}, channelName(app, channel.spec)), when),
      whole,
      moment,
    );
    return { channel, card, head, whole, moment, word, percent, when, detail, bars };
  }

  /** @param {number | null} at_s a moment, null: now */
  at(at_s) {
    this.at_s = at_s;
    this.draw();
  }

  draw() {
    const { app, timeline, at_s } = this;
    for (const view of this.views) {
      const { channel } = view;
      const isOver = at_s === null && timeline.closed;
      setText(view.when, isOver ? app.t("stream.whole") : at_s === null ? app.t("stream.now") : app.format.moment(at_s));
      view.whole.hidden = !isOver;
      view.moment.hidden = isOver;
      if (isOver) {
        const { whole } = channel;
        // Without a summary, as after a crash, nothing is known of the whole.
        render(whole ? describe(WholeView, { app, whole }) : describe("p", { class: "muted" }, app.t("stream.no_whole")), view.whole);
        continue;
      }
      const span = at_s === null ? channel.spans[channel.spans.length - 1] : channel.spanAt(at_s);
      const silent = span?.type === "gap";
      const point = at_s === null ? channel.last : channel.pointAt(at_s);
      const shown = silent || !point ? null : point;
      setText(view.word, shown ? app.label(shown.label) : silent ? app.t(`gap.${span.reason}`) : app.t("common.no_speech"));
      // No figure beside "unclear": that of an emotion nobody should believe would be read as its strength.
      const isSaid = shown !== null && shown.label !== null;
      setText(view.percent, isSaid ? app.format.percent(shown.confidence) : "");
      view.head.dataset.silent = String(!shown);
      view.head.classList.toggle("unclear", shown !== null && shown.label === null);
      view.head.style.setProperty("--emotion", colourOf(shown ? shown.label : "unknown"));
      view.head.style.setProperty("--strength", `${isSaid ? Math.round(42 * shown.confidence) : 0}%`);
      for (const { index, name, fillBar, value, row } of view.bars) {
        const posterior = shown?.posteriors[index] ?? 0;
        fillBar.style.transform = `scaleX(${posterior.toFixed(3)})`;
        setText(value, shown ? app.format.percent(posterior) : "–");
        row.classList.toggle("is-label", name === shown?.label);
      }
      const held_s = span && shown ? (at_s ?? timeline.end_s) - span.start_s : 0;
      setText(view.detail, shown ? app.t("stream.detail", { speech: app.format.percent(shown.speech_share), held: app.format.seconds(Math.max(0, held_s)) }) : " ");
    }
  }
}
