"""Files analysed with the engines of a running server; its live streams go first.

::

    thread:  read, decode, cut, join ──┐                ┌── answers
    loop:                              └▶ submit(OFFLINE) ▶ a few windows in flight

No thread waits for the engine. A forward pass is not interrupted, so it is short:
``dashboard.analyse.max_pass_s``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TypeVar

from dashboard.backend import AnalysisError
from dashboard.config import AnalyseConfig
from ser_engine.audio_files import AudioFile
from ser_engine.batching import Priority
from ser_engine.config import EngineConfig
from ser_engine.errors import (
    EngineDeadError,
    EngineOverloadedError,
    SerEngineError,
    StreamBusyError,
    WindowError,
)
from ser_engine.offline import AnalysisJob, AnalysisOptions, FileAnalysis, PendingWindow
from ser_engine.types import ModelInfo, Window, WindowResult
from stream_server.engines.handle import EngineHandle, EngineSource

__all__ = ["MAX_IN_FLIGHT", "PoolAnalyser"]

MAX_IN_FLIGHT = 4
"""Windows of one file that wait for the engine, so that it is not idle while the next is read."""

_MAX_READ_S = 60.0
"""Audio that is read in one go: between two it can be told how far it is, and stopped."""
_RETRY_S = 0.25
_MAX_EMBEDDING_BYTES = 96 << 20
"""Memory for the embeddings of all frames of a file; a longer one has none."""

Progress = Callable[[float], None]
T = TypeVar("T")
_Answer = tuple[PendingWindow, WindowResult | WindowError]


class PoolAnalyser:
    """A :class:`~dashboard.backend.Analyse`.

    Args:
        engines: lends engines.
        config: how long recordings and forward passes may be.
    """

    def __init__(self, engines: EngineSource, config: AnalyseConfig) -> None:
        self._engines = engines
        self._config = config

    async def __call__(
        self, path: Path, options: AnalysisOptions, progress: Progress
    ) -> FileAnalysis:
        """Return what is heard.

        Raises:
            AnalysisError: it is no such file, or cannot be scored.
        """
        try:
            lease = self._engines.acquire()
        except EngineDeadError as error:
            raise AnalysisError(f"got no engine to score the file with: {error}") from error
        with lease as handle:
            try:
                job = await _in_thread(
                    lambda: self._open(path, options, handle), if_late=AnalysisJob.close
                )
                try:
                    return await _analyse(job, handle, progress)
                finally:
                    job.close()
                    for key in job.stream_keys:
                        handle.forget(key)
            except EngineDeadError as error:
                raise AnalysisError(f"the engine was lost: {error}") from error
            except SerEngineError as error:
                # The path is one of the server's own; whoever gave the file knows its name.
                message = str(error).removeprefix(f"{path}: ").removeprefix(f"{path.name}: ")
                raise AnalysisError(message) from error

    def _open(self, path: Path, options: AnalysisOptions, handle: EngineHandle) -> AnalysisJob:
        config, info = self._engine_config(handle.config), handle.info
        max_duration_s = self._config.max_duration_s
        with ExitStack() as stack:
            file = stack.enter_context(
                AudioFile(
                    path,
                    as_streamed=options.granularity == "stream",
                    max_duration_s=max_duration_s,
                )
            )
            # A length of 0 is one that is not known.
            duration_s = file.header_s or max_duration_s
            embedding_bytes = duration_s * file.channels * _embedding_bytes_per_s(info, options)
            if embedding_bytes > _MAX_EMBEDDING_BYTES:
                options = replace(options, embeddings=False)
            job = AnalysisJob(file, path.name, info, config, options)
            stack.pop_all()
        return job

    def _engine_config(self, config: EngineConfig) -> EngineConfig:
        pass_s = min(self._config.max_pass_s, config.offline.max_pass_s)
        return replace(config, offline=replace(config.offline, max_pass_s=pass_s))


async def _analyse(job: AnalysisJob, handle: EngineHandle, progress: Progress) -> FileAnalysis:
    flying: dict[asyncio.Task[WindowResult | WindowError], PendingWindow] = {}
    answers: list[_Answer] = []
    try:
        while True:
            room = MAX_IN_FLIGHT - len(flying)
            windows = await _in_thread(partial(_go_on, job, answers, room))
            for pending in windows:
                task = asyncio.create_task(_submit(handle, pending.window))
                flying[task] = pending
            if job.is_done:
                return await _in_thread(job.finish)
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


async def _submit(handle: EngineHandle, window: Window) -> WindowResult | WindowError:
    while True:
        try:
            return await handle.submit(window, Priority.OFFLINE)
        except WindowError as error:
            return error
        except (EngineOverloadedError, StreamBusyError):
            await asyncio.sleep(_RETRY_S)


async def _in_thread(work: Callable[[], T], *, if_late: Callable[[T], None] | None = None) -> T:
    """Run in a thread; cancelled, wait for it all the same, since it holds the file.

    Args:
        work: what to run.
        if_late: given what comes of it when nobody wants that any more.
    """
    running = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait([running])
        # Asking for the exception marks it as seen, or asyncio complains that it never was.
        if running.exception() is None and if_late is not None:
            if_late(running.result())
        raise


def _embedding_bytes_per_s(info: ModelInfo, options: AnalysisOptions) -> float:
    if not options.embeddings or options.granularity != "frame":
        return 0
    return 1000 / options.frame_hop_ms * info.embedding_dim * 4
