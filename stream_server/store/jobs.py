"""Changes that somebody waits for, besides writing results."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from sqlalchemy.engine import Connection
from sqlalchemy.exc import SQLAlchemyError

from stream_server.store.database import describe
from stream_server.store.errors import StoreUnavailableError

__all__ = ["Job", "refuse", "unavailable"]

Job = tuple[Callable[[Connection], Any], "Future[Any]"]
"""What to do in a transaction, and who waits for its outcome."""


def refuse(jobs: deque[Job], error: SQLAlchemyError | None) -> None:
    """Tell those who wait for jobs that they are not done, and forget them.

    Args:
        jobs: left empty.
        error: why the database does not answer; None: the store is closed.
    """
    while jobs:
        _, future = jobs.popleft()
        if future.set_running_or_notify_cancel():
            future.set_exception(unavailable(error))


def unavailable(error: SQLAlchemyError | None) -> StoreUnavailableError:
    """Return what a caller is told, arguments as for :func:`refuse`."""
    if error is None:
        return StoreUnavailableError("the store is closed")
    return StoreUnavailableError(
        f"got no answer from the database ({describe(error)}); it is tried again by itself"
    )
