"""What the analysis of a file gives, as it is kept until somebody fetches it."""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec

from ser_engine.offline import FrameResult, Result, StreamResult, UtteranceResult
from stream_server.protocol.message_base import ModelNotice
from stream_server.protocol.server_messages import LabelName

__all__ = ["Analysis", "ChannelAnalysis", "QualityWarning"]


class QualityWarning(msgspec.Struct, frozen=True, kw_only=True):
    """What is wrong with the audio.

    Attributes:
        code: ``clipping``, ``too_quiet``, ``noisy``, ``narrow_band``, ``silent``, ``short``.
        message: for people, with figures and units.
        at_s: where it was noticed, s.
    """

    code: str
    message: str
    at_s: float


@dataclass(frozen=True, slots=True)
class ChannelAnalysis:
    """One channel of a file.

    Attributes:
        result: of the granularity asked for.
        overall: of the whole channel; the same object where that is what was asked for.
        warnings: about its audio.
    """

    result: Result
    overall: UtteranceResult | None
    warnings: tuple[QualityWarning, ...] = field(default=())

    @property
    def num_bytes(self) -> int:
        """About how much memory it takes."""
        match self.result:
            case UtteranceResult():
                return 16_384
            case FrameResult(logits=logits, posteriors=posteriors, embeddings=embeddings):
                extra = 0 if embeddings is None else embeddings.nbytes
                return int(logits.nbytes + posteriors.nbytes + extra) + 16_384
            case StreamResult(points=points, segments=segments, gaps=gaps):
                return 1000 * (len(points) + len(segments) + len(gaps)) + 16_384


@dataclass(frozen=True, slots=True)
class Analysis:
    """A whole file.

    Attributes:
        model: that scored it.
        labels: its classes, in the order of posteriors.
        duration_s: of the file.
        rate_hz: of its audio.
        channels: in their order; never mixed.
    """

    model: ModelNotice
    labels: tuple[LabelName, ...]
    duration_s: float
    rate_hz: int
    channels: tuple[ChannelAnalysis, ...]

    @property
    def num_bytes(self) -> int:
        """About how much memory it takes."""
        return sum(channel.num_bytes for channel in self.channels)
