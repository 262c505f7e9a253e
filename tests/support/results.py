"""Results of streams as tests make them: only what a test is about has to be said."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from msgspec import UNSET

from ser_engine import schema
from ser_engine.frames import SAMPLE_RATE_HZ
from ser_engine.schema import (
    AlertState,
    ChannelMeasures,
    ChannelSummary,
    CloseReason,
    GapReason,
    ModelNotice,
    Voice,
)
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

LABELS = ("angry", "happy", "neutral", "sad")
ROLES = ("customer", "agent")
STEP_S = 0.5


def without_envelope(result: Any) -> Any:
    """Return what a message says, whatever stream it is of: the engine's own struct."""
    kind: Any = type(result).__mro__[1]
    return kind(**{name: getattr(result, name) for name in kind.__struct_fields__})


def make_point(
    start_s: float = 0.0,
    end_s: float | None = None,
    *,
    angry: float = 0.0,
    sad: float = 0.0,
    happy: float = 0.0,
    posteriors: tuple[float, ...] = (),
    stream_id: str = "s1",
    seq: int = 1,
    channel: int = 0,
    role: str = "",
    speech_share: float = 1.0,
    narrow_band: bool = False,
    speaker: str = "",
) -> Point:
    """Return a point; what the named emotions leave is neutral, if no posteriors are given."""
    posteriors = posteriors or (angry, happy, 1.0 - angry - happy - sad, sad)
    strongest = max(range(len(LABELS)), key=posteriors.__getitem__)
    end_s = start_s + STEP_S if end_s is None else end_s
    return Point(
        speaker=speaker or UNSET,
        stream_id=stream_id,
        seq=seq,
        channel=channel,
        role=role or ROLES[channel],
        start_sample=round(start_s * SAMPLE_RATE_HZ),
        end_sample=round(end_s * SAMPLE_RATE_HZ),
        start_s=start_s,
        end_s=end_s,
        posteriors=posteriors,
        label=LABELS[strongest],
        confidence=posteriors[strongest],
        speech_share=speech_share,
        provisional=False,
        widened=False,
        narrow_band=narrow_band,
        model="fake",
    )


def make_points(
    angry: Sequence[float], *, start_s: float = 0.0, first_seq: int = 1, stream_id: str = "s1"
) -> Iterator[Point]:
    """Yield points in a row, one a step."""
    for number, value in enumerate(angry):
        yield make_point(
            start_s + number * STEP_S, angry=value, seq=first_seq + number, stream_id=stream_id
        )


def make_opened(
    stream_id: str = "s1",
    *,
    seq: int = 0,
    roles: Sequence[str] = ("customer",),
    name: str = "a call",
    opened_at: float = 1_800_000_000.0,
) -> StreamOpened:
    return StreamOpened(
        stream_id=stream_id,
        seq=seq,
        name=name,
        channels=tuple(
            StreamChannel(index=index, role=role, name="", analysed=True)
            for index, role in enumerate(roles)
        ),
        model=ModelNotice(name="fake", licence="none"),
        labels=LABELS,
        metadata={"order": "42"},
        sample_rate=16_000,
        encoding="pcm_s16le",
        step_ms=500,
        opened_at=opened_at,
    )


def make_segment(
    start_s: float = 0.0,
    end_s: float = 1.0,
    *,
    label: str = "angry",
    final: bool = True,
    stream_id: str = "s1",
    seq: int = 1,
    channel: int = 0,
    role: str = "",
    speaker: str = "",
) -> Segment:
    return Segment(
        speaker=speaker or UNSET,
        stream_id=stream_id,
        seq=seq,
        channel=channel,
        role=role or ROLES[channel],
        start_sample=round(start_s * SAMPLE_RATE_HZ),
        end_sample=round(end_s * SAMPLE_RATE_HZ),
        start_s=start_s,
        end_s=end_s,
        label=label,
        confidence=0.8,
        final=final,
    )


def make_gap(
    start_s: float = 0.0,
    end_s: float = 1.0,
    *,
    reason: GapReason = "silence",
    final: bool = True,
    stream_id: str = "s1",
    seq: int = 1,
    channel: int = 0,
    role: str = "",
) -> Gap:
    return Gap(
        stream_id=stream_id,
        seq=seq,
        channel=channel,
        role=role or ROLES[channel],
        start_sample=round(start_s * SAMPLE_RATE_HZ),
        end_sample=round(end_s * SAMPLE_RATE_HZ),
        start_s=start_s,
        end_s=end_s,
        reason=reason,
        final=final,
    )


def make_alert(
    state: AlertState = "raised",
    *,
    at_s: float = 6.0,
    rule: str = "customer stays angry",
    alert_id: str = "s1-1",
    stream_id: str = "s1",
    seq: int = 1,
    role: str = "customer",
) -> Alert:
    return Alert(
        stream_id=stream_id,
        seq=seq,
        alert_id=alert_id,
        rule=rule,
        state=state,
        severity="critical",
        channel=0,
        role=role,
        labels=("angry",),
        posterior=0.8,
        since_sample=0,
        at_sample=round(at_s * SAMPLE_RATE_HZ),
        since_s=0.0,
        at_s=at_s,
    )


def make_marked(stream_id: str = "s1", *, seq: int = 1, at_s: float = 0.0) -> Marked:
    return Marked(
        stream_id=stream_id,
        seq=seq,
        name="hold",
        at_sample=round(at_s * SAMPLE_RATE_HZ),
        at_s=at_s,
    )


def make_warning(stream_id: str = "s1", *, seq: int = 1) -> Warning:
    return Warning(
        stream_id=stream_id,
        seq=seq,
        code="clipping",
        channel=0,
        message="2.5 % of samples are at full scale",
        at_s=0.5,
    )


def make_summary(
    stream_id: str = "s1", *, seq: int = 1, reason: CloseReason = "stopped", alerts: int = 0
) -> Summary:
    channel = ChannelSummary(
        channel=0,
        role="customer",
        scored_s=0.75,
        label_s={"angry": 0.75},
        gap_s={"silence": 0.25},
        points=2,
    )
    return Summary(
        stream_id=stream_id,
        seq=seq,
        reason=reason,
        duration_s=1.0,
        received_samples=16_000,
        channels=(channel,),
        alerts=alerts,
        measures=make_measures(),
    )


def make_measures(*, at_s: float = 1.0, interrupted_lately: int = 0) -> schema.Measures:
    """Return the measures of a channel that talks most of the time."""
    voice = Voice(speech_s=0.75)
    channel = ChannelMeasures(
        channel=0,
        role="customer",
        talk_s=0.75,
        talk_share=1.0,
        turns=1,
        longest_turn_s=0.75,
        interruptions=0,
        interrupted=interrupted_lately,
        interrupted_lately=interrupted_lately,
        voice=voice,
    )
    return schema.Measures(
        at_sample=round(at_s * SAMPLE_RATE_HZ),
        silence_s=0.25,
        overlap_s=0.0,
        missing_s=0.0,
        channels=(channel,),
    )


def make_closed(
    stream_id: str = "s1",
    *,
    seq: int = 2,
    reason: CloseReason = "stopped",
    closed_at: float = 1_800_000_010.0,
) -> StreamClosed:
    return StreamClosed(stream_id=stream_id, seq=seq, reason=reason, closed_at=closed_at)
