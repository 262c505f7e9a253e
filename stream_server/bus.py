"""Publish a result once, for any number of subscribers.

``Bus`` and ``Subscription`` are what the rest of the server knows; ``LocalBus`` is the one inside
the process, on one event loop. A bus between machines (NATS) can stand behind the same interface.

Publishing never waits and never fails because of a subscriber: each has a bounded
:class:`~stream_server.bus.Mailbox` and loses what does not fit, alone and counted. A filter
that raises ends its own subscription, and the subscriber gets that error where it reads.

What waits for one subscriber: bounded, and it knows which results can be done without.

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

import asyncio
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Callable
from types import TracebackType
from typing import Protocol, Self

from stream_server.wire.results import (
    Alert,
    Gap,
    Point,
    Result,
    Segment,
    StreamClosed,
    StreamOpened,
    Summary,
)

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


Wants = Callable[[Result], bool]
"""Says which results a subscriber gets. Called for every result published, so it is to be cheap."""


class Subscription(Protocol):
    """What one subscriber reads from; one reader at a time.

    ``async for result in subscription`` ends when the bus or the subscription is closed.

    Attributes:
        name: who subscribes, for metrics and logs.
        capacity: how many results wait at most.
    """

    name: str
    capacity: int

    @property
    def dropped(self) -> int:
        """Results lost so far because they were not read in time."""

    @property
    def merged(self) -> int:
        """Interim segments and gaps so far that a later version took the place of."""

    @property
    def pending(self) -> int:
        """Results that wait now."""

    def __aiter__(self) -> AsyncIterator[Result]: ...

    async def __anext__(self) -> Result: ...

    async def batch(self, max_results: int) -> list[Result]:
        """Wait for a result and return it with those behind it; an empty list at the end."""

    def take_waiting(self) -> list[Result]:
        """Remove and return all that waits now, without waiting for more."""

    def close(self) -> None:
        """End it, from whichever side; what waits is thrown away and a reader is woken."""

    async def aclose(self) -> None:
        """The same, for ``contextlib.aclosing``."""

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...


class Bus(Protocol):
    """Where results are published and subscribed to."""

    def publish(self, result: Result) -> None:
        """Hand a result to all who want it; returns at once and never raises."""

    def subscribe(self, *, name: str, capacity: int, wants: Wants | None = None) -> Subscription:
        """Return what reads all results published from now on.

        Args:
            name: who subscribes, for metrics and logs.
            capacity: how many results wait at most before the least needed are dropped.
            wants: which results; None: all.
        """

    def close(self) -> None:
        """End all subscriptions; each reader gets what already waits for it, then the end."""


def of_stream(stream_id: str) -> Wants:
    """Return a filter that wants the results of one stream."""
    return lambda result: result.stream_id == stream_id


class LocalSubscription:
    """A :class:`Subscription` to a :class:`LocalBus`, which makes it."""

    def __init__(self, bus: LocalBus, name: str, capacity: int, wants: Wants | None) -> None:
        self.name = name
        self.capacity = capacity
        self._bus = bus
        self._wants = wants
        self._mailbox = Mailbox(capacity)
        self._waiter: asyncio.Future[None] | None = None
        self._ended = False
        self._error: Exception | None = None

    @property
    def dropped(self) -> int:
        """Results lost so far because they were not read in time."""
        return self._mailbox.dropped

    @property
    def merged(self) -> int:
        """Interim segments and gaps so far that a later version took the place of."""
        return self._mailbox.merged

    @property
    def pending(self) -> int:
        """Results that wait now."""
        return len(self._mailbox)

    def __aiter__(self) -> LocalSubscription:
        return self

    async def __anext__(self) -> Result:
        await self._until_something_waits()
        result = self._mailbox.take()
        if result is None:
            raise StopAsyncIteration
        return result

    async def batch(self, max_results: int) -> list[Result]:
        """Wait for a result and return it with those behind it; an empty list at the end."""
        await self._until_something_waits()
        return self._take(max_results)

    def take_waiting(self) -> list[Result]:
        """Remove and return all that waits now, without waiting for more."""
        return self._take(self.capacity)

    def close(self) -> None:
        """End it; what waits is thrown away and a reader is woken."""
        self._mailbox.clear()
        self._bus.forget(self)
        self.end()

    async def aclose(self) -> None:
        """The same, for ``contextlib.aclosing``."""
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def deliver(self, result: Result) -> None:
        """Take a result of the bus, if it is wanted."""
        if self._ended:
            return
        if self._wants is not None:
            try:
                if not self._wants(result):
                    return
            except Exception as error:
                self._error = error
                self._bus.forget(self)
                self.end()
                return
        self._mailbox.put(result)
        self._wake()

    def end(self) -> None:
        """Let the reader get what waits, then the end; called by the bus when it closes."""
        self._ended = True
        self._wake()

    def _take(self, max_results: int) -> list[Result]:
        mailbox = self._mailbox
        taken: list[Result] = []
        while len(taken) < max_results and (result := mailbox.take()) is not None:
            taken.append(result)
        return taken

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def _until_something_waits(self) -> None:
        while not len(self._mailbox):
            if self._error is not None:
                raise self._error
            if self._ended:
                return
            if self._waiter is not None:
                raise RuntimeError(
                    f"got a second reader of the subscription '{self.name}', expected one; let"
                    " each reader subscribe for itself"
                )
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None


class LocalBus:
    """A :class:`Bus` inside the process. Everything happens on one event loop's thread."""

    def __init__(self) -> None:
        self._subscriptions: tuple[LocalSubscription, ...] = ()
        self._is_closed = False

    @property
    def subscriptions(self) -> tuple[LocalSubscription, ...]:
        """Those who subscribe now, for metrics."""
        return self._subscriptions

    def publish(self, result: Result) -> None:
        """Hand a result to all who want it; on a closed bus there is nobody."""
        for subscription in self._subscriptions:
            subscription.deliver(result)

    def subscribe(
        self, *, name: str, capacity: int, wants: Wants | None = None
    ) -> LocalSubscription:
        """Return what reads all results published from now on; on a closed bus it is at its end.

        Raises:
            ValueError: the capacity is below 1.
        """
        subscription = LocalSubscription(self, name, capacity, wants)
        if self._is_closed:
            subscription.end()
        else:
            self._subscriptions += (subscription,)
        return subscription

    def forget(self, subscription: LocalSubscription) -> None:
        """Deliver nothing more to a subscription."""
        self._subscriptions = tuple(one for one in self._subscriptions if one is not subscription)

    def close(self) -> None:
        """End all subscriptions; each reader gets what already waits for it, then the end."""
        self._is_closed = True
        ending, self._subscriptions = self._subscriptions, ()
        for subscription in ending:
            subscription.end()
