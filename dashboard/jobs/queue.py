"""The queue of files: how many may wait and how much disk they may take, and which one is next.

::

    reserve ─▶ grow … ─▶ put ─▶ waiting ─ next ─▶ running ─ leave ─▶
       └── release ──▶                └───────── leave ────────────▶

An upload counts from its first byte. A file whose analysis was started by a server that died comes
after all others and runs alone: if that file kills the server again, no other one is suspected.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from dashboard.errors import ApiError
from dashboard.jobs.spool import Spool, new_job_id

_RETRY_S = 5.0


class QueueFullError(Exception):
    """A limit is reached; the message names it."""


@dataclass(slots=True, eq=False)
class Reservation:
    """A place for an upload, and how many bytes it has so far."""

    num_bytes: int = 0


@dataclass(frozen=True, slots=True)
class _Entry:
    num_bytes: int
    was_begun: bool


class JobQueue:
    """Bookkeeping only: no files, clocks or threads.

    ``max_waiting`` counts files that wait or are being sent, ``max_bytes`` those that run too.
    """

    def __init__(self, *, max_running: int, max_waiting: int, max_bytes: int) -> None:
        self._max_running = max_running
        self._max_waiting = max_waiting
        self._max_bytes = max_bytes
        self._reservations: set[Reservation] = set()
        self._waiting: dict[str, _Entry] = {}  # in order of arrival
        self._running: dict[str, _Entry] = {}
        self._num_bytes = 0

    @property
    def num_waiting(self) -> int:
        """How many files wait."""
        return len(self._waiting)

    @property
    def num_running(self) -> int:
        """How many files run."""
        return len(self._running)

    @property
    def num_bytes(self) -> int:
        """Size of all files."""
        return self._num_bytes

    def reserve(self) -> Reservation:
        """Reserve a place.

        Raises:
            QueueFullError: ``max_waiting`` is reached.
        """
        waiting = len(self._waiting) + len(self._reservations)
        if waiting >= self._max_waiting:
            raise QueueFullError(
                f"{waiting} files are waiting, expected fewer than {self._max_waiting};"
                " try again later"
            )
        reservation = Reservation()
        self._reservations.add(reservation)
        return reservation

    def grow(self, reservation: Reservation, num_bytes: int) -> None:
        """Count more bytes of an upload, before they are written.

        Raises:
            QueueFullError: ``max_bytes`` is reached.
        """
        if self._num_bytes + num_bytes > self._max_bytes:
            raise QueueFullError(
                f"the waiting files take {self._num_bytes >> 20} MiB, expected all of them"
                f" together to take at most {self._max_bytes >> 20} MiB"
            )
        reservation.num_bytes += num_bytes
        self._num_bytes += num_bytes

    def release(self, reservation: Reservation) -> None:
        """Give a place back; after :meth:`put`, or a second time, this does nothing."""
        if reservation in self._reservations:
            self._reservations.remove(reservation)
            self._num_bytes -= reservation.num_bytes

    def put(self, job_id: str, reservation: Reservation) -> None:
        """Turn an upload that is complete into a job that waits."""
        self._reservations.remove(reservation)
        self._waiting[job_id] = _Entry(reservation.num_bytes, was_begun=False)

    def restore(self, job_id: str, num_bytes: int, *, was_begun: bool) -> None:
        """Add a job of a former server. Limits do not apply: its file is on the disk already."""
        self._num_bytes += num_bytes
        self._waiting[job_id] = _Entry(num_bytes, was_begun)

    def next(self) -> str | None:
        """Return the next job and count it as running, None if none may start now."""
        if len(self._running) >= self._max_running:
            return None
        # A suspect runs alone.
        if any(entry.was_begun for entry in self._running.values()):
            return None
        order = self._order()
        if not order or (self._waiting[order[0]].was_begun and self._running):
            return None
        job_id = order[0]
        self._running[job_id] = self._waiting.pop(job_id)
        return job_id

    def leave(self, job_id: str) -> None:
        """Remove a job that waits or runs."""
        entry = self._waiting.pop(job_id, None) or self._running.pop(job_id, None)
        if entry is not None:
            self._num_bytes -= entry.num_bytes

    def before(self, job_id: str) -> int:
        """Return how many jobs come before one that waits, running ones included; else 0."""
        if job_id not in self._waiting:
            return 0
        return self._order().index(job_id) + len(self._running)

    def is_waiting(self, job_id: str) -> bool:
        """Return whether a job waits."""
        return job_id in self._waiting

    def _order(self) -> list[str]:
        # sorted() is stable: within each group the order is that of arrival.
        return sorted(self._waiting, key=lambda job_id: self._waiting[job_id].was_begun)


class Place:
    """A reserved place, and the file in it.

    Attributes:
        is_taken: a job owns the file now, and deletes it.
    """

    def __init__(self, job_id: str, path: Path, queue: JobQueue, reservation: Reservation) -> None:
        self.job_id = job_id
        self.path = path
        self.is_taken = False
        self._queue = queue
        self.reservation = reservation

    @property
    def num_bytes(self) -> int:
        """Size of the file so far."""
        return self.reservation.num_bytes

    def grow(self, num_bytes: int) -> None:
        """Count more bytes of the file, before they are written.

        Raises:
            ApiError: a limit is reached.
        """
        try:
            self._queue.grow(self.reservation, num_bytes)
        except QueueFullError as error:
            raise _full(error) from None


@contextlib.contextmanager
def reserve(queue: JobQueue, spool: Spool) -> Iterator[Place]:
    """Reserve a place; on exit its file is deleted unless a job took it.

    Raises:
        ApiError: a limit is reached.
    """
    try:
        reservation = queue.reserve()
    except QueueFullError as error:
        raise _full(error) from None
    job_id = new_job_id()
    place = Place(job_id, spool.upload(job_id), queue, reservation)
    try:
        yield place
    finally:
        if not place.is_taken:
            queue.release(reservation)
            place.path.unlink(missing_ok=True)


def _full(error: QueueFullError) -> ApiError:
    return ApiError("too_many_jobs", str(error), retry_after_s=_RETRY_S)
