/** The server's JSON of an analysis, as the page shows it. */

/**
 * @typedef {object} ChannelView
 * @property {number} index
 * @property {number} durationS
 * @property {string[]} labels
 * @property {{label: string, confidence: number, scores: Record<string, number>} | null} overall
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
    channels: result.channels.map((channel) => readChannel(channel, labels, result.duration_s)),
  };
}

function readChannel(channel, labels, durationS) {
  const pieces = channel.pieces.length > 1 ? channel.pieces.map(readPiece) : [];
  const rows = channel.frames.length ? channel.frames : channel.points;
  const scored = rows.length ? rows : channel.pieces.length > 1 ? channel.pieces.filter((piece) => piece.scores) : [];
  const segments = channel.segments.length || rows.length ? channel.segments.map(readSegment) : pieces.filter((piece) => piece.label);
  const gaps = channel.gaps.map((gap) => ({ start_s: gap.start, end_s: gap.end, reason: gap.reason }));
  return {
    index: channel.channel,
    durationS,
    labels,
    overall: channel.overall && {
      label: channel.overall.emotion,
      confidence: channel.overall.confidence,
      scores: channel.overall.scores,
    },
    series: readSeries(scored, labels),
    isPieces: rows.length === 0,
    segments,
    spans: rows.length ? [...segments, ...gaps].sort((one, other) => one.start_s - other.start_s) : [],
    pieces,
    speakers: channel.speakers,
    warnings: channel.warnings,
  };
}

function readSegment(segment) {
  return { start_s: segment.start, end_s: segment.end, label: segment.emotion, confidence: segment.confidence };
}

function readPiece(piece) {
  return { ...readSegment(piece), reason: piece.speech ? "error" : "silence", speaker: piece.speaker };
}

function readSeries(rows, labels) {
  if (rows.length === 0) return null;
  return {
    times: rows.map((row) => row.start ?? row.time),
    ends: rows.map((row) => row.end),
    values: Object.fromEntries(labels.map((label) => [label, rows.map((row) => row.scores[label])])),
  };
}

/** @param {import("../../shell/types.js").App} app @param {number} index */
export function channelTitle(app, index) {
  return app.t("common.channel", { n: index + 1 });
}
