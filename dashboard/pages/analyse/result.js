/** The server's JSON of an analysis, as the page shows it. */

/**
 * @typedef {object} ChannelView
 * @property {number} index
 * @property {number} durationS
 * @property {string[]} labels
 * @property {{label: string | null, confidence: number, scores: Record<string, number>} | null} overall
 * @property {import("../../shell/whole.js").Whole | null} whole  null: there is one result for all of it
 * @property {{times: number[], ends: number[], values: Record<string, number[]>} | null} series
 *   frames or points; of an utterance its pieces, if it has several
 * @property {boolean} isPieces  whether the series is that of pieces
 * @property {any[]} segments  with a label, for the ribbon
 * @property {any[]} spans  segments and gaps in order of time
 * @property {any[]} pieces  cut in pauses; none where there is but one
 * @property {any[]} speakers
 * @property {{code: string, message: string}[]} warnings
 *
 * @typedef {object} ResultView
 * @property {string} granularity
 * @property {number} durationS
 * @property {number} rateHz
 * @property {number} frameHopMs
 * @property {{name: string, licence: string, notice: string}} model
 * @property {boolean} hasEmbedding
 * @property {import("../../shell/measures.js").Measures | null} measures
 * @property {ChannelView[]} channels
 */

/** @returns {ResultView} */
export function readResult(result) {
  const labels = result.labels.map((label) => label.name);
  return {
    granularity: result.granularity,
    durationS: result.duration_s,
    rateHz: result.sample_rate,
    frameHopMs: result.frame_hop_ms,
    model: result.model,
    hasEmbedding: result.has_embedding,
    measures: result.measures ?? null,
    channels: result.channels.map((channel) => readChannel(channel, labels, result.duration_s)),
  };
}

function readChannel(channel, labels, durationS) {
  const pieces = channel.pieces.length > 1 ? channel.pieces.map(readPiece) : [];
  const rows = channel.frames ? frameRows(channel.frames, durationS) : channel.points;
  const isTimeline = channel.frames !== null || rows.length > 0;
  const scored = rows.length ? rows : channel.pieces.length > 1 ? channel.pieces.filter((piece) => piece.posteriors) : [];
  const segments = channel.segments.length || isTimeline ? channel.segments : pieces.filter((piece) => piece.posteriors);
  return {
    index: channel.channel,
    durationS,
    labels,
    overall: channel.overall && {
      label: channel.overall.label,
      confidence: channel.overall.confidence,
      scores: Object.fromEntries(labels.map((label, index) => [label, channel.overall.posteriors[index]])),
    },
    // One result for all of it has no shares to speak of.
    whole: isTimeline || pieces.length ? (channel.whole ?? null) : null,
    series: readSeries(scored, labels),
    isPieces: !isTimeline,
    segments,
    spans: isTimeline ? [...segments, ...channel.gaps].sort((one, other) => one.start_s - other.start_s) : [],
    pieces,
    speakers: channel.speakers,
    warnings: channel.warnings,
  };
}

function readPiece(piece) {
  return { ...piece, reason: piece.has_speech ? "error" : "silence" };
}

// Frames come column by column; the last one may end after the recording.
function frameRows(frames, durationS) {
  const rateHz = 16000;
  const rows = frames.start_samples.map((start, index) => ({
    start_s: start / rateHz,
    end_s: Math.min((start + frames.hop_samples) / rateHz, durationS),
    posteriors: frames.posteriors[index],
  }));
  // What the model says of silence means nothing, and is drawn as what it is: nothing.
  return rows.filter((_, index) => (frames.speech?.[index] ?? 1) > 0);
}

function readSeries(rows, labels) {
  if (rows.length === 0) return null;
  return {
    times: rows.map((row) => row.start_s),
    ends: rows.map((row) => row.end_s),
    values: Object.fromEntries(labels.map((label, index) => [label, rows.map((row) => row.posteriors[index])])),
  };
}

/** @param {import("../../shell/types.js").App} app @param {number} index counted from 0, as in the downloads */
export function channelTitle(app, index) {
  return app.t("common.channel", { n: index });
}
