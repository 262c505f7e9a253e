"""Results: what is published about a stream, the same bytes wherever they go.

Positions are sample indices of the stream's clock, 16 kHz from its first sample; ``start_s``,
``end_s`` and ``at_s`` say the same in seconds.
"""

from __future__ import annotations

from typing import Literal

import msgspec


class Message(msgspec.Struct, frozen=True, kw_only=True, tag_field="type"):
    """JSON object with a ``type``; unknown fields are ignored."""


class ModelNotice(msgspec.Struct, frozen=True, kw_only=True):
    """The model that scores a stream.

    Attributes:
        name: e.g. ``emotion2vec_plus_base``.
        licence: of its weights.
        notice: what must be said wherever it is in use, or "".
    """

    name: str
    licence: str
    notice: str = ""


class StreamChannel(msgspec.Struct, frozen=True, kw_only=True):
    """One channel as the server sees it.

    Attributes:
        index: number of the channel, from 0.
        analysed: False: its role is not analysed, there are no results for it.
    """

    index: int
    role: str
    name: str
    analysed: bool


WarningCode = Literal[
    "clipping",
    "too_quiet",
    "noisy",
    "narrow_band",
    "faster_than_real_time",
    "results_dropped",
    "packet_loss",
    "clock_drift",
]
Severity = Literal["info", "warning", "critical"]
AlertState = Literal["raised", "cleared"]
CloseReason = Literal[
    "stopped",  # the client asked
    "client_lost",  # it did not come back in time
    "idle",
    "too_long",
    "too_many_messages",
    "slow_consumer",
    "protocol_error",
    "server_stopped",
    "engine_failed",
    "internal",
]
"""Why a stream ended."""


class StreamResult(Message, frozen=True, kw_only=True):
    """About a stream.

    Attributes:
        stream_id: which one.
        seq: number of the result in its stream, from 0, without holes.
    """

    stream_id: str
    seq: int


class SpanResult(StreamResult, frozen=True, kw_only=True):
    """About a span of one channel.

    Attributes:
        channel: its index.
        role: its role.
        start_sample: first sample, on the stream's 16 kHz clock.
        end_sample: end, not included.
        start_s, end_s: the same in seconds.
    """

    channel: int
    role: str
    start_sample: int
    end_sample: int
    start_s: float
    end_s: float


class Frames(msgspec.Struct, frozen=True, kw_only=True):
    """The speech frames of a point; silent ones are left out.

    Attributes:
        start_samples: where each frame starts on the stream's clock.
        hop_samples: length of a frame's cell: 320 (20 ms) or 160.
        posteriors: ``(frames, classes)``, pooled over the trailing span.
        labels: the label believed at each frame.
    """

    start_samples: tuple[int, ...]
    hop_samples: int
    posteriors: tuple[tuple[float, ...], ...]
    labels: tuple[str, ...]


class Point(SpanResult, tag="point", frozen=True, kw_only=True):
    """The state of one channel, for every step with speech in it.

    Attributes:
        posteriors: one value a class, 0 to 1, in the order of ``labels`` in ``ready``.
        label: the stable label.
        confidence: posterior of ``label``, 0 to 1.
        speech_share: speech frames over all frames, above 0, at most 1.
        provisional: from less audio than a sound result takes.
        widened: the server was overloaded: this point tells of more than one step.
        narrow_band: the audio holds nothing above 4 kHz, as on the telephone.
        model: which model made it.
        frames: where they were asked for.
    """

    posteriors: tuple[float, ...]
    label: str
    confidence: float
    speech_share: float
    provisional: bool
    widened: bool
    narrow_band: bool
    model: str
    frames: Frames | None = None


class Segment(SpanResult, tag="segment", frozen=True, kw_only=True):
    """Consecutive time with one stable label.

    Attributes:
        label: name of the class.
        confidence: mean posterior of ``label``, 0 to 1.
        final: False while it goes on: a later one with the same channel and start replaces it.
    """

    label: str
    confidence: float
    final: bool


