"""Places for files that are being sent: reserved, filled, and given back unless a job took them.

Whose turn it is: bookkeeping of files that wait, without files, clocks or threads.

::

    reserve ─▶ grow … ─▶ put ─▶ waiting ─ next ─▶ running ─ leave ─▶
       └── release ──▶                └───────── leave ────────────▶

What is being sent holds a place and room already. A file that was begun before, by a server that
died of it perhaps, comes after all others and runs alone: if it is to blame, no other is suspected.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from dashboard.errors import ApiError
from dashboard.jobs.spool import Spool, new_job_id


class QueueFullError(Exception):
    """As much waits as may; the message says how much."""


@dataclass(slots=True, eq=False)
class Reservation:
    """A place for a file that is being sent.

    Attributes:
        num_bytes: that it takes so far.
    """

    num_bytes: int = 0


@dataclass(frozen=True, slots=True)
class _Entry:
    num_bytes: int
    was_begun: bool


class JobQueue:
    """Places and turns.

    Args:
        max_running: files that run at a time.
        max_waiting: files that wait or are being sent.
        max_bytes: of all files: being sent, waiting and running.
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
        """Files that wait."""
        return len(self._waiting)

    @property
    def num_running(self) -> int:
        """Files that run."""
        return len(self._running)

    @property
    def num_bytes(self) -> int:
        """Of all files."""
        return self._num_bytes

    def reserve(self) -> Reservation:
        """Return a place for a file.

        Raises:
            QueueFullError: there is none.
        """
        waiting = len(self._waiting) + len(self._reservations)
        if waiting >= self._max_waiting:
            raise QueueFullError(
                f"got a file while {waiting} wait, expected fewer than {self._max_waiting}"
            )
        reservation = Reservation()
        self._reservations.add(reservation)
        return reservation

    def grow(self, reservation: Reservation, num_bytes: int) -> None:
        """Take room for more of a file.

        Raises:
            QueueFullError: there is none.
        """
        if self._num_bytes + num_bytes > self._max_bytes:
            raise QueueFullError(
                f"got a file while others take {self._num_bytes >> 20} MiB, expected all of them"
                f" together to take no more than {self._max_bytes >> 20} MiB"
            )
        reservation.num_bytes += num_bytes
        self._num_bytes += num_bytes

    def release(self, reservation: Reservation) -> None:
        """Give up a place; a second time, or after :meth:`put`, is nothing."""
        if reservation in self._reservations:
            self._reservations.remove(reservation)
            self._num_bytes -= reservation.num_bytes

    def put(self, job_id: str, reservation: Reservation) -> None:
        """Let a file wait in the place it has."""
        self._reservations.remove(reservation)
        self._waiting[job_id] = _Entry(reservation.num_bytes, was_begun=False)

    def restore(self, job_id: str, num_bytes: int, *, was_begun: bool) -> None:
        """Let a file wait that a former server had; limits do not matter to what is there."""
        self._num_bytes += num_bytes
        self._waiting[job_id] = _Entry(num_bytes, was_begun)

    def next(self) -> str | None:
        """Return whose turn it is, which runs from now on; None: nobody's."""
        if len(self._running) >= self._max_running:
            return None
        if any(entry.was_begun for entry in self._running.values()):
            return None
        order = self._order()
        if not order or (self._waiting[order[0]].was_begun and self._running):
            return None
        job_id = order[0]
        self._running[job_id] = self._waiting.pop(job_id)
        return job_id

    def leave(self, job_id: str) -> None:
        """Forget a file, wherever it is."""
        entry = self._waiting.pop(job_id, None) or self._running.pop(job_id, None)
        if entry is not None:
            self._num_bytes -= entry.num_bytes

    def before(self, job_id: str) -> int:
        """Return how many go before one that waits, those that run among them; else 0."""
        if job_id not in self._waiting:
            return 0
        return self._order().index(job_id) + len(self._running)

    def is_waiting(self, job_id: str) -> bool:
        """Return whether it waits."""
        return job_id in self._waiting

    def _order(self) -> list[str]:
        # Sorting keeps those that are alike in their order.
        return sorted(self._waiting, key=lambda job_id: self._waiting[job_id].was_begun)


_RETRY_S = 5.0


class Place:
    """Room for one file.

    Attributes:
        job_id: of the job that it becomes.
        path: where the file goes.
        is_taken: a job has it now, and deletes it.
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
        """Take room for more of the file, before it is written.

        Raises:
            ApiError: there is none.
        """
        try:
            self._queue.grow(self.reservation, num_bytes)
        except QueueFullError as error:
            raise _full(error) from None


@contextlib.contextmanager
def reserve(queue: JobQueue, spool: Spool) -> Iterator[Place]:
    """Reserve a place; afterwards the file is deleted unless a job took it.

    Raises:
        ApiError: as many wait as may.
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
