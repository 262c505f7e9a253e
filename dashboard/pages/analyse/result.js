/** The server's JSON of an analysis, as the page shows it. */
import { Timeline } from "../../shell/chart/timeline.js";

const RATE_HZ = 16_000;

/**
 * @typedef {object} ChannelView
 * @property {number} index
 * @property {string[]} labels
 * @property {{label: string | null, confidence: number, scores: Record<string, number>} | null} overall
 * @property {import("../../shell/whole.js").Whole | null} whole  null: there is one result for all of it
 * @property {any[]} speakers
 * @property {Record<string, string>} names  what people call them
 * @property {{}} same_as  nobody turned out to be another one: they are told apart at the end
 * @property {{code: string, message: string}[]} warnings
 *
 * @typedef {object} ResultView
 * @property {string} granularity
 * @property {number} durationS
 * @property {number} rateHz
 * @property {number} frameHopMs
 * @property {{name: string, licence: string, notice: string}} model
 * @property {boolean} hasEmbedding
 * @property {boolean} [hasAudio]  whether the server kept the audio
 * @property {import("../../shell/measures.js").Measures | null} measures
 * @property {Timeline | null} timeline  null: there is one result for all of it
 * @property {ChannelView[]} channels
 */

/**
 * @param {import("../../shell/types.js").App} app @param {any} result
 * @param {(channel: number, from_s: number, to_s: number) => Promise<any>} readFrames
 * @param {Record<string, Record<string, string>>} [called] what people call its speakers, by channel
 * @returns {ResultView}
 */
export function readResult(app, result, readFrames, called = {}) {
  const labels = result.labels.map((label) => label.name);
  const names = new Map(result.channels.map(({ channel }) => [channel, { ...called[channel] }]));
  const timeline = timelineOf(app, result, labels, names);
  // More than the page was given: it reads them again where one looks closely.
  if (timeline && result.channels.some(({ frames }) => frames && frames.hop_samples > (result.frame_hop_ms * RATE_HZ) / 1000)) {
    timeline.source = {
      finest_s: result.frame_hop_ms / 1000,
      most: MOST_FRAMES,
      read: async (channel, from_s, to_s) => frameRows(await readFrames(channel, from_s, to_s), labels, result.duration_s),
    };
  }
  return {
    granularity: result.granularity,
    durationS: result.duration_s,
    rateHz: result.sample_rate,
    frameHopMs: result.frame_hop_ms,
    model: result.model,
    hasEmbedding: result.has_embedding,
    measures: result.measures ?? null,
    timeline,
    channels: result.channels.map((channel) => readChannel(channel, labels, timeline !== null, names.get(channel.channel) ?? {})),
  };
}

/** As many the server gives at once, see `pages/analyse/results.py`. */
const MOST_FRAMES = 3000;

function readChannel(channel, labels, hasCourse, names) {
  return {
    index: channel.channel,
    labels,
    overall: channel.overall && {
      label: channel.overall.label,
      confidence: channel.overall.confidence,
      scores: Object.fromEntries(labels.map((label, index) => [label, channel.overall.posteriors[index]])),
    },
    // One result for all of it has no shares to speak of.
    whole: hasCourse ? (channel.whole ?? null) : null,
    speakers: channel.speakers,
    names,
    same_as: {},
    warnings: channel.warnings,
  };
}

/** @returns {Timeline | null} */
function timelineOf(app, result, labels, names) {
  const several = result.channels.length > 1;
  const spec = ({ channel, role }) => ({ index: channel, role, name: several ? channelTitle(app, channel) : "", analysed: true });
  const timeline = new Timeline(result.channels.map(spec), labels);
  timeline.closed = true;
  timeline.end_s = result.duration_s;
  let isCourse = false;
  for (const channel of result.channels) {
    const known = /** @type {import("../../shell/chart/timeline.js").ChannelTimeline} */ (timeline.channels.get(channel.channel));
    const rows = channel.frames ? frameRows(channel.frames, labels, result.duration_s) : channel.points;
    const hasPieces = rows.length === 0 && channel.pieces.length > 1;
    known.is_stepped = hasPieces;
    known.names = names.get(channel.channel) ?? {};
    const turns = channel.speakers.flatMap(({ name, turns }) => turns.map(({ start_s, end_s }) => ({ start_s, end_s, speaker: name })));
    known.setTurns(turns.sort((one, other) => one.start_s - other.start_s));
    for (const row of hasPieces ? channel.pieces.filter((piece) => piece.posteriors) : rows) known.addPoint({ speech_share: 1, ...row });
    const spans = hasPieces ? channel.pieces.map(spanOfPiece) : [...channel.segments.map((one) => ({ type: "segment", ...one })), ...channel.gaps.map((one) => ({ type: "gap", ...one }))];
    spans.sort((one, other) => one.start_s - other.start_s);
    for (const span of spans) known.addSpan(span);
    isCourse ||= rows.length > 0 || hasPieces || channel.frames !== null;
  }
  return isCourse ? timeline : null;
}

function spanOfPiece(piece) {
  return piece.posteriors ? { type: "segment", ...piece } : { type: "gap", ...piece, reason: piece.has_speech ? "error" : "silence" };
}

/** Frames come column by column; the last one may end after the recording. */
function frameRows(frames, labels, durationS) {
  const rows = frames.start_samples.map((start, index) => {
    const posteriors = frames.posteriors[index];
    const confidence = Math.max(...posteriors);
    return {
      start_s: start / RATE_HZ,
      end_s: Math.min((start + frames.hop_samples) / RATE_HZ, durationS),
      posteriors,
      label: labels[posteriors.indexOf(confidence)],
      confidence,
      speech_share: frames.speech?.[index] ?? 1,
    };
  });
  // What the model says of silence means nothing, and is drawn as what it is: nothing.
  return rows.filter(({ speech_share }) => speech_share > 0);
}

/** @param {import("../../shell/types.js").App} app @param {number} index counted from 0, as in the downloads */
export function channelTitle(app, index) {
  return app.t("common.channel", { n: index });
}
