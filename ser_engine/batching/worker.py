"""The thread that runs a core's blocking calls, one after the other.

Not a ``ThreadPoolExecutor``: its threads are waited for when the process exits, and a forward
pass that hangs would keep the process alive for ever.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Protocol, TypeVar

__all__ = ["WORKER_THREAD_NAME", "ThreadWorker", "Worker"]

WORKER_THREAD_NAME = "ser-engine"
"""Of threads that run cores."""

T = TypeVar("T")


class Worker(Protocol):
    """Runs jobs one after the other, away from the caller."""

    def submit(self, job: Callable[[], T]) -> Future[T]:
        """Run ``job`` after those before it."""

    def close(self) -> None:
        """Take no more jobs. The one that runs is neither stopped nor waited for."""


class ThreadWorker:
    """A daemon thread that runs jobs in the order they come."""

    def __init__(self, name: str = WORKER_THREAD_NAME) -> None:
        self._jobs: queue.SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None]
        self._jobs = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    def submit(self, job: Callable[[], T]) -> Future[T]:
        """Run ``job`` after those before it."""
        future: Future[T] = Future()
        self._jobs.put((future, job))
        return future

    def close(self) -> None:
        """Let the thread end after the jobs it has."""
        self._jobs.put(None)

    def join(self, timeout_s: float) -> bool:
        """Wait for the thread to end after :meth:`close`; return whether it has."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _work(self) -> None:
        while (item := self._jobs.get()) is not None:
            future, job = item
            if not future.set_running_or_notify_cancel():
                continue
            try:
                result = job()
            except BaseException as error:
                future.set_exception(error)
            else:
                future.set_result(result)
            # A finished job must not keep its windows alive until the next one comes.
            del item, future, job