class Gap(SpanResult, tag="gap", frozen=True, kw_only=True):
    """Consecutive time without a result.

    Attributes:
        reason: ``silence``, ``too_short``, ``overload``, ``error``, ``paused``, ``discarded`` or
            ``lost``.
        final: as for :class:`Segment`.
    """

    reason: str
    final: bool


class Marked(StreamResult, tag="marked", frozen=True, kw_only=True):
    """A client's ``mark``, at its position in the audio."""

    name: str
    at_sample: int
    at_s: float


class Flushed(StreamResult, tag="flushed", frozen=True, kw_only=True):
    """Everything up to here is published, as ``flush`` asked."""

    at_sample: int
    at_s: float


class Alert(StreamResult, tag="alert", frozen=True, kw_only=True):
    """A rule of the settings holds, or holds no more.

    Attributes:
        alert_id: names the alert; raised and cleared carry the same.
        rule: name of the rule.
        state: ``raised`` or ``cleared``.
        severity: of the rule.
        channel, role: where.
        labels: the labels the rule watches.
        posterior: sum of their smoothed posteriors when it was raised or cleared, 0 to 1.
        since_sample: where the condition began to hold, on the stream's clock.
        at_sample: where it was raised or cleared.
        since_s, at_s: the same in seconds.
    """

    alert_id: str
    rule: str
    state: AlertState
    severity: Severity
    channel: int
    role: str
    labels: tuple[str, ...]
    posterior: float
    since_sample: int
    at_sample: int
    since_s: float
    at_s: float


class Warning(StreamResult, tag="warning", frozen=True, kw_only=True):
    """The audio or the client is not as it should be; results may be worse.

    Attributes:
        code: for programs.
        channel: which channel; None: the stream as a whole.
        message: for people, with figures and units.
        at_s: where, on the stream's clock.
    """

    code: WarningCode
    channel: int | None
    message: str
    at_s: float


class ChannelSummary(msgspec.Struct, frozen=True, kw_only=True):
    """One analysed channel of a stream that has ended.

    Attributes:
        scored_s: time in final segments.
        label_s: seconds of segments by label.
        gap_s: seconds of gaps by reason.
        points: number of points.
    """

    channel: int
    role: str
    scored_s: float
    label_s: dict[str, float]
    gap_s: dict[str, float]
    points: int


class Summary(StreamResult, tag="summary", frozen=True, kw_only=True):
    """The last result of a stream.

    Attributes:
        reason: why it ended.
        duration_s: length of the stream's clock.
        received_samples: samples a channel at the client's rate.
        channels: the analysed ones.
        alerts: number of alerts raised.
    """

    reason: CloseReason
    duration_s: float
    received_samples: int
    channels: tuple[ChannelSummary, ...]
    alerts: int


class StreamOpened(StreamResult, tag="stream_opened", frozen=True, kw_only=True):
    """The first result of a stream; feeds, store and dashboard get it, the client has ``ready``.

    Attributes:
        name: of the stream.
        channels: all of them.
        model: what scores it.
        labels: names of the classes, in the order of ``posteriors``.
        metadata: what the client gave.
        sample_rate: of the client's audio, Hz.
        encoding: of the client's audio.
        step_ms: time between points.
        opened_at: when, seconds since 1970, UTC.
    """

    name: str
    channels: tuple[StreamChannel, ...]
    model: ModelNotice
    labels: tuple[str, ...]
    metadata: dict[str, str]
    sample_rate: int
    encoding: str
    step_ms: int
    opened_at: float


class StreamClosed(StreamResult, tag="stream_closed", frozen=True, kw_only=True):
    """A stream has ended; feeds, store and dashboard get it after ``summary``.

    Attributes:
        reason: why.
        closed_at: when, seconds since 1970, UTC.
    """

    reason: CloseReason
    closed_at: float


Result = (
    StreamOpened
    | Point
    | Segment
    | Gap
    | Marked
    | Flushed
    | Alert
    | Warning
    | Summary
    | StreamClosed
)
"""What is published about a stream, in order of ``seq``."""
