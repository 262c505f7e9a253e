"""Many files through one engine: a batch holds windows of as many files as it takes to fill it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Protocol, runtime_checkable

from ser_engine.config import EngineConfig, OfflineConfig
from ser_engine.errors import AudioError, SerEngineError, WindowError
from ser_engine.frames import SAMPLE_RATE_HZ
from ser_engine.offline.analysis import FileAnalysis
from ser_engine.offline.job import AnalysisJob, PendingWindow
from ser_engine.offline.options import AnalysisOptions
from ser_engine.offline.source import AudioSource, UnreadableSource
from ser_engine.types import ModelInfo, Window, WindowResult

__all__ = ["Engine", "open_job", "run_jobs"]

_MAX_READ_S = 600.0
"""Audio without a window to score after which other files have their turn."""

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
    max_duration_s: float | None = None,
) -> AnalysisJob:
    """Open a file and return its analysis. Close the job if :func:`run_jobs` does not get it.

    A file that cannot be opened is a job all the same, which ends with the error: one bad file
    among many is found where the others' errors are.

    Args:
        path: the file.
        info: the model that scores.
        config: lengths, detector, smoothing, and what the engine was made for.
        options: what to give.
        name: of the file, for results; None: the path.
        max_duration_s: longest recording, s; a longer one ends with an error. None: any.

    Raises:
        ConfigError: what is asked for cannot be had.
    """
    from ser_engine.audio_files import AudioFile

    name = str(path) if name is None else name
    with ExitStack() as stack:
        file: AudioSource
        try:
            file = stack.enter_context(
                AudioFile(
                    path,
                    as_streamed=options.granularity == "stream",
                    max_duration_s=max_duration_s,
                )
            )
        except AudioError as error:
            file = UnreadableSource(error)
        job = AnalysisJob(file, name, info, config, options)
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
        max_batch: windows of one batch, and files that are open.
        max_batch_s: audio of one batch, s; one window may be more.
        on_progress: told of every open job after every batch.

    Raises:
        EngineDeadError: nothing is scored any more.
    """
    bench = _Bench(jobs, max_batch)
    try:
        while bench.has_work:
            batch = bench.batch(int(max_batch_s * SAMPLE_RATE_HZ))
            _score(engine, batch)
            if on_progress is not None:
                for job in bench.active:
                    on_progress(job)
            for job in bench.take_done():
                outcome = _outcome(job)
                job.close()
                _forget(engine, job)
                yield job, outcome
    finally:
        for job in bench.active:
            job.close()
            _forget(engine, job)


_Batch = list[tuple[AnalysisJob, PendingWindow]]


class _Bench:
    """The jobs that are worked on, and where more come from."""

    def __init__(self, jobs: Iterable[AnalysisJob], max_jobs: int) -> None:
        self.active: list[AnalysisJob] = []
        self._source = iter(jobs)
        self._is_more = True
        self._max_jobs = max_jobs

    @property
    def has_work(self) -> bool:
        return bool(self.active) or self._is_more

    def batch(self, room_samples: int) -> _Batch:
        """Take windows of the first job; where it has no more, of the next ones, and so on."""
        batch: _Batch = []
        place = 0
        while len(batch) < self._max_jobs and room_samples > 0:
            if place == len(self.active) and not self._take_job():
                break
            job = self.active[place]
            # One by one: how much audio the next one holds is known when it is there.
            taken = job.take_windows(1, max_read_s=_MAX_READ_S)
            if not taken:
                place += 1
            for pending in taken:
                room_samples -= len(pending.window.samples)
                batch.append((job, pending))
        return batch

    def take_done(self) -> list[AnalysisJob]:
        done = [job for job in self.active if job.is_done]
        self.active = [job for job in self.active if not job.is_done]
        return done

    def _take_job(self) -> bool:
        if len(self.active) < self._max_jobs and self._is_more:
            job = next(self._source, None)
            self._is_more = job is not None
            if job is not None:
                self.active.append(job)
                return True
        return False


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


@runtime_checkable
class _Forgets(Protocol):
    def forget(self, stream_key: str) -> None: ...


def _forget(engine: Engine, job: AnalysisJob) -> None:
    if isinstance(engine, _Forgets):
        for key in job.stream_keys:
            engine.forget(key)
