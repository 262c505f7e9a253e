"""The streams that are live now: feeds and dashboard begin with a snapshot of them.

Subscribe to the bus first, then take the snapshot, then pass on what has a larger ``seq`` than the
snapshot's stream: nothing is missing and nothing comes twice, if both happen without an ``await``
in between.
"""

from __future__ import annotations

import msgspec

from ser_engine.frames import SAMPLE_RATE_HZ, samples_to_s
from ser_engine.schema import CloseReason, LastingState
from ser_engine.timeline.course import StateTracker
from stream_server.bus import Bus
from stream_server.wire.messages import Heartbeat
from stream_server.wire.results import (
    Alert,
    Gap,
    Measures,
    Point,
    Result,
    Segment,
    StreamClosed,
    StreamOpened,
)

# Results that may wait. Falling behind would lose streams, so it is far above a busy second's.
_CAPACITY = 65_536


class LiveChannel(msgspec.Struct, frozen=True, kw_only=True):
    """The last results of one channel.

    Attributes:
        point: the last one; None: no speech yet.
        span: the segment or gap it is in, up to where that is known.
    """

    channel: int
    point: Point | None
    span: Segment | Gap | None


class LiveStream(msgspec.Struct, frozen=True, kw_only=True):
    """One stream at one moment.

    Attributes:
        last_seq: results up to here are taken into account.
        channels: those with results, by index.
        alerts: those raised and not cleared.
        measures: the last ones; None: none yet.
    """

    last_seq: int
    opened: StreamOpened
    channels: tuple[LiveChannel, ...]
    alerts: tuple[Alert, ...]
    measures: Measures | None = None


class _Stream:
    def __init__(self, opened: StreamOpened) -> None:
        self.opened = opened
        self.last_seq = opened.seq
        self.points: dict[int, Point] = {}
        self.spans: dict[int, Segment | Gap] = {}
        self.states: dict[int, StateTracker] = {}
        self.alerts: dict[str, Alert] = {}
        self.measures: Measures | None = None

    def snapshot(self) -> LiveStream:
        channels = sorted(self.points.keys() | self.spans.keys())
        return LiveStream(
            last_seq=self.last_seq,
            opened=self.opened,
            channels=tuple(
                LiveChannel(
                    channel=channel, point=self.points.get(channel), span=self.spans.get(channel)
                )
                for channel in channels
            ),
            alerts=tuple(self.alerts.values()),
            measures=self.measures,
        )


class LiveStreams:
    """Follows the bus by a subscription of its own; streams opened before are not known."""

    def __init__(self, bus: Bus) -> None:
        self._subscription = bus.subscribe(name="live_streams", capacity=_CAPACITY)
        self._streams: dict[str, _Stream] = {}

    async def run(self) -> None:
        """Follow the bus until it closes."""
        while batch := await self._subscription.batch(_CAPACITY):
            for result in batch:
                self._feed(result)

    def snapshot(self, stream_id: str | None = None) -> tuple[LiveStream, ...]:
        """Return the live streams, or the one with ``stream_id``, the oldest first.

        Everything published so far is taken into account.
        """
        self._catch_up()
        if stream_id is not None:
            stream = self._streams.get(stream_id)
            return () if stream is None else (stream.snapshot(),)
        return tuple(stream.snapshot() for stream in self._streams.values())

    def lasting(self, stream_id: str, channel: int) -> LastingState | None:
        """Return how a channel has lately been; None: it is not live, or has not spoken."""
        self._catch_up()
        stream = self._streams.get(stream_id)
        tracker = None if stream is None else stream.states.get(channel)
        return None if tracker is None else tracker.state

    def __len__(self) -> int:
        """Return how many streams are live."""
        self._catch_up()
        return len(self._streams)

    def close(self) -> None:
        self._subscription.close()

    def _catch_up(self) -> None:
        # run() may be behind: an answer must hold everything published before the question.
        for result in self._subscription.take_waiting():
            self._feed(result)

    def _feed(self, result: Result) -> None:
        if isinstance(result, StreamOpened):
            self._streams[result.stream_id] = _Stream(result)
            return
        stream = self._streams.get(result.stream_id)
        if stream is None:
            return  # It opened before this registry subscribed.
        # An alert of another server may come late.
        stream.last_seq = max(stream.last_seq, result.seq)
        match result:
            case Point():
                stream.points[result.channel] = result
                stream.states.setdefault(result.channel, StateTracker()).point(result)
            case Segment() | Gap():
                stream.spans[result.channel] = result
            # By channel one of each, and alerts by id: a stream of hours takes no more memory.
            case Alert(state="raised"):
                stream.alerts[result.alert_id] = result
            case Alert():
                stream.alerts.pop(result.alert_id, None)
            case Measures():
                stream.measures = result
            case StreamClosed():
                del self._streams[result.stream_id]
            case _:
                pass


def last_results(
    stream: LiveStream, beat: Heartbeat | None, *, reason: CloseReason
) -> list[Result]:
    """Return what ends a stream that another process ran and that is gone, after what it published.

    Args:
        beat: what its process last said of it; audio that had come by then and that nothing was
            published of is a gap. None: nothing is known.
    """
    results: list[Result] = []
    seq = stream.last_seq
    stream_id = stream.opened.stream_id
    spans = {one.channel: one.span for one in stream.channels}
    received = 0 if beat is None else round(beat.received_s * SAMPLE_RATE_HZ)
    end_sample = received
    for channel in stream.opened.channels:
        span = spans.get(channel.index)
        if not channel.analysed:
            continue
        if span is not None and not span.final:
            seq += 1
            results.append(msgspec.structs.replace(span, final=True, seq=seq))
        end = 0 if span is None else span.end_sample
        end_sample = max(end_sample, end)
        if received > end:
            seq += 1
            results.append(
                Gap(
                    stream_id=stream_id,
                    seq=seq,
                    channel=channel.index,
                    role=channel.role,
                    start_sample=end,
                    end_sample=received,
                    reason="error",
                    final=True,
                )
            )
    for alert in stream.alerts:
        seq += 1
        at_sample = max(end_sample, alert.at_sample)
        results.append(
            msgspec.structs.replace(alert, state="cleared", at_sample=at_sample, seq=seq)
        )
    closed_at = stream.opened.opened_at + samples_to_s(end_sample)
    results.append(
        StreamClosed(stream_id=stream_id, seq=seq + 1, reason=reason, closed_at=closed_at)
    )
    return results
