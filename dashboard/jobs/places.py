"""Places for files that are being sent: reserved, filled, and given back unless a job took them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from dashboard.errors import ApiError
from dashboard.jobs.queue import JobQueue, QueueFullError, Reservation
from dashboard.jobs.spool import Spool, new_job_id

__all__ = ["Place", "reserve"]

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
