"""Results of files, as JSON has them."""

from __future__ import annotations

import msgspec

from ser_engine.offline import Granularity, WarningCode
from stream_server.protocol.message_base import ModelNotice
from stream_server.protocol.server_messages import LabelName

__all__ = [
    "AnalysisResult",
    "ChannelResult",
    "FrameRow",
    "GapRow",
    "Overall",
    "PointRow",
    "QualityWarning",
    "SegmentRow",
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


class QualityWarning(msgspec.Struct, frozen=True, kw_only=True):
    """What is wrong with the audio of a channel.

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
        overall: of all of it; None: there was no speech.
        frames: with ``frame``.
        points: with ``stream``.
        segments, gaps: with ``frame`` and ``stream``; ``frame`` knows no gaps.
        warnings: about its audio.
    """

    channel: int
    overall: Overall | None
    warnings: tuple[QualityWarning, ...]
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
        has_embedding: whether ``embedding.npy`` can be had.
        channels: in their order.
    """

    name: str
    granularity: Granularity
    model: ModelNotice
    labels: tuple[LabelName, ...]
    duration_s: float
    sample_rate: int
    has_embedding: bool
    channels: list[ChannelResult]
