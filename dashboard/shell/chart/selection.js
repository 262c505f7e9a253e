/** A part of the timeline that was chosen: heard, measured, seen alone. */
import { fill, h, setText } from "../dom.js";
import { icon } from "../icons.js";
import { channelName } from "../names.js";
import { emotion } from "../palette.js";
import { measure } from "./spans.js";

/** A frame. */
const STEP_S = 0.02;

export class Selection {
  /**
   * @param {import("../types.js").App} app @param {import("./timeline.js").Timeline} timeline
   * @param {import("./chart.js").Chart} chart @param {() => import("./player.js").Player | null} player
   * @param {...any} more of the page, below
   */
  constructor(app, timeline, chart, player, ...more) {
    this.app = app;
    this.timeline = timeline;
    this.chart = chart;
    const { t } = app;
    const field = (name, change) => {
      const input = h("input", { class: "field number", type: "number", min: 0, step: STEP_S, "aria-label": t(`chart.selection.${name}`), "data-testid": `selection-${name}` });
      // With Enter or when it is left: half a number is none.
      input.addEventListener("change", () => Number.isFinite(input.valueAsNumber) && change(input.valueAsNumber));
      return input;
    };
    this.from = field("from", (from_s) => chart.select({ from_s, to_s: chart.selection?.to_s ?? from_s }));
    this.to = field("to", (to_s) => chart.select({ from_s: chart.selection?.from_s ?? to_s, to_s }));
    this.length = h("span", { class: "number" });
    this.measured = h("ul", { class: "selection-channels", "data-testid": "selection-measured" });
    const chosen = (action) => () => chart.selection && action(chart.selection);
    this.play = h("button", { class: "button", type: "button", onclick: chosen(({ from_s, to_s }) => player()?.play(from_s, to_s)) }, icon("play"), t("chart.selection.play"));
    this.hasPlayer = () => player() !== null;
    this.element = h(
      "section",
      { class: "selection", hidden: true, "aria-label": t("chart.selection.title") },
      h(
        "div",
        { class: "selection-head" },
        h("strong", {}, t("chart.selection.title")),
        h("span", {}, this.from, " – ", this.to, " s"),
        this.length,
        this.play,
        h("button", { class: "button", type: "button", onclick: chosen(({ from_s, to_s }) => chart.see(from_s, Math.max(to_s, from_s + 1))) }, t("chart.selection.zoom")),
        h("button", { class: "button quiet icon-only", type: "button", "aria-label": t("chart.selection.clear"), title: t("chart.selection.clear"), onclick: () => chart.select(null) }, icon("close")),
      ),
      this.measured,
      more,
    );
  }

  /** @param {{from_s: number, to_s: number} | null} selection */
  draw(selection) {
    const { app, timeline, chart } = this;
    this.element.hidden = selection === null;
    if (selection === null) return;
    const { from_s, to_s } = selection;
    for (const [input, value] of [[this.from, from_s], [this.to, to_s]]) {
      if (document.activeElement !== input || Number(input.value) !== value) input.value = value.toFixed(2);
    }
    this.play.hidden = !this.hasPlayer();
    setText(this.length, `${(to_s - from_s).toFixed(2)}\u202fs`);
    fill(this.measured, [...timeline.channels.values()].filter((channel) => channel.spec.analysed).map((channel) => this.#row(channel, from_s, to_s)));
    if (chart.crosshair.selects) chart.element.classList.add("selecting");
  }

  /** @param {import("./timeline.js").ChannelTimeline} channel @param {number} from_s @param {number} to_s */
  #row(channel, from_s, to_s) {
    const { app, timeline, chart } = this;
    const { speech_s, shares, means } = measure(channel, from_s, to_s);
    const samples = chart.sound?.channels.get(channel.spec.index);
    const level = samples ? samples.level(from_s, to_s) : null;
    const best = (means ?? [])
      .map((value, index) => ({ value, name: timeline.labels[index] }))
      .sort((one, other) => other.value - one.value)
      .slice(0, 3);
    return h(
      "li",
      {},
      h("strong", {}, channelName(app, channel.spec)),
      h("span", { class: "number" }, app.t("chart.selection.speech", { time: app.format.seconds(speech_s) })),
      shares.map(({ label, seconds }) => emotion(app, label, app.format.percent(seconds / speech_s))),
      best.length > 0 && h("span", { class: "muted" }, app.t("chart.selection.means"), " ", best.map(({ name, value }) => `${app.label(name)} ${app.format.percent(value)}`).join(", ")),
      level !== null && Number.isFinite(level) && h("span", { class: "muted number" }, `${level.toFixed(1)}\u202fdBFS`),
    );
  }
}
