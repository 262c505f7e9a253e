"""Results of streams for tests, with everything that does not matter filled in."""

from __future__ import annotations

from typing import Any

from ser_engine.schema import AlertState, ChannelSummary, CloseReason, ModelNotice
from stream_server.wire.results import (
    Alert,
    Gap,
    Marked,
    Point,
    Segment,
    StreamChannel,
    StreamClosed,
    StreamOpened,
    Summary,
    Warning,
)

__all__ = [
    "LABELS",
    "alert",
    "closed",
    "gap",
    "marked",
    "opened",
    "point",
    "segment",
    "summary",
    "warning",
    "without_envelope",
]


def without_envelope(result: Any) -> Any:
    """Return what a message says, whatever stream it is of: the engine's own struct."""
    kind: Any = type(result).__mro__[1]
    return kind(**{name: getattr(result, name) for name in kind.__struct_fields__})


LABELS = ("angry", "happy", "neutral", "sad")
ROLES = ("customer", "agent")
RATE = 16_000


def opened(stream_id: str = "s", seq: int = 0, *, name: str = "", at: float = 1e9) -> StreamOpened:
    return StreamOpened(
        stream_id=stream_id,
        seq=seq,
        name=name,
        channels=(
            StreamChannel(index=0, role="customer", name="left", analysed=True),
            StreamChannel(index=1, role="agent", name="right", analysed=False),
        ),
        model=ModelNotice(name="compact", licence="CC-BY-NC-SA-4.0", notice="A small model."),
        labels=LABELS,
        metadata={"queue": "sales"},
        sample_rate=8000,
        encoding="mulaw",
        step_ms=500,
        opened_at=at,
    )


def point(
    stream_id: str = "s",
    seq: int = 1,
    *,
    channel: int = 0,
    start: int = 0,
    end: int = 8000,
    posteriors: tuple[float, ...] = (0.5, 0.25, 0.125, 0.125),
) -> Point:
    return Point(
        stream_id=stream_id,
        seq=seq,
        channel=channel,
        role=ROLES[channel],
        start_sample=start,
        end_sample=end,
        start_s=start / RATE,
        end_s=end / RATE,
        posteriors=posteriors,
        label="angry",
        confidence=posteriors[0],
        speech_share=0.75,
        provisional=False,
        widened=False,
        narrow_band=True,
        model="compact",
    )


def segment(
    stream_id: str = "s",
    seq: int = 1,
    *,
    channel: int = 0,
    start: int = 0,
    end: int = 8000,
    final: bool = True,
    label: str = "angry",
) -> Segment:
    return Segment(
        stream_id=stream_id,
        seq=seq,
        channel=channel,
        role=ROLES[channel],
        start_sample=start,
        end_sample=end,
        start_s=start / RATE,
        end_s=end / RATE,
        label=label,
        confidence=0.5,
        final=final,
    )


def gap(
    stream_id: str = "s",
    seq: int = 1,
    *,
    channel: int = 0,
    start: int = 0,
    end: int = 8000,
    final: bool = True,
) -> Gap:
    return Gap(
        stream_id=stream_id,
        seq=seq,
        channel=channel,
        role=ROLES[channel],
        start_sample=start,
        end_sample=end,
        start_s=start / RATE,
        end_s=end / RATE,
        reason="silence",
        final=final,
    )


def alert(
    stream_id: str = "s",
    seq: int = 1,
    *,
    alert_id: str = "a",
    state: AlertState = "raised",
    at: int = 16_000,
) -> Alert:
    return Alert(
        stream_id=stream_id,
        seq=seq,
        alert_id=alert_id,
        rule="customer stays angry",
        state=state,
        severity="critical",
        channel=0,
        role="customer",
        labels=("angry",),
        posterior=0.75,
        since_sample=0,
        at_sample=at,
        since_s=0.0,
        at_s=at / RATE,
    )


def marked(stream_id: str = "s", seq: int = 1, *, at: int = 0) -> Marked:
    return Marked(stream_id=stream_id, seq=seq, name="hold", at_sample=at, at_s=at / RATE)


def warning(stream_id: str = "s", seq: int = 1) -> Warning:
    return Warning(
        stream_id=stream_id,
        seq=seq,
        code="clipping",
        channel=0,
        message="2.5 % of samples are at full scale",
        at_s=0.5,
    )


def summary(stream_id: str = "s", seq: int = 8, reason: CloseReason = "stopped") -> Summary:
    return Summary(
        stream_id=stream_id,
        seq=seq,
        reason=reason,
        duration_s=12.5,
        received_samples=100_000,
        channels=(
            ChannelSummary(
                channel=0,
                role="customer",
                scored_s=10.0,
                label_s={"angry": 10.0},
                gap_s={"silence": 2.5},
                points=20,
            ),
        ),
        alerts=1,
    )


def closed(
    stream_id: str = "s", seq: int = 9, reason: CloseReason = "stopped", *, at: float = 1e9 + 12.5
) -> StreamClosed:
    return StreamClosed(stream_id=stream_id, seq=seq, reason=reason, closed_at=at)
