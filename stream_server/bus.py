"""Publish a result once, for any number of subscribers.

::

    publish ──▶ bus ──▶ wants? ──▶ mailbox (bounded) ──▶ reader
                   ├──▶ wants? ──▶ mailbox (bounded) ──▶ reader

Publishing never waits and never fails because of a subscriber. A subscriber that reads slowly loses
what does not fit in its own mailbox, counted; a filter that raises ends its own subscription only,
and the error reaches the subscriber where it reads.

It is within a process: what comes from other processes and servers is published again here
(``stream_server.cluster``). Everything runs on one event loop's thread, so nothing is locked.
"""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from typing import Self

from stream_server.wire.results import (
    Alert,
    Gap,
    Measures,
    Point,
    Result,
    Segment,
    StreamClosed,
    StreamOpened,
    Summary,
)

# How much a result is needed, least first.
_POINT, _INTERIM, _OTHER, _FINAL_SEGMENT, _KEPT = range(5)

_RANKS: dict[type, int] = {
    Point: _POINT,
    # A later one says all that an earlier one says.
    Measures: _INTERIM,
    StreamOpened: _KEPT,
    Alert: _KEPT,
    Summary: _KEPT,
    StreamClosed: _KEPT,
}


class Mailbox:
    """Results that wait for one subscriber, without clock and event loop.

    The policy:

    - Results of one stream come out in the order they went in, so in order of ``seq``.
    - A segment or gap replaces its own earlier, interim version if that still waits: the earlier
      one is removed, the later one takes its place at the end. That is ``merged``, not lost.
    - When it is full, the least needed result is dropped and counted: points first, then interim
      segments and gaps, then everything not named here, then final segments, and last the results
      that begin or end a stream, and alerts. Among equals the oldest goes. A result that has just
      come is no exception, so a point never drives out a segment.

    Args:
        capacity: how many results wait at most; at least 1.

    Attributes:
        dropped: results lost because the mailbox was full.
        merged: interim segments and gaps that a later version replaced.
    """

    def __init__(self, capacity: int) -> None:
        if capacity < 1:
            raise ValueError(f"a mailbox for {capacity} results; the capacity must be 1 or more")
        self.capacity = capacity
        self.dropped = 0
        self.merged = 0
        self._num_arrived = 0
        # A queue for each rank, so that dropping takes the first entry of the first queue that has
        # one. Values carry the arrival number, by which take() restores the order across queues.
        # Keys are the span (stream, channel, first sample) of an interim result, by which its next
        # version finds it, and the arrival number of everything else.
        self._queues: tuple[OrderedDict[Hashable, tuple[int, Result]], ...] = tuple(
            OrderedDict() for _ in range(5)
        )

    def __len__(self) -> int:
        """Return how many results wait."""
        return sum(map(len, self._queues))

    def put(self, result: Result) -> None:
        """Add a result, and drop the least needed one if there are too many."""
        self._num_arrived += 1
        key: Hashable = self._num_arrived
        rank = _RANKS.get(type(result), _OTHER)
        if isinstance(result, Segment | Gap):
            span = (result.stream_id, result.channel, result.start_sample)
            # The final version comes here too, and waits under its arrival number from then on:
            # nothing may replace it.
            if self._queues[_INTERIM].pop(span, None) is not None:
                self.merged += 1
            if not result.final:
                key, rank = span, _INTERIM
            elif isinstance(result, Segment):
                rank = _FINAL_SEGMENT
        self._queues[rank][key] = (self._num_arrived, result)
        if len(self) > self.capacity:
            least_needed = next(queue for queue in self._queues if queue)
            least_needed.popitem(last=False)
            self.dropped += 1

    def take(self) -> Result | None:
        """Remove and return the oldest result; None if nothing waits."""
        oldest = min(
            (queue for queue in self._queues if queue),
            key=lambda queue: next(iter(queue.values()))[0],
            default=None,
        )
        return None if oldest is None else oldest.popitem(last=False)[1][1]

    def clear(self) -> None:
        """Discard what waits. It counts neither as dropped nor as merged."""
        for queue in self._queues:
            queue.clear()


Wants = Callable[[Result], bool]
"""Tells which results a subscriber gets. It is called for every result that is published."""


