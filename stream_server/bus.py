"""Publish a result once, for any number of subscribers.

``Bus`` and ``Subscription`` are what the rest of the server knows; ``LocalBus`` is the one inside
the process, on one event loop. A bus between machines (NATS) can stand behind the same interface.

Publishing never waits and never fails because of a subscriber: each has a bounded
:class:`~stream_server.mailbox.Mailbox` and loses what does not fit, alone and counted. A filter
that raises ends its own subscription, and the subscriber gets that error where it reads.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from types import TracebackType
from typing import Protocol, Self

from stream_server.mailbox import Mailbox
from stream_server.protocol.results import Result

__all__ = ["Bus", "LocalBus", "LocalSubscription", "Subscription", "Wants", "of_stream"]

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
