/**
 * Who speaks in a channel that several people share: how much, with which emotions, and who of them
 * is the agent and left out.
 *
 * @typedef {{name: string, talk_s: number, talk_share: number, left_out: boolean, labels: Record<string, number>, unclear: number, same_as?: string}} SpeakerMeasures
 */
import { h } from "../../shell/preact.js";
import { speakerName } from "../../shell/names.js";
import { SpeakerName } from "../../shell/speaker_name.js";
import { colourOf, hatchOf } from "../../shell/palette.js";
import { describeError, toast } from "../../shell/states.js";

/**
 * @param {{app: import("../../shell/types.js").App, measures: any, timeline: import("../../shell/chart/timeline.js").Timeline, streamId: string, isLive: boolean, nameOf: (channel: number) => string, onNamed: () => void}} props
 */
export function SpeakersView({ app, measures, timeline, streamId, isLive, nameOf, onNamed }) {
  const channels = measures.channels.filter((/** @type {any} */ channel) => channel.speakers?.length > 0);
  if (channels.length === 0) return null;
  const { t } = app;
  const may = isLive && app.info.me.scopes.some((scope) => scope === "operate" || scope === "admin");
  const heads = ["who", "talk", "emotions", ...(may ? ["agent"] : [])];
  return h(
    "section",
    { class: "card speakers", "aria-label": t("stream.speakers.title"), "data-testid": "speakers" },
    h("h2", {}, t("stream.speakers.title")),
    channels.map((/** @type {any} */ channel) =>
      h(
        "div",
        { class: "table-box", tabindex: 0, role: "group", "aria-label": `${t("stream.speakers.title")}: ${nameOf(channel.channel)}` },
        h(
          "table",
          {},
          measures.channels.length > 1 && h("caption", { class: "muted" }, nameOf(channel.channel)),
          h("thead", {}, h("tr", {}, heads.map((name) => h("th", { scope: "col" }, t(`stream.speakers.${name}`))))),
          h("tbody", {}, channel.speakers.map((/** @type {SpeakerMeasures} */ speaker) => h(Row, { key: speaker.name, app, speaker, channel: timeline.channels.get(channel.channel), streamId, mayLeaveOut: may, onNamed }))),
        ),
      ),
    ),
    h("p", { class: "muted" }, t("stream.speakers.note")),
  );
}

/** @param {{app: import("../../shell/types.js").App, speaker: SpeakerMeasures, channel: any, streamId: string, mayLeaveOut: boolean, onNamed: () => void}} props */
function Row({ app, speaker, channel, streamId, mayLeaveOut, onNamed }) {
  const { t, format } = app;
  const name = speakerName(app, speaker.name, channel);
  const { index } = channel.spec;
  const about = speaker.same_as ? t("stream.speakers.same_as", { name: speakerName(app, speaker.same_as, channel) }) : speaker.left_out ? t("stream.speakers.left_out") : "";
  return h(
    "tr",
    { "data-speaker": speaker.name },
    h("th", { scope: "row" }, h(SpeakerName, { app, speaker: speaker.name, channel, keep: (given) => app.api.nameSpeaker(streamId, index, speaker.name, given), onNamed }), about && h("span", { class: "badge" }, about)),
    h("td", { class: "number" }, `${format.clock(speaker.talk_s)} (${format.percent(speaker.talk_share)})`),
    h("td", {}, speaker.left_out ? "–" : shares(app, speaker)),
    mayLeaveOut && h("td", {}, h("button", { class: "button", type: "button", "aria-pressed": speaker.left_out, "aria-label": `${t("stream.speakers.is_agent")}: ${name}`, onClick: () => void leaveOut(app, streamId, index, speaker, name) }, t(speaker.left_out ? "stream.speakers.analyse" : "stream.speakers.is_agent"))),
  );
}

/** @param {import("../../shell/types.js").App} app @param {SpeakerMeasures} speaker */
function shares(app, { labels, unclear }) {
  const rest = unclear > 0 ? [[null, unclear]] : [];
  const all = [...Object.entries(labels), .../** @type {[null, number][]} */ (rest)].sort((one, other) => other[1] - one[1]);
  if (all.length === 0) return "–";
  return h(
    "div",
    { class: "speaker-shares" },
    h("div", { class: "speaker-bar", "aria-hidden": "true" }, all.map(([label, share]) => h("i", { class: hatchOf(label), style: { "--emotion": colourOf(label), flexGrow: share } }))),
    h("span", {}, all.slice(0, 3).map(([label, share]) => `${app.label(label)} ${app.format.percent(share)}`).join(" · ")),
  );
}

/** @param {import("../../shell/types.js").App} app @param {string} streamId @param {number} channel @param {SpeakerMeasures} speaker @param {string} shown its name */
async function leaveOut(app, streamId, channel, { name, left_out }, shown) {
  try {
    await app.api.leaveSpeakerOut(streamId, channel, name, !left_out);
    toast(app.t(left_out ? "stream.speakers.is_back" : "stream.speakers.is_out", { name: shown }));
  } catch (error) {
    toast(describeError(app, error), "error");
  }
}
