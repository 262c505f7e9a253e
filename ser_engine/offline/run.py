"""Many files through one engine: a batch holds windows of as many files as it takes to fill it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Protocol

from ser_engine.config import EngineConfig, OfflineConfig
from ser_engine.errors import SerEngineError, WindowError
from ser_engine.frames import SAMPLE_RATE_HZ
from ser_engine.offline.analysis import FileAnalysis
from ser_engine.offline.job import AnalysisJob, PendingWindow
from ser_engine.offline.options import AnalysisOptions
from ser_engine.types import ModelInfo, Window, WindowResult

__all__ = ["Engine", "open_job", "run_jobs"]

OnProgress = Callable[[AnalysisJob], None]


class Engine(Protocol):
    """What is needed of an engine."""

    @property
    def info(self) -> ModelInfo:
        """The model."""
        ...

    def step(self, windows: Sequence[Window]) -> list[WindowResult | WindowError]:
        """Score windows; one answer each, in order."""
        ...


def open_job(
    path: Path | str,
    info: ModelInfo,
    config: EngineConfig,
    options: AnalysisOptions,
    *,
    name: str | None = None,
) -> AnalysisJob:
    """Open a file and return its analysis. Close the job if :func:`run_jobs` does not get it.

    Args:
        path: the file.
        info: the model that scores.
        config: lengths, detector, smoothing, and what the engine was made for.
        options: what to give.
        name: of the file, for results; None: the path.

    Raises:
        AudioError: the file cannot be opened, see :class:`ser_engine.audio_files.AudioFile`.
        ConfigError: what is asked for cannot be had.
    """
    from ser_engine.audio_files import AudioFile

    with ExitStack() as stack:
        file = stack.enter_context(AudioFile(path, as_streamed=options.granularity == "stream"))
        job = AnalysisJob(file, str(path) if name is None else name, info, config, options)
        stack.pop_all()
    return job


def run_jobs(
    engine: Engine,
    jobs: Iterable[AnalysisJob],
    *,
    max_batch: int,
    max_batch_s: float = OfflineConfig().max_batch_s,
    on_progress: OnProgress | None = None,
) -> Iterator[tuple[AnalysisJob, FileAnalysis | SerEngineError]]:
    """Yield every job with its result or its error, as they are done, and close it.

    A job's error ends that job only.

    Args:
        engine: scores the windows.
        jobs: taken one by one as there is room, never more than ``max_batch`` at a time: make them
            as they are asked for, and no more files than that are open.
        max_batch: windows of one batch.
        max_batch_s: audio of one batch, s; one window may be more.
        on_progress: told of a job that moved on.

    Raises:
        EngineDeadError: nothing is scored any more.
    """
    source = iter(jobs)
    is_more = True
    active: list[AnalysisJob] = []
    try:
        while True:
            batch: list[tuple[AnalysisJob, PendingWindow]] = []
            room = int(max_batch_s * SAMPLE_RATE_HZ)
            place = 0
            while len(batch) < max_batch and room > 0:
                if place == len(active):
                    if len(active) >= max_batch or not is_more:
                        break
                    new = next(source, None)
                    is_more = new is not None
                    if new is None:
                        break
                    active.append(new)
                # One by one: how much audio the next one holds is known when it is there.
                taken = active[place].take_windows(1)
                if not taken:
                    place += 1
                    continue
                room -= len(taken[0].window.samples)
                batch += [(active[place], taken[0])]
            _score(engine, batch)
            for job in dict.fromkeys(job for job, _ in batch):
                if on_progress is not None:
                    on_progress(job)
            for job in [job for job in active if job.is_done]:
                outcome = _outcome(job)
                active.remove(job)
                job.close()
                yield job, outcome
            if not active and not is_more:
                return
    finally:
        for job in active:
            job.close()


def _score(engine: Engine, batch: Sequence[tuple[AnalysisJob, PendingWindow]]) -> None:
    if not batch:
        return
    outcomes = engine.step([pending.window for _, pending in batch])
    for (job, pending), outcome in zip(batch, outcomes, strict=True):
        job.answer(pending, outcome)


def _outcome(job: AnalysisJob) -> FileAnalysis | SerEngineError:
    try:
        return job.finish()
    except SerEngineError as error:
        return error
