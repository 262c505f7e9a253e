"""Results of files as JSON; names and units are those of ``emotion-monitor analyze``.

A page is given no more than :data:`MAX_ROWS` frames of a channel: neighbours are averaged. The
downloads hold every one.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence

import msgspec
import numpy as np
import numpy.typing as npt

from dashboard.results.types import (
    AnalysisResult,
    ChannelResult,
    FrameRow,
    GapRow,
    Overall,
    PieceRow,
    PointRow,
    SegmentRow,
    SpeakerRow,
    TurnRow,
    WarningRow,
)
from ser_engine.files import (
    ChannelAnalysis,
    FileAnalysis,
    FrameResult,
    SpeakerResult,
    StreamResult,
    UtteranceSegment,
)
from ser_engine.schema import LabelName, ModelNotice

__all__ = [
    "DIGITS",
    "MAX_ROWS",
    "frame_chunks",
    "has_embedding",
    "json_chunks",
    "point_rows",
    "result_of",
]

MAX_ROWS = 6000
_RATE_HZ = 16_000
DIGITS = 6
_CHUNK = 2000
_SMOOTHING_S = 1.5
"""Frames are averaged over so long before they become segments, as in a live stream."""
_MIN_SEGMENT_S = 0.4

Matrix = npt.NDArray[np.float64]
_encode = msgspec.json.Encoder().encode


def result_of(analysis: FileAnalysis, *, max_rows: int | None = MAX_ROWS) -> AnalysisResult:
    """Return a result as JSON has it.

    Args:
        analysis: what was found.
        max_rows: of frames; None: all, 0: none.
    """
    model = analysis.model
    return AnalysisResult(
        name=analysis.name,
        granularity=analysis.options.granularity,
        model=ModelNotice(name=model.name, licence=model.licence, notice=model.notice),
        labels=tuple(
            LabelName(name=label.name, name_zh=label.name_zh) for label in model.labels.labels
        ),
        duration_s=round(analysis.duration_s, 3),
        sample_rate=analysis.rate_hz,
        frame_hop_ms=analysis.options.frame_hop_ms,
        has_embedding=all(has_embedding(one) for one in analysis.channels),
        channels=[
            _channel(index, channel, max_rows) for index, channel in enumerate(analysis.channels)
        ],
    )


def json_chunks(analysis: FileAnalysis) -> Iterator[bytes]:
    """Yield the whole result as JSON, every frame of it, without holding all of it at once."""
    head = result_of(analysis, max_rows=0)
    channels = head.channels
    text = _encode(msgspec.structs.replace(head, channels=[]))
    assert text.endswith(b'"channels":[]}'), "channels is the last field"
    yield text[:-2]
    for index, channel in enumerate(analysis.channels):
        before = b"," if index else b""
        if not isinstance(channel.result, FrameResult):
            yield before + _encode(channels[index])
            continue
        body = _encode(channels[index])
        place = body.index(b'"frames":[]') + len(b'"frames":[')
        yield before + body[:place]
        for number, rows in enumerate(frame_chunks(channel.result)):
            yield (b"," if number else b"") + _encode(rows)[1:-1]
        yield body[place:]
    yield b"]}"


def has_embedding(channel: ChannelAnalysis) -> bool:
    """Return whether a channel has embeddings: an utterance, or frames if they were asked for."""
    match channel.result:
        case FrameResult(embeddings=embeddings):
            return embeddings is not None
        case StreamResult():
            return False
        case _:
            return True


def _channel(index: int, channel: ChannelAnalysis, max_rows: int | None) -> ChannelResult:
    whole = ChannelResult(
        channel=index,
        overall=_overall(channel),
        warnings=[
            WarningRow(code=one.code, message=one.message, at_s=round(one.at_s, 3))
            for one in channel.warnings
        ],
        pieces=[_piece(one) for one in channel.segments],
        speakers=[_speaker(one, channel.result.labels) for one in channel.speakers],
    )
    match channel.result:
        case FrameResult() as frames:
            rows = [] if max_rows == 0 else _frames(frames, max_rows)
            return msgspec.structs.replace(whole, frames=rows, segments=_segments(frames))
        case StreamResult() as stream:
            return msgspec.structs.replace(
                whole,
                points=point_rows(stream),
                segments=[
                    SegmentRow(
                        start=one.start_s,
                        end=one.end_s,
                        emotion=one.label,
                        confidence=round(one.confidence, DIGITS),
                    )
                    for one in stream.segments
                ],
                gaps=[
                    GapRow(start=one.start_s, end=one.end_s, reason=one.reason)
                    for one in stream.gaps
                ],
            )
        case _:
            return whole


def _piece(one: UtteranceSegment) -> PieceRow:
    confidence = None if one.confidence is None else round(one.confidence, DIGITS)
    return PieceRow(
        start=round(one.start_s, 3),
        end=round(one.end_s, 3),
        speech=one.has_speech,
        emotion=one.emotion,
        confidence=confidence,
        scores=None if one.posteriors is None else _scores(one.labels, one.posteriors),
        speaker=one.speaker,
    )


def _speaker(one: SpeakerResult, labels: Sequence[str]) -> SpeakerRow:
    return SpeakerRow(
        speaker=one.speaker,
        turns=[TurnRow(start=turn.start_s, end=turn.end_s) for turn in one.turns],
        speech_s=round(one.speech_s, 3),
        emotion=one.emotion,
        confidence=round(one.confidence, DIGITS),
        scores=_scores(labels, one.posteriors),
    )


def _overall(channel: ChannelAnalysis) -> Overall | None:
    one = channel.overall
    if one is None:
        return None
    level = round(one.level_dbfs, 1) if math.isfinite(one.level_dbfs) else None
    return _strongest(one.labels, one.posteriors, level)


def _strongest(labels: Sequence[str], posteriors: Matrix, level_dbfs: float | None) -> Overall:
    best = int(posteriors.argmax())
    return Overall(
        emotion=labels[best],
        confidence=round(float(posteriors[best]), DIGITS),
        scores=_scores(labels, posteriors),
        level_dbfs=level_dbfs,
    )


def _frames(result: FrameResult, max_rows: int | None) -> list[FrameRow]:
    num_frames = len(result.posteriors)
    size = 1 if max_rows is None else max(1, math.ceil(num_frames / max_rows))
    if size == 1:
        return _rows(result, result.posteriors, 0, 1)
    means = np.add.reduceat(result.posteriors, np.arange(0, num_frames, size), axis=0)
    means /= np.diff(np.append(np.arange(0, num_frames, size), num_frames))[:, None]
    return _rows(result, means, 0, size)


def frame_chunks(result: FrameResult) -> Iterator[list[FrameRow]]:
    """Yield every frame, some at a time."""
    for start in range(0, len(result.posteriors), _CHUNK):
        yield _rows(result, result.posteriors[start : start + _CHUNK], start, 1)


def _rows(result: FrameResult, posteriors: Matrix, first: int, size: int) -> list[FrameRow]:
    """Return rows of ``size`` frames each, the first of which is number ``first``."""
    hop_s = result.hop_samples / _RATE_HZ
    winners = posteriors.argmax(axis=1)
    num_frames = len(result.posteriors)
    rows = []
    for index, (winner, row) in enumerate(zip(winners, posteriors.tolist(), strict=True)):
        start = first + index * size
        rows.append(
            FrameRow(
                time=round(start * hop_s, 3),
                end=round(min(start + size, num_frames) * hop_s, 3),
                emotion=result.labels[winner],
                score=round(row[winner], DIGITS),
                scores={
                    label: round(value, DIGITS)
                    for label, value in zip(result.labels, row, strict=True)
                },
            )
        )
    return rows


def point_rows(result: StreamResult) -> list[PointRow]:
    """Return every point."""
    return [
        PointRow(
            start=one.start_s,
            end=one.end_s,
            emotion=one.label,
            confidence=round(one.confidence, DIGITS),
            speech_share=round(one.speech_share, DIGITS),
            provisional=one.provisional,
            widened=one.widened,
            scores=_scores(result.labels, np.array(one.posteriors)),
        )
        for one in result.points
    ]


def _segments(result: FrameResult) -> list[SegmentRow]:
    """Return spans of one label: of frames averaged over 1.5 s, none shorter than 0.4 s."""
    hop_s = result.hop_samples / _RATE_HZ
    half = max(1, round(_SMOOTHING_S / hop_s / 2))
    num_frames = len(result.posteriors)
    sums = np.vstack([np.zeros(result.posteriors.shape[1]), result.posteriors.cumsum(axis=0)])
    ends = np.minimum(np.arange(num_frames) + half + 1, num_frames)
    starts = np.maximum(np.arange(num_frames) - half, 0)
    smooth = (sums[ends] - sums[starts]) / (ends - starts)[:, None]
    winners = smooth.argmax(axis=1)
    bounds = [0, *(np.flatnonzero(np.diff(winners)) + 1).tolist(), num_frames]
    runs: list[list[int]] = []  # label, first frame, end
    for begin, end in itertools.pairwise(bounds):
        is_short = (end - begin) * hop_s < _MIN_SEGMENT_S
        if runs and (is_short or runs[-1][0] == winners[begin]):
            runs[-1][2] = end
        else:
            runs.append([int(winners[begin]), begin, end])
    return [
        SegmentRow(
            start=round(begin * hop_s, 3),
            end=round(end * hop_s, 3),
            emotion=result.labels[label],
            confidence=round(float(result.posteriors[begin:end, label].mean()), DIGITS),
        )
        for label, begin, end in runs
    ]


def _scores(labels: Sequence[str], posteriors: Matrix) -> dict[str, float]:
    return {
        label: round(value, DIGITS)
        for label, value in zip(labels, posteriors.tolist(), strict=True)
    }
