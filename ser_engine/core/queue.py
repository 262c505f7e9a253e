"""Which windows share the next forward pass: a queue without clock, threads or event loop.

Policy:

- Live windows go first, strictly, in the order they came. Offline windows (files) are taken only
  when no live window waits, so they wait as long as live ones keep the engine busy.
- A batch is all live or all offline: on a CPU a batch takes as long as its windows one by one,
  and a live window must not pay for a file's. For the same reason an offline batch holds a
  single window while live ones have come within the last 5 s: a forward pass is not interrupted.
- A stream has one window at a time, waiting or running; its next one is refused until then.
- At most ``max_pending`` windows wait, and at most half of them are offline, so that a directory
  of files cannot lock live streams out.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Generic, TypeVar

from ser_engine.errors import EngineOverloadedError, StreamBusyError
from ser_engine.types import Window

# Time after a live window in which another one is taken to be on its way.
_LIVE_LATELY_S = 5.0


class Priority(IntEnum):
    """Which windows go first."""

    LIVE = 0
    """Someone is waiting for this moment's result."""
    OFFLINE = 1
    """Part of a file."""


@dataclass(slots=True, eq=False)
class Pending:
    """A window in the queue.

    Attributes:
        window: what is to be scored.
        priority: which windows go first.
        arrived_s: when it came, on the caller's clock.
    """

    window: Window
    priority: Priority
    arrived_s: float


P = TypeVar("P", bound=Pending)


class WindowQueue(Generic[P]):
    """Windows that wait or run. Time is an argument."""

    def __init__(self, max_pending: int) -> None:
        self._max_pending = max_pending
        self._lanes: dict[Priority, OrderedDict[P, None]] = {
            priority: OrderedDict() for priority in Priority
        }
        self._streams: set[str] = set()
        self._last_live_s = float("-inf")

    def __len__(self) -> int:
        """Return how many windows wait."""
        return sum(len(lane) for lane in self._lanes.values())

    def add(self, pending: P) -> None:
        """Let a window wait.

        Raises:
            StreamBusyError: its stream has a window waiting or running.
            EngineOverloadedError: the queue is full.
        """
        stream = pending.window.stream_key
        if stream is not None and stream in self._streams:
            raise StreamBusyError(
                "got a window of a stream that has one waiting or running, expected the next one"
                " after its result"
            )
        lane = self._lanes[pending.priority]
        waiting, limit = len(self), self._max_pending
        if pending.priority is Priority.OFFLINE:
            waiting, limit = len(lane), max(1, limit // 2)
        if waiting >= limit or len(self) >= self._max_pending:
            raise EngineOverloadedError(
                f"got a window while {waiting} {pending.priority.name.lower()} ones wait, expected"
                f" fewer than {limit} (batching.max_pending {self._max_pending}); try again later"
            )
        if pending.priority is Priority.LIVE:
            self._last_live_s = pending.arrived_s
        if stream is not None:
            self._streams.add(stream)
        # A dict as an ordered set: a cancelled window is dropped from the middle in constant time.
        lane[pending] = None

    def discard(self, pending: P) -> bool:
        """Drop a window that waits. Return False if it does not: it runs or has run."""
        lane = self._lanes[pending.priority]
        if pending not in lane:
            return False
        del lane[pending]
        self.finish([pending])
        return True

    def due_s(self, max_batch_size: int, max_wait_s: float, now_s: float) -> float | None:
        """Return when the next batch goes: ``now_s`` if it is full; None if nothing waits."""
        lane = self._next_lane()
        if not lane:
            return None
        if len(lane) >= self._limit(max_batch_size, now_s):
            return now_s
        return next(iter(lane)).arrived_s + max_wait_s

    def has_live_batch(self, max_batch_size: int) -> bool:
        """Whether as many live windows wait as a batch holds."""
        return len(self._lanes[Priority.LIVE]) >= max_batch_size

    def take(self, max_batch_size: int, now_s: float) -> list[P]:
        """Remove and return the next batch. Its streams stay busy until :meth:`finish`."""
        lane = self._next_lane()
        size = min(len(lane), self._limit(max_batch_size, now_s))
        return [lane.popitem(last=False)[0] for _ in range(size)]

    def put_back(self, batch: Sequence[P]) -> None:
        """Let windows that were taken wait again, ahead of all others of their priority."""
        # From its end, so that the batch keeps its order at the front.
        for pending in reversed(batch):
            lane = self._lanes[pending.priority]
            lane[pending] = None
            lane.move_to_end(pending, last=False)

    def finish(self, batch: Sequence[P]) -> None:
        """Note that windows have their answer: their streams may bring the next one."""
        self._streams.difference_update(
            pending.window.stream_key for pending in batch if pending.window.stream_key is not None
        )

    def clear(self) -> list[P]:
        """Remove and return every window that waits."""
        waiting = [pending for lane in self._lanes.values() for pending in lane]
        for lane in self._lanes.values():
            lane.clear()
        self.finish(waiting)
        return waiting

    def _next_lane(self) -> OrderedDict[P, None]:
        return self._lanes[Priority.LIVE] or self._lanes[Priority.OFFLINE]

    def _limit(self, max_batch_size: int, now_s: float) -> int:
        live = bool(self._lanes[Priority.LIVE])
        alone = not live and now_s - self._last_live_s < _LIVE_LATELY_S
        return 1 if alone else max_batch_size
