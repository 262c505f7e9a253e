/**
 * A conversation in figures, the same for streams and files: who talks how much, who interrupts
 * whom, how fast, how loud and how high, and how that differs from the speaker's own start.
 *
 * @typedef {{speech_s: number, level_dbfs: number | null, syllables_per_s: number | null, pitch_hz: number | null, pitch_range_st: number | null}} Voice
 * @typedef {{channel: number, role: string, talk_s: number, talk_share: number, turns: number, longest_turn_s: number, interruptions: number, interrupted: number, interrupted_lately: number, voice: Voice | null, start: Voice | null, recent: Voice | null}} ChannelMeasures
 * @typedef {{at_s: number, silence_s: number, overlap_s: number, missing_s: number, channels: ChannelMeasures[]}} Measures
 */
import { h } from "./preact.js";

const TALK = ["talk"];
const TURNS = new Set(["turns", "longest_turn"]);
/** Of one channel alone they say nothing: who answers is not heard, so a single turn lasts for all of it. */
const TURN_TAKING = ["turns", "longest_turn", "interruptions", "interrupted"];
const VOICE = ["rate", "level", "pitch", "range"];

/**
 * @param {object} props
 * @param {import("./types.js").App} props.app @param {Measures} props.measures @param {(channel: number) => string} props.nameOf
 * @param {Set<number>} [props.shared] channels in which several people were told apart: whose turns they are is said elsewhere
 */
export function MeasuresView({ app, measures, nameOf, shared = new Set() }) {
  const { t, format } = app;
  const { channels } = measures;
  const several = channels.length > 1;
  const hasVoice = channels.some((channel) => channel.voice !== null);
  const rows = [...TALK, ...(several ? TURN_TAKING : []), ...(hasVoice ? VOICE : [])];
  const share = (/** @type {number} */ seconds) => (measures.at_s > 0 ? ` (${format.percent(seconds / measures.at_s)})` : "");
  return h(
    "section",
    { class: "card measures", "aria-label": t("measures.title"), "data-testid": "measures" },
    h("h2", {}, t("measures.title")),
    h(
      "p",
      { class: "muted number measures-whole" },
      h("span", {}, t("measures.silence", { time: format.clock(measures.silence_s) + share(measures.silence_s) })),
      several && h("span", {}, t("measures.overlap", { time: format.clock(measures.overlap_s) + share(measures.overlap_s) })),
    ),
    h(
      "div",
      { class: "table-box", tabindex: 0, role: "group", "aria-label": t("measures.title") },
      h(
        "table",
        {},
        h("thead", {}, h("tr", {}, h("td"), channels.map(({ channel }) => h("th", { scope: "col" }, nameOf(channel))))),
        h(
          "tbody",
          {},
          rows.map((row) => h("tr", {}, h("th", { scope: "row", title: t(`measures.about.${row}`) }, t(`measures.${row}`)), channels.map((channel) => h("td", { class: "number", "data-testid": `measure-${row}-${channel.channel}` }, shared.has(channel.channel) && TURNS.has(row) ? "–" : cell(app, row, channel, several))))),
        ),
      ),
    ),
    shared.size > 0 && h("p", { class: "muted" }, t("measures.shared")),
    channels.some((channel) => channel.start !== null && channel.recent !== null) && h("p", { class: "muted" }, t("measures.note")),
  );
}

/** @param {import("./types.js").App} app @param {string} row @param {ChannelMeasures} channel @param {boolean} several */
function cell(app, row, channel, several) {
  const { t, format } = app;
  switch (row) {
    case "talk":
      return format.clock(channel.talk_s) + (several ? ` (${format.percent(channel.talk_share)})` : "");
    case "turns":
      return format.count(channel.turns);
    case "longest_turn":
      return format.clock(channel.longest_turn_s);
    case "interruptions":
      return format.count(channel.interruptions);
    case "interrupted":
      return format.count(channel.interrupted) + (channel.interrupted_lately > 0 ? ` · ${t("measures.lately", { n: channel.interrupted_lately })}` : "");
    case "rate":
      return figure(channel, (voice) => voice.syllables_per_s, (value) => t("measures.per_s", { n: value.toFixed(1) }), (now, then) => `${signed(100 * (now / then - 1), 0)}\u202f%`);
    case "level":
      return figure(channel, (voice) => voice.level_dbfs, (value) => `${value.toFixed(0)}\u202fdBFS`, (now, then) => `${signed(now - then, 0)}\u202fdB`);
    case "pitch":
      return figure(channel, (voice) => voice.pitch_hz, (value) => `${value.toFixed(0)}\u202fHz`, (now, then) => t("measures.semitones", { n: signed(12 * Math.log2(now / then), 1) }));
    default:
      return figure(channel, (voice) => voice.pitch_range_st, (value) => t("measures.semitones", { n: value.toFixed(1) }), (now, then) => t("measures.semitones", { n: signed(now - then, 1) }));
  }
}

/**
 * What the voice was like, and how the newest of it differs from the speaker's start.
 * @param {ChannelMeasures} channel @param {(voice: Voice) => number | null} of
 * @param {(value: number) => string} text @param {(now: number, then: number) => string} change
 */
function figure(channel, of, text, change) {
  const value = channel.voice && of(channel.voice);
  if (value === null || value === undefined) return "–";
  const then = channel.start && of(channel.start);
  const now = channel.recent && of(channel.recent);
  return then === null || now === null ? text(value) : [text(value), " ", h("span", { class: "measures-change" }, change(now, then))];
}

/** @param {number} value @param {number} digits */
function signed(value, digits) {
  const text = Math.abs(value).toFixed(digits);
  return `${Number(text) === 0 ? "±" : value > 0 ? "+" : "−"}${text}`;
}
