"""Recordings through an engine: one in a call, or many whose windows share batches.

:func:`analyze` is the short way: it makes an engine for its settings and analyses one file.
:func:`run_jobs` takes any number of jobs and fills every batch with windows of as many files as it
takes.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from ser_engine.config import (
    BatchingConfig,
    EngineConfig,
    ModelConfig,
    OfflineConfig,
    TimelineConfig,
)
from ser_engine.errors import AudioError, ConfigError, SerEngineError, WindowError
from ser_engine.files.analysis import FileAnalysis
from ser_engine.files.job import AnalysisJob, PendingWindow
from ser_engine.files.options import AnalysisOptions, options_of_preset
from ser_engine.files.results import Result
from ser_engine.files.source import ArraySource, AudioSource, UnreadableSource
from ser_engine.frames import SAMPLE_RATE_HZ
from ser_engine.schema import Granularity
from ser_engine.types import ModelInfo, Window, WindowResult

# Audio without a window to score after which other files have their turn.
_MAX_READ_S = 600.0
# Each holds a model in memory; the one used longest ago goes first.
_MAX_ENGINES = 2
_ARRAY_NAME = "samples"

OnProgress = Callable[[AnalysisJob], None]


class Engine(Protocol):
    """What an analysis needs of an engine.

    One that caches features has a method ``forget(stream_key)``; it is called when a file is done.
    """

    @property
    def info(self) -> ModelInfo:
        """The model."""
        ...

    def step(self, windows: Sequence[Window]) -> list[WindowResult | WindowError]:
        """Score windows; return one outcome each, in order."""
        ...


def analyze(
    source: Path | str | npt.ArrayLike,
    granularity: Granularity | None = None,
    *,
    sample_rate_hz: int = SAMPLE_RATE_HZ,
    engine: Engine | None = None,
    model: str | None = None,
    config: EngineConfig | None = None,
    embeddings: bool | None = None,
    frame_hop_ms: int | None = None,
    speakers: bool = False,
    details: bool = False,
    preset: str | None = None,
) -> FileAnalysis:
    """Analyse a recording.

    The engine is made by the first call and kept for later ones with the same model. Calls from
    several threads wait for each other, unless each brings an engine of its own.

    Args:
        source: a file that :mod:`ser_engine.files.audio` reads; or samples, as
            :class:`~ser_engine.files.source.ArraySource` takes them.
        sample_rate_hz: of samples; a file has its own.
        granularity: ``utterance``, ``frame`` or ``stream``; None: the preset's, or ``utterance``.
        engine: used instead of one of this module's own; ``config`` says what it was made for.
        model: a model's folder or name; None: that of ``config``, by default the best one on disk.
        config: settings; None: the defaults.
        embeddings: see :class:`~ser_engine.files.options.AnalysisOptions`, as the next ones;
            None: the preset's, or False.
        frame_hop_ms: None: the preset's, or 20.
        speakers: tell speakers apart.
        details: give points their frames.
        preset: a name in ``offline.presets``; what is given here goes before it.

    Raises:
        AudioError: the audio cannot be read, is shorter than 25 ms, or holds NaN or infinity.
        WindowError: the engine could not score it (``stream`` has a gap there instead).
        ConfigError: there is no such preset or granularity, or both an engine and a model.
        CheckpointError, HubUnavailableError: there is no such model.
    """
    settings = config if config is not None else EngineConfig()
    if not isinstance(settings, EngineConfig):
        raise ConfigError(f"got a config of type {type(config).__name__}, expected EngineConfig")
    if engine is not None and model is not None:
        raise ConfigError(f"got an engine and the model '{model}', expected one of them")
    if model is not None:
        settings = replace(settings, model=replace(settings.model, name=model))
    options = AnalysisOptions() if preset is None else options_of_preset(preset, settings)
    options = AnalysisOptions(
        granularity=options.granularity if granularity is None else granularity,
        embeddings=options.embeddings if embeddings is None else embeddings,
        frame_hop_ms=options.frame_hop_ms if frame_hop_ms is None else frame_hop_ms,
        speakers=speakers,
        details=details,
    )
    if engine is not None:
        return _analyze(engine, source, settings, options, sample_rate_hz)
    with _lock:
        return _analyze(_kept_engine(settings), source, settings, options, sample_rate_hz)


def analyze_file(
    engine: Engine,
    path: Path | str,
    granularity: Granularity = "utterance",
    config: EngineConfig | None = None,
    *,
    embeddings: bool = False,
    details: bool = False,
) -> list[Result]:
    """Return one result for each channel of a file, like :func:`analyze` without the rest of it."""
    settings = config if config is not None else EngineConfig()
    options = AnalysisOptions(granularity, embeddings=embeddings, details=details)
    return [channel.result for channel in _analyze(engine, path, settings, options).channels]


def analyze_channel(
    engine: Engine,
    audio: npt.NDArray[np.floating] | Iterable[npt.NDArray[np.floating]],
    granularity: Granularity = "utterance",
    config: EngineConfig | None = None,
    *,
    embeddings: bool = False,
    details: bool = False,
) -> Result:
    """Return the result of one channel: samples ``(samples,)``, or blocks of them.

    The other arguments and the errors are those of :func:`analyze`.
    """
    settings = config if config is not None else EngineConfig()
    options = AnalysisOptions(granularity, embeddings=embeddings, details=details)
    blocks = [audio] if isinstance(audio, np.ndarray) else audio
    job = AnalysisJob(
        file=ArraySource(iter(blocks)),
        name=_ARRAY_NAME,
        info=engine.info,
        config=settings,
        options=options,
    )
    (channel,) = _run(engine, job, settings).channels
    return channel.result


def open_job(
    path: Path | str,
    info: ModelInfo,
    config: EngineConfig,
    options: AnalysisOptions,
    *,
    name: str | None = None,
) -> AnalysisJob:
    """Open a file and return the job of analysing it, for :func:`run_jobs`, which closes it.

    A file that cannot be opened is a job, too, and ends with the error: so the errors of all files
    come the same way.

    Args:
        config: what the engine was made with.
        name: of the file, for results; None: the path.

    Raises:
        RuntimeUnavailableError, CheckpointError: the model that tells speakers apart is not there.
    """
    from ser_engine.files.audio import AudioFile

    name = str(path) if name is None else name
    with ExitStack() as stack:
        file: AudioSource
        try:
            file = stack.enter_context(
                AudioFile(path, as_streamed=options.granularity == "stream", raw=options.raw)
            )
        except AudioError as error:
            file = UnreadableSource(error)
        job = AnalysisJob(file=file, name=name, info=info, config=config, options=options)
        # From here on the job owns the file; an error above has closed it.
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
    """Yield every job with its result or its error, in the order they are done, and close it.

    A job's error ends that job only. Jobs that are open when the iterator is closed are closed.

    Args:
        jobs: taken one by one as there is room, at most ``max_batch`` at a time. Make them as they
            are taken, and no more files than that are open.
        max_batch: windows of one batch, and files that are open.
        max_batch_s: audio of one batch, s; its last window may go beyond.
        on_progress: called with every open job after every batch.

    Raises:
        EngineDeadError: the engine cannot score any more.
    """
    active = _ActiveJobs(jobs, max_batch)
    try:
        while active.has_work:
            batch = active.take_batch(int(max_batch_s * SAMPLE_RATE_HZ))
            if batch:
                outcomes = engine.step([pending.window for _, pending in batch])
                for (job, pending), outcome in zip(batch, outcomes, strict=True):
                    job.answer(pending, outcome)
            if on_progress is not None:
                for job in active.jobs:
                    on_progress(job)
            for job in active.take_done():
                # An error is a result here: of a folder of files, the others go on.
                try:
                    result: FileAnalysis | SerEngineError = job.finish()
                except SerEngineError as error:
                    result = error
                # Before the yield: the caller may stop iterating after this result.
                _release(engine, job)
                yield job, result
    finally:
        for job in active.jobs:
            _release(engine, job)


class _ActiveJobs:
    """The jobs that are worked on, at most ``max_jobs``, filled up from an iterable."""

    def __init__(self, jobs: Iterable[AnalysisJob], max_jobs: int) -> None:
        self.jobs: list[AnalysisJob] = []
        self._source = iter(jobs)
        self._has_more = True
        self._max_jobs = max_jobs

    @property
    def has_work(self) -> bool:
        return bool(self.jobs) or self._has_more

    def take_batch(self, room_samples: int) -> list[tuple[AnalysisJob, PendingWindow]]:
        """Take the windows of the first job; if it has no more, of the next one, and so on.

        The first job comes first so that files are done one after another, and results come early.
        """
        batch: list[tuple[AnalysisJob, PendingWindow]] = []
        index = 0
        while len(batch) < self._max_jobs and room_samples > 0:
            if index == len(self.jobs) and not self._add_job():
                break
            job = self.jobs[index]
            # One by one: how much audio the next one holds is known when it is there.
            taken = job.take_windows(1, max_read_s=_MAX_READ_S)
            if not taken:
                index += 1
            for pending in taken:
                room_samples -= len(pending.window.samples)
                batch.append((job, pending))
        return batch

    def take_done(self) -> list[AnalysisJob]:
        done = [job for job in self.jobs if job.is_done]
        self.jobs = [job for job in self.jobs if not job.is_done]
        return done

    def _add_job(self) -> bool:
        if len(self.jobs) == self._max_jobs or not self._has_more:
            return False
        job = next(self._source, None)
        if job is None:
            self._has_more = False
            return False
        self.jobs.append(job)
        return True


@runtime_checkable
class _CachesFeatures(Protocol):
    def forget(self, stream_key: str) -> None: ...


def _release(engine: Engine, job: AnalysisJob) -> None:
    job.close()
    if isinstance(engine, _CachesFeatures):
        for key in job.stream_keys:
            engine.forget(key)


_EngineKey = tuple[ModelConfig, TimelineConfig, BatchingConfig]
_engines: OrderedDict[_EngineKey, Engine] = OrderedDict()  # the one used last is last
# Held while one of these engines is made or used: an engine is called by one thread at a time.
_lock = threading.Lock()


def _analyze(
    engine: Engine,
    source: Path | str | npt.ArrayLike,
    config: EngineConfig,
    options: AnalysisOptions,
    sample_rate_hz: int = SAMPLE_RATE_HZ,
) -> FileAnalysis:
    if isinstance(source, str | PathLike):
        return _run(engine, open_job(Path(source), engine.info, config, options), config)
    is_stream = options.granularity == "stream"
    job = AnalysisJob(
        file=ArraySource(source, sample_rate_hz, as_streamed=is_stream),
        name=_ARRAY_NAME,
        info=engine.info,
        config=config,
        options=options,
    )
    return _run(engine, job, config)


def _run(engine: Engine, job: AnalysisJob, config: EngineConfig) -> FileAnalysis:
    ((_, outcome),) = run_jobs(
        engine,
        [job],
        max_batch=config.batching.max_batch_size,
        max_batch_s=config.offline.max_batch_s,
    )
    if isinstance(outcome, SerEngineError):
        raise outcome
    return outcome


def _kept_engine(config: EngineConfig) -> Engine:
    """Return the engine for these settings; the caller holds the lock."""
    key = (config.model, config.timeline, config.batching)
    if key not in _engines:
        from ser_engine.core.factory import build_engine

        # Not warmed up: that prepares for the window lengths of live streams, and would only make
        # the first file wait.
        engine = build_engine(config)
        while len(_engines) >= _MAX_ENGINES:
            _engines.popitem(last=False)
        _engines[key] = engine
    _engines.move_to_end(key)
    return _engines[key]
