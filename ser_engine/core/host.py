"""Keeps a core running in a worker of its own, and tells when it will not answer any more.

A core is lost when a step takes longer than ``step_timeout_s``, when it ends with
:class:`~ser_engine.errors.EngineDeadError` or with a ``BaseException`` such as ``SystemExit``,
and when 8 windows in a row make it raise. A thread that hangs cannot be ended: it is left behind
with its core, and what it returns is ignored.

The worker is no ``ThreadPoolExecutor``: its threads are waited for when the process exits, and a
forward pass that hangs would keep the process alive for ever.
"""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from ser_engine.errors import EngineDeadError, WindowError
from ser_engine.types import Core, Window, WindowResult

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
        self._thread.join(max(0.0, timeout_s))
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


# Windows that make a core raise, with none scored between, before it is taken for broken: a lost
# CUDA context, for one, fails every call from then on.
_MAX_RAISES = 8


Answers = list[WindowResult | WindowError]
"""A core's answers to the windows of a step, in their order."""


class WorkerLostError(Exception):
    """The worker will not answer any more; the message says why."""


@dataclass(frozen=True, slots=True)
class Step:
    """A forward pass that was handed to the worker.

    Attributes:
        num_windows: how many windows it scores.
        outcome: the answers, or what the core raised.
    """

    num_windows: int
    outcome: Future[Answers | BaseException]

    def withdraw(self) -> None:
        """Let the worker pass over it if it has not begun; what it answers is ignored."""
        self.outcome.cancel()


class _Stepper:
    """Lets a core step in the worker, but not once it has died: another step may wait already."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._has_died = False

    def step(self, windows: Sequence[Window]) -> Answers:
        if self._has_died:
            raise EngineDeadError("the core died in the step before")
        try:
            return self._core.step(windows)
        except BaseException as error:
            self._has_died = isinstance(error, EngineDeadError) or not isinstance(error, Exception)
            raise


class CoreHost:
    """One core at a time, in one worker at a time. Belongs to one event loop.

    Args:
        core_factory: makes a core; runs in the worker and blocks.
        make_worker: makes what runs the core.
        step_timeout_s: longest time a step may take.
        start_timeout_s: longest time a core may take to be made.
    """

    def __init__(
        self,
        core_factory: Callable[[], Core],
        make_worker: Callable[[], Worker],
        *,
        step_timeout_s: float,
        start_timeout_s: float,
    ) -> None:
        self._core_factory = core_factory
        self._make_worker = make_worker
        self._step_timeout_s = step_timeout_s
        self._start_timeout_s = start_timeout_s
        self._core: Core | None = None
        self._stepper: _Stepper | None = None
        self._worker: Worker | None = None
        self._raises = 0
        self._threads: list[ThreadWorker] = []

    @property
    def core(self) -> Core | None:
        """The core that runs; None before the start and after the close."""
        return self._core

    async def start(self) -> None:
        """Make a worker and, in it, a core, in place of those there were.

        Raises:
            WorkerLostError: the core was not made in time.
            Exception: whatever the factory raised.
        """
        self.close()
        worker = self._make_worker()
        if isinstance(worker, ThreadWorker):
            self._threads.append(worker)
        try:
            core = await _outcome(_submit(worker, self._core_factory), self._start_timeout_s)
            if isinstance(core, Exception):
                raise core
        except BaseException:
            worker.close()
            raise
        self._worker, self._core, self._raises = worker, core, 0
        self._stepper = _Stepper(core)

    def begin_step(self, windows: Sequence[Window]) -> Step:
        """Have the core score windows, after the step that runs; the step is to be finished."""
        stepper, worker = self._stepper, self._worker
        assert stepper is not None and worker is not None, "step before start"
        return Step(len(windows), _submit(worker, lambda: stepper.step(windows)))

    async def finish_step(self, step: Step) -> Answers | Exception:
        """Return the core's answers, or what it raised. Its time counts from this call.

        Raises:
            WorkerLostError: there will be no answer.
        """
        answers = await _outcome(step.outcome, self._step_timeout_s)
        if isinstance(answers, Exception):
            # Of several windows one may be at fault; that shows when it is run alone.
            self._raises += step.num_windows == 1
            return answers
        self._raises = 0
        if len(answers) != step.num_windows:
            return RuntimeError(
                f"the core gave {len(answers)} answers to {step.num_windows} windows"
            )
        return answers

    def forget(self, stream_key: str) -> None:
        """Have the core forget a stream after the step that runs. Not waited for."""
        core, worker = self._core, self._worker
        if core is not None and worker is not None:
            worker.submit(lambda: core.forget(stream_key))

    def check(self) -> None:
        """Raise WorkerLostError if the core has raised too often to be worth another step."""
        if self._raises >= _MAX_RAISES:
            raise WorkerLostError(f"{self._raises} windows in a row made the core raise")

    def close(self) -> None:
        """Leave worker and core; a step that runs is not waited for."""
        if self._worker is not None:
            self._worker.close()
        self._worker = self._core = self._stepper = None

    async def wait_ended(self, timeout_s: float) -> None:
        """Wait for every thread there was to end, after :meth:`close`."""
        if self._threads:
            deadline_s = time.monotonic() + timeout_s
            await asyncio.to_thread(
                lambda: [each.join(deadline_s - time.monotonic()) for each in self._threads]
            )


def _submit(worker: Worker, job: Callable[[], T]) -> Future[T | BaseException]:
    """Return the future of what ``job`` returns or raises in the worker.

    An exception is carried as a value, so that a TimeoutError or CancelledError of the job is
    not taken for one of the event loop.
    """

    def carried() -> T | BaseException:
        try:
            return job()
        except BaseException as error:
            return error

    return worker.submit(carried)


async def _outcome(future: Future[T | BaseException], timeout_s: float) -> T | Exception:
    """Return what a job returned or raised.

    Raises:
        WorkerLostError: it did not end in time, or ended with an exception that ends a worker.
    """
    try:
        async with asyncio.timeout(timeout_s):
            result = await asyncio.wrap_future(future)
    except TimeoutError:
        raise WorkerLostError(f"no answer within {timeout_s:g} s") from None
    if isinstance(result, EngineDeadError):
        raise WorkerLostError(str(result))
    if isinstance(result, Exception) or not isinstance(result, BaseException):
        return result
    raise WorkerLostError(f"{type(result).__name__} in the worker")
