"""Results of files, as JSON has them."""

from __future__ import annotations

import msgspec

from ser_engine.files import Granularity, WarningCode
from ser_engine.schema import LabelName, ModelNotice

__all__ = [
    "AnalysisResult",
    "ChannelResult",
    "FrameRow",
    "GapRow",
    "Overall",
    "PieceRow",
    "PointRow",
    "SegmentRow",
    "SpeakerRow",
    "TurnRow",
    "WarningRow",
]


class Overall(msgspec.Struct, frozen=True, kw_only=True):
    """A whole channel.

    Attributes:
        emotion: the strongest class.
        confidence: its posterior, 0 to 1.
        scores: posteriors of all classes.
        level_dbfs: RMS level, dB of full scale; None: digital silence, or not known.
    """

    emotion: str
    confidence: float
    scores: dict[str, float]
    level_dbfs: float | None


class FrameRow(msgspec.Struct, frozen=True, kw_only=True):
    """A frame, or the mean of several.

    Attributes:
        time, end: s.
        emotion: the strongest class.
        score: its posterior, 0 to 1.
        scores: of all classes.
    """

    time: float
    end: float
    emotion: str
    score: float
    scores: dict[str, float]


class PointRow(msgspec.Struct, frozen=True, kw_only=True):
    """What a live stream of the recording would have published; times in s."""

    start: float
    end: float
    emotion: str
    confidence: float
    speech_share: float
    provisional: bool
    widened: bool
    scores: dict[str, float]


class SegmentRow(msgspec.Struct, frozen=True, kw_only=True):
    """Consecutive time with one label; times in s."""

    start: float
    end: float
    emotion: str
    confidence: float


class GapRow(msgspec.Struct, frozen=True, kw_only=True):
    """Consecutive time without a result; times in s."""

    start: float
    end: float
    reason: str


class PieceRow(msgspec.Struct, frozen=True, kw_only=True):
    """A piece of a recording, cut in a pause, with a result of its own; times in s.

    Attributes:
        start, end: it lies there.
        speech: whether there is any in it; if not, the rest is None.
        emotion: the strongest class.
        confidence: its posterior, 0 to 1.
        scores: posteriors of all classes.
        speaker: who speaks, where that was asked for.
    """

    start: float
    end: float
    speech: bool
    emotion: str | None
    confidence: float | None
    scores: dict[str, float] | None
    speaker: str | None


class TurnRow(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody speaks; times in s."""

    start: float
    end: float


class SpeakerRow(msgspec.Struct, frozen=True, kw_only=True):
    """One speaker of a channel.

    Attributes:
        speaker: a name, unique in the channel.
        turns: when they spoke, in order.
        speech_s: how long, all turns together.
        emotion, confidence, scores: of all they said.
    """

    speaker: str
    turns: list[TurnRow]
    speech_s: float
    emotion: str
    confidence: float
    scores: dict[str, float]


class WarningRow(msgspec.Struct, frozen=True, kw_only=True):
    """What is wrong with the audio.

    Attributes:
        code: what.
        message: for people, with figures and units.
        at_s: where it was first noticed, s.
    """

    code: WarningCode
    message: str
    at_s: float


class ChannelResult(msgspec.Struct, frozen=True, kw_only=True):
    """One channel.

    Attributes:
        channel: its index, from 0.
        overall: of all of it, its pieces with speech weighted by their length; None: nothing of it
            could be scored.
        warnings: about its audio.
        pieces: no longer than a forward pass; one where the recording is shorter.
        speakers: where they were asked for.
        frames: with ``frame``.
        points: with ``stream``.
        segments, gaps: with ``frame`` and ``stream``; ``frame`` knows no gaps.
    """

    channel: int
    overall: Overall | None
    warnings: list[WarningRow]
    pieces: list[PieceRow] = []
    speakers: list[SpeakerRow] = []
    frames: list[FrameRow] = []
    points: list[PointRow] = []
    segments: list[SegmentRow] = []
    gaps: list[GapRow] = []


class AnalysisResult(msgspec.Struct, frozen=True, kw_only=True):
    """A whole file.

    Attributes:
        name: what its owner calls it.
        granularity: what was asked for.
        model, labels: what scored it, and the classes it knows.
        duration_s: of the recording.
        sample_rate: of the file, Hz.
        frame_hop_ms: from frame to frame.
        has_embedding: whether ``embedding.npy`` can be had.
        channels: in their order.
    """

    name: str
    granularity: Granularity
    model: ModelNotice
    labels: tuple[LabelName, ...]
    duration_s: float
    sample_rate: int
    frame_hop_ms: int
    has_embedding: bool
    channels: list[ChannelResult]
