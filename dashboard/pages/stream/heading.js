/** What a stream is: name, state, times, where it comes from; lag and model. */
import { fill, h, setText } from "../../shell/dom.js";
import { icon } from "../../shell/icons.js";
import { serverNow } from "../../shell/api.js";
import { noticeOf } from "../../shell/model.js";
import { streamName } from "../../shell/names.js";
import { addressOf } from "../../shell/router.js";

/** More than this is no lag but audio that came faster or later than it was spoken. */
const MOST_LAG_S = 600;

export class Heading {
  /** @param {import("../../shell/types.js").App} app @param {any} stream @param {import("../../shell/chart/timeline.js").Timeline} timeline */
  constructor(app, stream, timeline) {
    this.app = app;
    this.stream = stream;
    this.timeline = timeline;
    this.badge = h("span", { class: "badge" });
    this.length = h("span", { class: "number" });
    this.lag = h("span", { class: "number" });
    this.lagBox = h("span", { class: "corner-lag", title: app.t("stream.lag_title") }, h("span", { class: "muted" }, app.t("stream.lag")), this.lag);
    this.actions = h("div", { class: "stream-actions" });
    this.consent = h("span", { "data-testid": "stream-consent" });
    const meta = Object.entries(stream.metadata);
    this.element = h(
      "header",
      { class: "stream-head" },
      h(
        "div",
        { class: "stream-name" },
        h("div", { class: "page-head" }, h("h1", {}, streamName(app, stream.name, stream.stream_id)), this.badge),
        h(
          "p",
          { class: "muted facts" },
          h("span", { title: app.format.fullTime(stream.opened_at) }, app.t("stream.began", { when: app.format.dateTime(stream.opened_at) })),
          this.length,
          h("span", {}, `${stream.encoding} · ${app.format.rate(stream.sample_rate)}`),
          stream.continues && h("a", { href: addressOf(`/streams/${encodeURIComponent(stream.continues)}`), "data-testid": "stream-continues" }, app.t("stream.continues")),
          stream.continued_by && h("a", { href: addressOf(`/streams/${encodeURIComponent(stream.continued_by)}`), "data-testid": "stream-continued-by" }, app.t("stream.continued_by")),
          this.consent,
          meta.map(([name, value]) => h("span", {}, `${name}: ${value}`)),
        ),
      ),
      h("div", { class: "corner" }, this.lagBox, h("span", { class: "badge", title: stream.model.licence }, stream.model.name), this.actions),
    );
    const notice = noticeOf(app, stream.model);
    /** @type {{unrecorded_s: number | null} | null} the latest status of a live stream */
    this.status = null;
    this.unrecorded = h("span", {});
    this.unrecordedBox = h("p", { class: "notice", role: "status", hidden: true, "data-testid": "stream-unrecorded" }, icon("warning"), this.unrecorded);
    this.notice = notice ? h("p", { class: "notice", role: "note" }, icon("info"), h("span", {}, notice)) : null;
    /** @type {number | null} */
    this.lag_s = null;
  }

  /** Results have just come: how far they are behind what is spoken. */
  measure() {
    this.lag_s = serverNow() - this.stream.opened_at - this.timeline.end_s;
  }

  draw() {
    const { app, timeline } = this;
    const live = !timeline.closed;
    this.badge.className = `badge ${live ? "live" : ""}`;
    if (this.shownLive !== live) {
      this.shownLive = live;
      fill(this.badge, live && h("span", { class: "dot" }), app.t(live ? "common.live" : "common.ended"));
    }
    setText(this.consent, consentText(app, timeline.consent));
    setText(this.length, app.t("stream.length", { length: app.format.clock(timeline.end_s) }));
    const unrecorded_s = this.status?.unrecorded_s ?? 0;
    this.unrecordedBox.hidden = unrecorded_s === 0;
    if (unrecorded_s) setText(this.unrecorded, app.t("stream.unrecorded", { length: app.format.seconds(unrecorded_s) }));
    const shows = live && this.lag_s !== null && this.lag_s < MOST_LAG_S;
    this.lagBox.hidden = !shows;
    if (shows) setText(this.lag, this.lag_s < 0 ? app.t("stream.ahead") : app.format.seconds(this.lag_s));
  }
}

/** What was told of consent and notice; "" where nothing was. @param {import("../../shell/types.js").App} app @param {any} told */
function consentText(app, told) {
  if (!told) return "";
  const notice = told.notice_version && app.t("consent.notice", { version: told.notice_version });
  const withheld = told.withheld && app.t(`gap.${told.withheld}`);
  return [app.t("consent.is", { consent: app.t(`consent.${told.consent}`) }), notice, withheld].filter(Boolean).join(" · ");
}
