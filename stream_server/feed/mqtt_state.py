"""What an MQTT broker retains of a live stream."""

from __future__ import annotations

import msgspec
from msgspec import structs

from stream_server.protocol.results import Alert, Point, Result, StreamOpened

__all__ = ["ChannelState", "StreamState", "next_state"]


class ChannelState(msgspec.Struct, frozen=True, kw_only=True):
    """One channel of a :class:`StreamState`.

    Attributes:
        label: the stable label of its last point.
        confidence: its posterior, 0 to 1, when it became the label.
        since_s: since when on the stream's clock.
    """

    channel: int
    role: str
    label: str
    confidence: float
    since_s: float


class StreamState(msgspec.Struct, frozen=True, kw_only=True):
    """What is retained of a live stream.

    Attributes:
        seq: of the result that changed it last.
        channels: those heard so far, by index.
        alerts: names of the rules that hold.
    """

    stream_id: str
    seq: int
    channels: tuple[ChannelState, ...] = ()
    alerts: tuple[str, ...] = ()


def next_state(state: StreamState | None, result: Result) -> StreamState | None:
    """Return how a stream stands after a result; the same object where nothing changed."""
    match result:
        case StreamOpened():
            return StreamState(stream_id=result.stream_id, seq=result.seq)
        case Point() if state is not None:
            before = {one.channel: one for one in state.channels}
            known = before.get(result.channel)
            if known is not None and known.label == result.label:
                return state
            before[result.channel] = ChannelState(
                channel=result.channel,
                role=result.role,
                label=result.label,
                confidence=result.confidence,
                since_s=result.start_s,
            )
            channels = tuple(before[index] for index in sorted(before))
            return structs.replace(state, seq=result.seq, channels=channels)
        case Alert() if state is not None:
            others = tuple(rule for rule in state.alerts if rule != result.rule)
            alerts = (*others, result.rule) if result.state == "raised" else others
            return structs.replace(state, seq=result.seq, alerts=alerts)
        case _:
            return state
