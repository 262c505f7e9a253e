"""Results that wait to be written: bounded, and kept until the database has taken them.

::

    put ──▶ mailbox ── take_in_hand ──▶ in hand ── current ──▶ one transaction ── settle

What is in hand belongs to the writer's thread, so that it need not hold the lock while it works
on it. All but ``current`` is called under the writer's lock.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from stream_server.mailbox import Mailbox
from stream_server.protocol.results import Alert, Result

__all__ = ["MAX_TRANSACTION", "Backlog"]

MAX_TRANSACTION = 5000
"""Results of one transaction."""


class Backlog:
    """What waits to be written, and the count of what never will be.

    Args:
        max_pending: how many results wait at most.
        now: the time, seconds since 1970.
    """

    def __init__(self, max_pending: int, now: Callable[[], float]) -> None:
        self._max_pending = max_pending
        self._now = now
        self._mailbox = Mailbox(max_pending)
        self._in_hand = Mailbox(1)
        self._current: list[Result] = []
        self._alerts_at: dict[tuple[str, int], float] = {}
        self._dropped = 0
        self.oldest_at = 0.0
        """When the first result of the mailbox came, on ``time.monotonic()``."""

    def __len__(self) -> int:
        """Return how many results wait."""
        return len(self._mailbox) + len(self._in_hand) + len(self._current)

    @property
    def dropped(self) -> int:
        """Results that will never be written."""
        return self._dropped + self._mailbox.dropped

    @property
    def num_new(self) -> int:
        """Results that nobody has in hand."""
        return len(self._mailbox)

    def put(self, result: Result) -> None:
        """Let a result wait; drops by the rules of :mod:`stream_server.mailbox`."""
        if isinstance(result, Alert):
            self._alerts_at[result.stream_id, result.seq] = self._now()
        if not len(self._mailbox):
            self.oldest_at = time.monotonic()
        self._mailbox.put(result)

    def drop(self) -> None:
        """Count a result that came too late."""
        self._dropped += 1

    def take_in_hand(self) -> None:
        """Take all new results in hand, in no time: the event loop may wait for the lock."""
        assert not len(self._in_hand)
        self._dropped += self._mailbox.dropped
        self._in_hand, self._mailbox = self._mailbox, Mailbox(self._max_pending)

    def current(self) -> list[Result]:
        """Return the results of the next transaction: those that are not settled, and more."""
        while len(self._current) < MAX_TRANSACTION:
            result = self._in_hand.take()
            if result is None:
                break
            self._current.append(result)
        return self._current

    def settle(self, num_results: int, *, num_dropped: int) -> None:
        """Note what became of the first of the current results.

        Args:
            num_results: how many are done with.
            num_dropped: those among them that the database will never have.
        """
        for result in self._current[:num_results]:
            if isinstance(result, Alert):
                self._alerts_at.pop((result.stream_id, result.seq), None)
        del self._current[:num_results]
        self._dropped += num_dropped

    def hold_back(self) -> None:
        """Let what is in hand count against the bound: the database is away."""
        left = self._max_pending - len(self._in_hand) - len(self._current)
        self._mailbox.capacity = max(left, 1)

    def give_up(self) -> int:
        """Drop everything; return how many results that were."""
        lost = len(self)
        self._dropped += lost + self._mailbox.dropped
        self._mailbox, self._in_hand, self._current = Mailbox(1), Mailbox(1), []
        return lost

    def published_at(self, alert: Alert) -> float:
        """Return when an alert was published, seconds since 1970."""
        at = self._alerts_at.get((alert.stream_id, alert.seq))
        return self._now() if at is None else at
