"""The streams that are live now: feeds and dashboard begin with a snapshot of them.

Subscribe to the bus first, then take the snapshot, then pass on what has a larger ``seq`` than the
snapshot's stream: nothing is missing and nothing comes twice, if both happen without an ``await``
in between.
"""

from __future__ import annotations

import msgspec

from stream_server.bus import Bus
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
        opened: its first result.
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
        # run() may be behind: a snapshot must hold everything published before it.
        for result in self._subscription.take_waiting():
            self._feed(result)
        if stream_id is not None:
            stream = self._streams.get(stream_id)
            return () if stream is None else (stream.snapshot(),)
        return tuple(stream.snapshot() for stream in self._streams.values())

    def __len__(self) -> int:
        """Return how many streams are live."""
        for result in self._subscription.take_waiting():
            self._feed(result)
        return len(self._streams)

    def close(self) -> None:
        """Follow the bus no longer."""
        self._subscription.close()

    def _feed(self, result: Result) -> None:
        if isinstance(result, StreamOpened):
            self._streams[result.stream_id] = _Stream(result)
            return
        stream = self._streams.get(result.stream_id)
        if stream is None:
            return  # It opened before this registry subscribed.
        stream.last_seq = result.seq
        match result:
            case Point():
                stream.points[result.channel] = result
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
