"""What waits for one subscriber: bounded, and it knows which results can be done without.

A mailbox has neither clock nor event loop. Its policy:

- Results of one stream come out in the order they went in, so in order of ``seq``.
- A segment or gap takes the place of its own earlier, interim version where that still waits: the
  earlier one is taken out, the later one stands where it came. That is ``merged``, not lost.
- When it is full, the least needed result goes and is counted in ``dropped``: points first, then
  interim segments and gaps, then what is not named here, then final segments, and only then what
  tells of a stream's begin and end and of alerts. Among equals the oldest goes. What has just come
  is weighed like the rest, so a point never drives out a segment.
"""

from __future__ import annotations

from collections import OrderedDict, deque

from stream_server.protocol.results import (
    Alert,
    Gap,
    Point,
    Result,
    Segment,
    StreamClosed,
    StreamOpened,
    Summary,
)

__all__ = ["Mailbox"]

_POINT, _INTERIM, _OTHER, _FINAL_SEGMENT, _KEPT = range(5)
"""How much a result is needed, least first."""

_RANK: dict[type, int] = {
    Point: _POINT,
    StreamOpened: _KEPT,
    Alert: _KEPT,
    Summary: _KEPT,
    StreamClosed: _KEPT,
}

SpanKey = tuple[str, int, int]
"""Stream, channel and first sample: what versions of one segment or gap have in common."""


class Mailbox:
    """Results on their way to one subscriber.

    Args:
        capacity: how many results wait at most; at least 1.

    Raises:
        ValueError: the capacity is below 1.
    """

    def __init__(self, capacity: int) -> None:
        if capacity < 1:
            raise ValueError(f"got a mailbox for {capacity} results, expected 1 or more")
        self.capacity = capacity
        self.dropped = 0
        """Results that were lost because the mailbox was full."""
        self.merged = 0
        """Interim segments and gaps that a later version took the place of."""
        self._arrivals = 0
        self._size = 0
        self._interim: OrderedDict[SpanKey, tuple[int, Result]] = OrderedDict()
        self._lanes: tuple[deque[tuple[int, Result]], ...] = tuple(deque() for _ in range(5))

    def __len__(self) -> int:
        """Return how many results wait."""
        return self._size

    def put(self, result: Result) -> None:
        """Let a result wait, and drop the least needed one if there are too many."""
        key: SpanKey | None = None
        if isinstance(result, Segment | Gap):
            key = (result.stream_id, result.channel, result.start_sample)
            if self._interim.pop(key, None) is not None:
                self.merged += 1
                self._size -= 1
            rank = _rank_of_span(result)
        else:
            rank = _RANK.get(type(result), _OTHER)
        self._arrivals += 1
        if key is not None and rank == _INTERIM:
            self._interim[key] = (self._arrivals, result)
        else:
            self._lanes[rank].append((self._arrivals, result))
        self._size += 1
        if self._size > self.capacity:
            self._drop()

    def take(self) -> Result | None:
        """Remove and return the oldest result; None if nothing waits."""
        if not self._size:
            return None
        oldest: deque[tuple[int, Result]] | None = None
        arrival = self._arrivals + 1
        for lane in self._lanes:
            if lane and lane[0][0] < arrival:
                oldest, arrival = lane, lane[0][0]
        self._size -= 1
        if self._interim:
            key = next(iter(self._interim))
            if self._interim[key][0] < arrival:
                return self._interim.pop(key)[1]
        assert oldest is not None
        return oldest.popleft()[1]

    def clear(self) -> None:
        """Throw away what waits. It counts neither as dropped nor as merged."""
        self._interim.clear()
        for lane in self._lanes:
            lane.clear()
        self._size = 0

    def _drop(self) -> None:
        self._size -= 1
        self.dropped += 1
        for rank, lane in enumerate(self._lanes):
            if rank == _INTERIM and self._interim:
                self._interim.popitem(last=False)
                return
            if lane:
                lane.popleft()
                return


def _rank_of_span(result: Segment | Gap) -> int:
    if not result.final:
        return _INTERIM
    return _FINAL_SEGMENT if isinstance(result, Segment) else _OTHER
