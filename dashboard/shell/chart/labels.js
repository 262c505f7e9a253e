/**
 * What people hear, over what the model says: a label for the part that is chosen, the tiers of all
 * people, and how far each agrees with the model.
 */
import { fill, h } from "../dom.js";
import { channelName } from "../names.js";
import { emotion, UNCLEAR } from "../palette.js";
import { describeError, toast } from "../states.js";

/** @typedef {{start_s: number, end_s: number, label: string}} Span */

/**
 * One's labels with a part said anew: what was there before gives way. Pure.
 * @param {Span[]} labels by start, without overlap
 * @param {number} start_s @param {number} end_s
 * @param {string | null} label null: nothing is said of that part any more
 * @returns {Span[]}
 */
export function relabelled(labels, start_s, end_s, label) {
  const kept = labels.flatMap((span) => {
    const parts = [{ ...span, end_s: Math.min(span.end_s, start_s) }, { ...span, start_s: Math.max(span.start_s, end_s) }];
    return span.end_s <= start_s || span.start_s >= end_s ? [span] : parts.filter((part) => part.end_s > part.start_s);
  });
  if (label !== null && end_s > start_s) kept.push({ start_s, end_s, label });
  return kept.sort((one, other) => one.start_s - other.start_s);
}

export class Labels {
  /**
   * @param {import("../types.js").App} app
   * @param {{read: () => Promise<any>, write: (channel: number, labels: Span[]) => Promise<any>} | null} kept null: they are kept nowhere
   * @param {import("./timeline.js").Timeline} timeline
   * @param {(at_s: number) => void} jump
   */
  constructor(app, kept, timeline, jump) {
    this.app = app;
    this.kept = kept;
    this.timeline = timeline;
    this.jump = jump;
    /** @type {any[]} */
    this.tiers = [];
    /** @type {{from_s: number, to_s: number} | null} */
    this.selection = null;
    const { t } = app;
    const analysed = [...timeline.channels.values()].filter(({ spec }) => spec.analysed);
    this.channel = h("select", { class: "field", "aria-label": t("chart.segments.channel"), hidden: analysed.length < 2 }, analysed.map(({ spec }) => h("option", { value: spec.index }, channelName(app, spec))));
    this.label = h("select", { class: "field", "aria-label": t("chart.label.which") }, [...timeline.labels, UNCLEAR].map((name) => h("option", { value: name }, app.label(name))));
    const may = app.info.me.scopes.some((scope) => scope === "operate" || scope === "admin");
    // Beside the selection, which is what a label is given to.
    this.tools = h(
      "div",
      { class: "selection-head label-tools", hidden: !may || kept === null },
      h("span", {}, t("chart.label.heard")),
      this.channel,
      this.label,
      h("button", { class: "button", type: "button", onclick: () => void this.#say(this.label.value) }, t("chart.label.give")),
      h("button", { class: "button quiet", type: "button", onclick: () => void this.#say(null) }, t("chart.label.take")),
    );
    this.list = h("div", {});
    this.element = h("section", { class: "card labels-box stream-rest", hidden: true, "aria-label": t("chart.label.title"), "data-testid": "labels" }, h("h2", {}, t("chart.label.title")), this.list);
    void this.#load();
  }

  async #load() {
    if (this.kept === null) return;
    try {
      this.tiers = (await this.kept.read()).tiers;
      this.#draw();
    } catch {
      // They are beside the point of the page: without them it is whole.
    }
  }

  /** @param {string | null} label */
  async #say(label) {
    const { app, kept, selection, tiers } = this;
    if (selection === null || kept === null) return;
    const channel = Number(this.channel.value);
    const { me } = app.info;
    const mine = tiers.find((tier) => tier.who === (me.name || me.kind) && tier.channel === channel)?.labels ?? [];
    try {
      await kept.write(channel, relabelled(mine, selection.from_s, selection.to_s, label));
      await this.#load();
      toast(app.t("chart.label.kept"));
    } catch (error) {
      toast(describeError(app, error), "error");
    }
  }

  #draw() {
    this.element.hidden = this.tiers.length === 0;
    fill(this.list, this.tiers.map((tier) => this.#tier(tier)));
  }

  #tier({ who, channel, labels, agreement }) {
    const { app } = this;
    const spec = this.timeline.channels.get(channel)?.spec;
    return h(
      "div",
      { class: "label-tier" },
      h("h3", {}, `${who} · ${spec ? channelName(app, spec) : channel}`),
      h(
        "ul",
        { class: "label-spans" },
        labels.map((span) => h("li", {}, h("button", { class: "link number", type: "button", onclick: () => this.jump(span.start_s) }, `${app.format.moment(span.start_s)} – ${app.format.moment(span.end_s)}`), " ", emotion(app, span.label))),
      ),
      agreement && agreement.seconds > 0 && this.#agreement(agreement),
    );
  }

  #agreement({ seconds, share, kappa, confusion }) {
    const { app } = this;
    const { t, format } = app;
    const theirs = Object.keys(confusion);
    const ours = [...new Set(theirs.flatMap((name) => Object.keys(confusion[name])))];
    const about = t("chart.label.agreement", { share: format.percent(share), time: format.clock(seconds) });
    return h(
      "div",
      {},
      h("p", { class: "number", "data-testid": "kappa", title: t("chart.label.kappa_about") }, about, kappa === null ? "" : ` · κ ${kappa.toFixed(2)}`),
      h(
        "div",
        { class: "table-box", tabindex: 0, role: "group", "aria-label": t("chart.label.confusion") },
        h(
          "table",
          { "data-testid": "confusion" },
          h("caption", { class: "muted" }, t("chart.label.confusion")),
          h("thead", {}, h("tr", {}, h("td"), ours.map((name) => h("th", { scope: "col" }, app.label(name))))),
          h("tbody", {}, theirs.map((name) => h("tr", {}, h("th", { scope: "row" }, app.label(name)), ours.map((other) => h("td", { class: "number" }, format.clock(confusion[name][other] ?? 0)))))),
        ),
      ),
    );
  }
}
