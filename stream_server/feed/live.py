"""How the live streams stand: what a subscriber is told first.

Reads the bus like any other subscriber, and catches up at the moment it is asked. So a subscription
made just before :meth:`LiveStreams.snapshot` goes on where the snapshot ends, with no hole and no
double.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from stream_server.bus import Bus
from stream_server.protocol.results import (
    Alert,
    Gap,
    Point,
    Result,
    Segment,
    StreamClosed,
    StreamOpened,
)

__all__ = ["LiveStream", "LiveStreams"]

_CAPACITY = 65_536
_INTERVAL_S = 0.25
"""Longest time results wait when nobody asks. At 300 streams with 4 results a second the mailbox
takes fifty times that."""


@dataclass(slots=True)
class LiveStream:
    """One live stream.

    Attributes:
        opened: its first result.
        last_seq: of its last result.
        points: the last of each channel.
        spans: what goes on in each channel: a segment or gap that is not final.
        alerts: those that are raised, by id.
    """

    opened: StreamOpened
    last_seq: int
    points: dict[int, Point] = field(default_factory=dict)
    spans: dict[int, Segment | Gap] = field(default_factory=dict)
    alerts: dict[str, Alert] = field(default_factory=dict)

    @property
    def roles(self) -> frozenset[str]:
        """Of its analysed channels."""
        return frozenset(channel.role for channel in self.opened.channels if channel.analysed)

    @property
    def results(self) -> list[Result]:
        """What tells how it stands, in order of ``seq``."""
        results: list[Result] = [
            self.opened,
            *self.points.values(),
            *self.spans.values(),
            *self.alerts.values(),
        ]
        return sorted(results, key=lambda result: result.seq)

    def update(self, result: Result) -> None:
        """Take its next result."""
        self.last_seq = result.seq
        match result:
            case Point():
                self.points[result.channel] = result
            case Segment() | Gap():
                if result.final:
                    self.spans.pop(result.channel, None)
                else:
                    self.spans[result.channel] = result
            case Alert(state="raised"):
                self.alerts[result.alert_id] = result
            case Alert():
                self.alerts.pop(result.alert_id, None)


class LiveStreams:
    """All live streams; ``async with`` keeps it up to date.

    Args:
        bus: where results are published; subscribe before the first stream opens.
    """

    def __init__(self, bus: Bus) -> None:
        self._subscription = bus.subscribe(name="live", capacity=_CAPACITY)
        self._streams: dict[str, LiveStream] = {}
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> LiveStreams:
        self._task = asyncio.create_task(self._run(), name="live streams")
        return self

    async def __aexit__(self, *_: object) -> None:
        self._subscription.close()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def snapshot(self) -> dict[str, LiveStream]:
        """Return the live streams, by id, after the last result published; not to be changed."""
        for result in self._subscription.take_waiting():
            self._update(result)
        return self._streams

    async def _run(self) -> None:
        while True:
            self.snapshot()
            await asyncio.sleep(_INTERVAL_S)

    def _update(self, result: Result) -> None:
        match result:
            case StreamOpened():
                self._streams[result.stream_id] = LiveStream(result, result.seq)
            case StreamClosed():
                self._streams.pop(result.stream_id, None)
            case _:
                stream = self._streams.get(result.stream_id)
                if stream is not None:
                    stream.update(result)
