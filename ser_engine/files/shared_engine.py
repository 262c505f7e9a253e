"""A file analysed with an engine that live streams use, too; those go first.

::

    thread:  read, decode, cut, join ──┐                ┌── answers
    loop:                              └▶ score(OFFLINE) ▶ a few windows in flight

No thread waits for the engine. A forward pass is not interrupted, so it should be short:
``max_pass_s`` of the job's settings.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Protocol, TypeVar

from ser_engine.config import EngineConfig
from ser_engine.core.queue import Priority
from ser_engine.errors import EngineOverloadedError, StreamBusyError, WindowError
from ser_engine.files.analysis import FileAnalysis
from ser_engine.files.job import AnalysisJob, PendingWindow
from ser_engine.types import ModelInfo, Window, WindowResult

MAX_IN_FLIGHT = 4
"""Windows of one file that wait for the engine, so that it is not idle while the next is read."""

# Audio that is read in one go: between two it can be told how far it is, and stopped.
_MAX_READ_S = 60.0
_RETRY_S = 0.25

T = TypeVar("T")
WaitUntilAllowed = Callable[[], Awaitable[None]]
_Answer = tuple[PendingWindow, WindowResult | WindowError]


class SharedEngine(Protocol):
    """What a file needs of an engine that runs beside the event loop."""

    @property
    def info(self) -> ModelInfo:
        """The model."""

    @property
    def config(self) -> EngineConfig:
        """With which settings it scores."""

    async def score(self, window: Window, priority: Priority = ...) -> WindowResult:
        """Return the result of a window.

        Raises:
            WindowError: this window cannot be scored.
            StreamBusyError, EngineOverloadedError: not now.
            EngineDeadError: nothing is scored any more.
        """
        ...

    def forget(self, stream_key: str) -> None:
        """Drop what is kept of a stream that has ended."""


async def run_shared(
    job: AnalysisJob,
    engine: SharedEngine,
    progress: Callable[[float], None],
    wait_until_allowed: WaitUntilAllowed | None = None,
) -> FileAnalysis:
    """Return the result of a job, which is closed; the engine has forgotten it.

    Cancelled, it ends after the present read, and its windows are withdrawn.

    Args:
        progress: called with how much is done, 0 to 1.
        wait_until_allowed: awaited before each window; None: analysis is never halted.

    Raises:
        SerEngineError: the file cannot be read or scored.
    """
    try:
        return await _run(job, engine, progress, wait_until_allowed)
    finally:
        job.close()
        for key in job.stream_keys:
            engine.forget(key)


async def _run(
    job: AnalysisJob,
    engine: SharedEngine,
    progress: Callable[[float], None],
    wait_until_allowed: WaitUntilAllowed | None,
) -> FileAnalysis:
    flying: dict[asyncio.Task[WindowResult | WindowError], PendingWindow] = {}
    answers: list[_Answer] = []
    try:
        while True:
            room = MAX_IN_FLIGHT - len(flying)
            windows = await in_thread(partial(_go_on, job, answers, room))
            for pending in windows:
                task = asyncio.create_task(_submit(engine, pending.window, wait_until_allowed))
                flying[task] = pending
            if job.is_done:
                return await in_thread(job.finish)
            progress(job.progress)
            answers = []
            if not flying:
                continue
            done, _ = await asyncio.wait(flying, return_when=asyncio.FIRST_COMPLETED)
            answers = [(flying.pop(task), task.result()) for task in done]
    finally:
        for task in flying:
            task.cancel()
        await asyncio.gather(*flying, return_exceptions=True)


def _go_on(job: AnalysisJob, answers: Sequence[_Answer], room: int) -> list[PendingWindow]:
    for pending, outcome in answers:
        job.answer(pending, outcome)
    return job.take_windows(room, max_read_s=_MAX_READ_S)


async def _submit(
    engine: SharedEngine, window: Window, wait_until_allowed: WaitUntilAllowed | None
) -> WindowResult | WindowError:
    while True:
        try:
            if wait_until_allowed is not None:
                await wait_until_allowed()
            return await engine.score(window, Priority.OFFLINE)
        except WindowError as error:
            return error
        except (EngineOverloadedError, StreamBusyError):
            await asyncio.sleep(_RETRY_S)


async def in_thread(
    work: Callable[[], T],
    *,
    stop: Callable[[], None] | None = None,
    if_late: Callable[[T], None] | None = None,
) -> T:
    """Run in a thread; cancelled, wait for it all the same, since it holds the file.

    Args:
        stop: called to end it sooner when nobody wants it any more.
        if_late: given what comes of it when nobody wants that any more.
    """
    running = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        if stop is not None:
            stop()
        await asyncio.wait([running])
        # Asking for the exception marks it as seen, or asyncio complains that it never was.
        if running.exception() is None and if_late is not None:
            if_late(running.result())
        raise
