"""The one thread that writes: a transaction a tick, patient while the database is away.

::

    event loop ── write(result) ──▶ Backlog ──┐ every write_interval_ms, or at once if a job waits
               ── submit(job) ────▶ jobs ─────┴──▶ thread: one transaction, then the jobs

Results that wait are bounded by ``max_pending_results`` and dropped by the rules of
:class:`~stream_server.bus.Mailbox`, counted. While the database does not answer they are kept and
tried again; jobs are not, they fail at once. A result that the database refuses is dropped and
counted, so that it does not hold up the others.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any, TypeVar

import structlog
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError

from stream_server.bus import Mailbox, Subscription
from stream_server.store.batch import BatchWriter
from stream_server.store.database import StoreError, StoreUnavailableError, describe, is_away
from stream_server.store.upkeep import touch
from stream_server.wire.errors import Backoff
from stream_server.wire.results import Alert, Result

T = TypeVar("T")

_log = structlog.get_logger(__name__)

Job = tuple[Callable[[Connection], Any], "Future[Any]"]
"""What to do in a transaction, and the future of its outcome."""

MAX_TRANSACTION = 5000
"""Results of one transaction: a transaction that fails is repeated as a whole."""

# Results taken from a subscription at a time, between which other tasks run.
_BATCH = 1024

_FIRST_RETRY_S, _LONGEST_RETRY_S = 0.1, 5.0


class Backlog:
    """Results that wait to be written, and the count of those that never will be.

    ::

        put ──▶ mailbox ── take_in_hand ──▶ in hand ── current ──▶ one transaction ── settle

    The event loop puts and the thread takes. All methods but :meth:`current` are called under the
    writer's lock; what is in hand belongs to the thread, so that it need not hold the lock while it
    writes.
    """

    def __init__(self, max_pending: int, now: Callable[[], float]) -> None:
        self._max_pending = max_pending
        self._now = now
        self._mailbox = Mailbox(max_pending)
        self._in_hand = Mailbox(1)
        self._current: list[Result] = []
        # A row says when an alert was raised; the message says only where in the audio.
        self._alerts_at: dict[tuple[str, int], float] = {}
        # When alerts that hold were raised: by the time of day, and on time.monotonic().
        self._raised: dict[tuple[str, str], tuple[float, float]] = {}
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
        """Results that the thread has not taken in hand."""
        return len(self._mailbox)

    def put(self, result: Result) -> None:
        """Add a result; drops by the rules of :class:`~stream_server.bus.Mailbox`."""
        if isinstance(result, Alert):
            self._alerts_at[result.stream_id, result.seq] = self._time_of(result)
        if not len(self._mailbox):
            self.oldest_at = time.monotonic()
        self._mailbox.put(result)

    def _time_of(self, alert: Alert) -> float:
        """Return the time of day; of an alert that is cleared, no earlier than it was raised."""
        key, now_s = (alert.stream_id, alert.alert_id), time.monotonic()
        if alert.state == "raised":
            at = self._now()
            self._raised[key] = at, now_s
            return at
        raised = self._raised.pop(key, None)
        if raised is None:
            return self._now()
        # The time of day may have been set meanwhile.
        raised_at, raised_s = raised
        return raised_at + now_s - raised_s

    def drop(self) -> None:
        """Count a result that came too late."""
        self._dropped += 1

    def take_in_hand(self) -> None:
        """Take all new results in hand, by exchanging mailboxes: the event loop may be waiting."""
        assert not len(self._in_hand)
        self._dropped += self._mailbox.dropped
        self._in_hand, self._mailbox = self._mailbox, Mailbox(self._max_pending)

    def current(self) -> list[Result]:
        """Return the results of the next transaction: those not settled yet, filled up."""
        while len(self._current) < MAX_TRANSACTION:
            result = self._in_hand.take()
            if result is None:
                break
            self._current.append(result)
        return self._current

    def settle(self, num_results: int, *, num_dropped: int) -> None:
        """Remove the first of the current results, which are written or dropped.

        ``num_dropped`` of them the database will never have.
        """
        for result in self._current[:num_results]:
            if isinstance(result, Alert):
                self._alerts_at.pop((result.stream_id, result.seq), None)
        del self._current[:num_results]
        self._dropped += num_dropped

    def hold_back(self) -> None:
        """Let what is in hand count against the bound, while the database is away."""
        left = self._max_pending - len(self._in_hand) - len(self._current)
        self._mailbox.capacity = max(left, 1)

    def give_up(self) -> int:
        """Drop everything; return how many results that was."""
        lost = len(self)
        self._dropped += lost + self._mailbox.dropped
        self._mailbox, self._in_hand, self._current = Mailbox(1), Mailbox(1), []
        return lost

    def published_at(self, alert: Alert) -> float:
        """Return when an alert was published, seconds since 1970."""
        at = self._alerts_at.get((alert.stream_id, alert.seq))
        return self._now() if at is None else at


class StoreWriter:
    """Writes results and runs other changes, in a thread of its own.

    Attributes:
        on_write: called with the duration of each transaction with results, s.
        on_failure: called for each try that found the database away. Both are called in the
            writer's thread.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        owner: str = "",
        write_interval_ms: int = 500,
        max_pending_results: int = 200_000,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.on_write: Callable[[float], None] = lambda seconds: None
        self.on_failure: Callable[[], None] = lambda: None
        self._engine = engine
        self._batch_writer = BatchWriter(owner)
        self._interval_s = write_interval_ms / 1000
        self._subscription: Subscription | None = None

        self._changed = threading.Condition()
        # Below: shared with the thread, under the condition's lock.
        self._backlog = Backlog(max_pending_results, now)
        self._jobs: deque[Job] = deque()
        self._give_up_at: float | None = None  # set: close, time.monotonic()

        # Below: the thread's own.
        self._written = 0
        self._is_ready = True
        self._last_error: SQLAlchemyError | None = None
        self._thread = threading.Thread(target=self._run, name="store-writer", daemon=True)
        self._thread.start()

    @property
    def is_ready(self) -> bool:
        """Whether the database answered last time."""
        return self._is_ready and self._thread.is_alive()

    @property
    def pending(self) -> int:
        """Results that wait to be written."""
        return len(self._backlog)

    @property
    def dropped(self) -> int:
        """Results never written: no room, unknown stream, refused, or left when it was closed."""
        return self._backlog.dropped

    @property
    def written(self) -> int:
        """Results that were written."""
        return self._written

    def write(self, result: Result) -> None:
        """Have a result written within ``write_interval_ms``; never blocks, never raises."""
        with self._changed:
            if self._give_up_at is not None:
                self._backlog.drop()
                return
            self._backlog.put(result)
            # Not for every result: waking a thread costs more than adding to a mailbox. The first
            # begins the interval, and a full transaction need not wait for its end.
            if self._backlog.num_new in (1, MAX_TRANSACTION):
                self._changed.notify()

    async def run(self, subscription: Subscription) -> None:
        """Write what a subscription brings, until it ends."""
        self._subscription = subscription
        try:
            while batch := await subscription.batch(_BATCH):
                for result in batch:
                    self.write(result)
        finally:
            self._subscription = None

    async def flush(self) -> None:
        """Wait until all that was published before is written.

        Raises:
            StoreUnavailableError: the database does not answer, or the store is closed.
        """
        # The task of run() may not have read its subscription yet.
        if self._subscription is not None:
            for result in self._subscription.take_waiting():
                self.write(result)
        await self.submit(lambda connection: None)

    def submit(self, job: Callable[[Connection], T]) -> asyncio.Future[T]:
        """Run a job in a transaction of its own, after what was written before.

        Returns:
            A future of its outcome or of what it raises: ``StoreUnavailableError`` if the database
            does not answer or the store is closed, ``StoreError`` if the database refuses.
        """
        future: Future[T] = Future()
        with self._changed:
            if self._give_up_at is None:
                self._jobs.append((job, future))
                self._changed.notify()
            else:
                future.set_exception(_unavailable(None))
        return asyncio.wrap_future(future)

    async def close(self, timeout_s: float = 10.0) -> None:
        """Write what waits and end the thread.

        What is not written within ``timeout_s`` is dropped and counted.
        """
        with self._changed:
            if self._give_up_at is None:
                self._give_up_at = time.monotonic() + timeout_s
            self._changed.notify()
        await asyncio.to_thread(self._thread.join)

    # The thread.

    def _run(self) -> None:
        backoff, retry_s = Backoff(_FIRST_RETRY_S, _LONGEST_RETRY_S), 0.0
        try:
            while self._wait_for_work(retry_s):
                jobs = self._take_jobs()
                try:
                    if not self._is_ready:
                        self._check_answers()
                    # A job comes after everything written before it: what an interrupted
                    # transaction left in hand, and what is in the mailbox.
                    self._write_in_hand()
                    with self._changed:
                        self._backlog.take_in_hand()
                    self._write_in_hand()
                    self._note_back()
                except SQLAlchemyError as error:
                    retry_s = backoff.next_s()
                    self._note_away(error, jobs)
                    continue
                backoff.reset()
                retry_s = 0.0 if self._run_jobs(jobs) else backoff.next_s()
        finally:
            self._end()

    def _wait_for_work(self, retry_s: float) -> bool:
        """Wait until there is something to do; return False if the thread is to end."""
        with self._changed:
            if retry_s:
                not_before = time.monotonic() + retry_s
                while (left := not_before - time.monotonic()) > 0:
                    if self._give_up_at is not None:
                        left = min(left, self._give_up_at - time.monotonic())
                        if left <= 0:
                            return False
                    self._changed.wait(left)
                    # Jobs submitted meanwhile fail at once instead of waiting for the database.
                    _refuse(self._jobs, self._last_error)
                return True
            while not self._jobs and self._give_up_at is None:
                if not self._backlog.num_new:
                    self._changed.wait()
                    continue
                left = self._backlog.oldest_at + self._interval_s - time.monotonic()
                if left <= 0 or self._backlog.num_new >= MAX_TRANSACTION:
                    break
                self._changed.wait(left)
            return bool(self._jobs or self._backlog.num_new)

    def _take_jobs(self) -> deque[Job]:
        with self._changed:
            jobs, self._jobs = self._jobs, deque()
        return jobs

    def _write_in_hand(self) -> None:
        while current := self._backlog.current():
            self._write(tuple(current))

    def _write(self, results: Sequence[Result]) -> None:
        """Write the first of the current results, or those of them that the database accepts.

        Raises:
            SQLAlchemyError: the database is away.
        """
        started_s = time.monotonic()
        try:
            with self._engine.begin() as connection:
                orphans = self._batch_writer.write(connection, results, self._backlog.published_at)
        except Exception as error:
            self._batch_writer.forget()
            if isinstance(error, SQLAlchemyError) and is_away(error):
                raise
            # One of them is at fault. Halving finds it in log2(n) transactions, and the others are
            # written in the right order.
            if len(results) > 1:
                middle = len(results) // 2
                self._write(results[:middle])
                self._write(results[middle:])
                return
            # Not the error's text: it may quote what was to be written.
            cause = getattr(error, "orig", None) or error
            kind = type(results[0]).__name__
            _log.error("store_refused_result", kind=kind, error=type(cause).__name__)
            orphans = 1
        self.on_write(time.monotonic() - started_s)
        self._written += len(results) - orphans
        with self._changed:
            self._backlog.settle(len(results), num_dropped=orphans)

    def _check_answers(self) -> None:
        # A small change first: results would be turned into rows for each try. That it works does
        # not say that there is room for them, so it is not taken for the database's return.
        with self._engine.begin() as connection:
            touch(connection)

    def _run_jobs(self, jobs: deque[Job]) -> bool:
        """Run jobs; return False if the database went away, which refuses the rest."""
        while jobs:
            job, future = jobs.popleft()
            if not future.set_running_or_notify_cancel():
                continue
            try:
                with self._engine.begin() as connection:
                    outcome = job(connection)
            except SQLAlchemyError as error:
                if is_away(error):
                    self._note_away(error, jobs)
                    future.set_exception(_unavailable(error))
                    return False
                future.set_exception(StoreError(f"the database refused: {describe(error)}"))
            except Exception as error:
                future.set_exception(error)
            else:
                self._note_back()
                future.set_result(outcome)
        return True

    def _note_away(self, error: SQLAlchemyError, jobs: deque[Job]) -> None:
        self._last_error = error
        self.on_failure()
        if self._is_ready:
            self._is_ready = False
            _log.error("store_unavailable", error=describe(error))
        with self._changed:
            self._backlog.hold_back()
        _refuse(jobs, error)

    def _note_back(self) -> None:
        if not self._is_ready:
            self._is_ready = True
            _log.info("store_available", dropped_results=self.dropped)

    def _end(self) -> None:
        with self._changed:
            self._give_up_at = time.monotonic()
            lost = self._backlog.give_up()
            jobs, self._jobs = self._jobs, deque()
        if lost:
            _log.error("store_closed_with_results_left", dropped_results=lost)
        _refuse(jobs, None)


def _refuse(jobs: deque[Job], error: SQLAlchemyError | None) -> None:
    """Fail jobs and empty the queue; ``error``: why the database is away, None: it is closed."""
    while jobs:
        _, future = jobs.popleft()
        if future.set_running_or_notify_cancel():
            future.set_exception(_unavailable(error))


def _unavailable(error: SQLAlchemyError | None) -> StoreUnavailableError:
    if error is None:
        return StoreUnavailableError("the store is closed")
    return StoreUnavailableError(
        f"no answer from the database ({describe(error)}); it is tried again by itself"
    )