class Subscription:
    """What one subscriber reads from, one reader at a time; :meth:`Bus.subscribe` makes it.

    ``async for result in subscription`` ends when the bus or the subscription is closed.

    ``on_end`` is called once, when nothing more is to be delivered.
    """

    def __init__(
        self,
        name: str,
        capacity: int,
        wants: Wants | None,
        on_end: Callable[[Subscription], None],
    ) -> None:
        self.name = name
        self.capacity = capacity
        self._wants = wants
        self._on_end = on_end
        self._mailbox = Mailbox(capacity)
        self._waiter: asyncio.Future[None] | None = None
        self._has_ended = False
        self._error: Exception | None = None

    @property
    def dropped(self) -> int:
        """Results lost so far because they were not read in time."""
        return self._mailbox.dropped

    @property
    def merged(self) -> int:
        """Interim segments and gaps so far that a later version replaced."""
        return self._mailbox.merged

    @property
    def pending(self) -> int:
        """Results that wait now."""
        return len(self._mailbox)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Result:
        await self._wait_for_result()
        result = self._mailbox.take()
        if result is None:
            raise StopAsyncIteration
        return result

    async def batch(self, max_results: int) -> list[Result]:
        """Wait for a result and return it with those behind it; an empty list at the end."""
        await self._wait_for_result()
        return self._take(max_results)

    def take_waiting(self) -> list[Result]:
        """Remove and return all that waits now, without waiting for more."""
        return self._take(self.capacity)

    def deliver(self, result: Result) -> None:
        """Put a result in the mailbox, if it is wanted; for the bus."""
        # It may have been closed by the filter of another subscription, while the bus is going
        # through the list of them.
        if self._has_ended:
            return
        try:
            is_wanted = self._wants is None or self._wants(result)
        except Exception as error:
            self._error = error
            self.end()
            return
        if is_wanted:
            self._mailbox.put(result)
            self._wake()

    def end(self) -> None:
        """Deliver nothing more; the reader gets what waits, then the end."""
        if not self._has_ended:
            self._has_ended = True
            self._on_end(self)
            self._wake()

    def close(self) -> None:
        """End it and discard what waits; a waiting reader is woken."""
        self._mailbox.clear()
        self.end()

    async def aclose(self) -> None:
        """The same, for ``contextlib.aclosing``."""
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        self.close()

    def _take(self, max_results: int) -> list[Result]:
        taken: list[Result] = []
        while len(taken) < max_results and (result := self._mailbox.take()) is not None:
            taken.append(result)
        return taken

    def _wake(self) -> None:
        # It is done already if two results come before the reader has run.
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def _wait_for_result(self) -> None:
        """Return when a result waits or none will come.

        Raises:
            Exception: what the filter raised, once what waited before has been read.
        """
        while not len(self._mailbox):
            if self._error is not None:
                raise self._error
            if self._has_ended:
                return
            if self._waiter is not None:
                raise RuntimeError(
                    f"second reader of the subscription '{self.name}'; a subscription has one"
                    " reader, let each subscribe for itself"
                )
            # Results stay in the mailbox until the reader has been resumed, so a reader that is
            # cancelled here loses nothing.
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None


@dataclass(slots=True)
class SubscriberFigures:
    """The subscriptions of one name, for metrics.

    Attributes:
        subscribers: how many there are now.
        pending: results that wait for them now.
        dropped: results they did not get because they read too slowly, ended ones included.
        merged: interim results that a later version replaced, ended ones included.
    """

    subscribers: int = 0
    pending: int = 0
    dropped: int = 0
    merged: int = 0


def of_stream(stream_id: str) -> Wants:
    """Return a filter that wants the results of one stream."""
    return lambda result: result.stream_id == stream_id


class Bus:
    """Where results are published and subscribed to, within the process."""

    def __init__(self) -> None:
        # Replaced, never changed: publish() may be going through it while a filter subscribes or
        # closes.
        self.subscriptions: tuple[Subscription, ...] = ()
        self._ended_dropped: Counter[str] = Counter()
        self._ended_merged: Counter[str] = Counter()
        self._is_closed = False

    def publish(self, result: Result) -> None:
        """Hand a result to all subscribers that want it; returns at once and never raises."""
        for subscription in self.subscriptions:
            subscription.deliver(result)

    def subscribe(self, *, name: str, capacity: int, wants: Wants | None = None) -> Subscription:
        """Return what reads all results published from now on; on a closed bus it is at its end.

        ``name``: kind of subscriber, for metrics and logs, one of a small fixed number. Beyond
        ``capacity`` the least needed results are dropped. ``wants`` None: all.

        Raises:
            ValueError: the capacity is below 1.
        """
        subscription = Subscription(name, capacity, wants, self._forget)
        if self._is_closed:
            subscription.end()
        else:
            self.subscriptions += (subscription,)
        return subscription

    def close(self) -> None:
        """End all subscriptions; each reader gets what already waits for it, then the end."""
        self._is_closed = True
        for subscription in self.subscriptions:
            subscription.end()

    def figures(self) -> dict[str, SubscriberFigures]:
        """Return the figures of all subscriptions there are and were, by name."""
        names: Iterable[str] = {*self._ended_dropped, *(one.name for one in self.subscriptions)}
        found = {
            name: SubscriberFigures(
                dropped=self._ended_dropped[name], merged=self._ended_merged[name]
            )
            for name in sorted(names)
        }
        for subscription in self.subscriptions:
            figures = found[subscription.name]
            figures.subscribers += 1
            figures.pending += subscription.pending
            figures.dropped += subscription.dropped
            figures.merged += subscription.merged
        return found

    def _forget(self, subscription: Subscription) -> None:
        self.subscriptions = tuple(one for one in self.subscriptions if one is not subscription)
        # A counter must not go down when a subscriber leaves.
        self._ended_dropped[subscription.name] += subscription.dropped
        self._ended_merged[subscription.name] += subscription.merged
