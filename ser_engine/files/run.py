"""A recording in one call.

Many files through one engine: a batch holds windows of as many files as it takes to fill it.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
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
from ser_engine.files.job import AnalysisJob, PendingWindow
from ser_engine.files.options import AnalysisOptions, options_of_preset
from ser_engine.files.results import FileAnalysis, Result
from ser_engine.files.source import ArraySource, AudioSource, UnreadableSource
from ser_engine.frames import SAMPLE_RATE_HZ
from ser_engine.schema import Granularity
from ser_engine.types import ModelInfo, Window, WindowResult

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
    from ser_engine.files.audio import AudioFile

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


_MAX_ENGINES = 2
_NO_FILE = "samples"

_EngineKey = tuple[ModelConfig, TimelineConfig, BatchingConfig]
_engines: OrderedDict[_EngineKey, Engine] = OrderedDict()
_lock = threading.Lock()
"""Held while an engine of this module is made or used: an engine is called by one thread."""


def analyze(
    source: Path | str | npt.NDArray[np.floating],
    granularity: Granularity | None = None,
    *,
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

    The engine is made by the first call and kept for later ones with the same model.

    Args:
        source: a file that :mod:`ser_engine.files.audio` reads; or floating point samples at
            16 kHz, full scale ±1, ``(samples,)`` or ``(channels, samples)``.
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
        return _analyze(engine, source, settings, options)
    with _lock:
        return _analyze(_kept_engine(settings), source, settings, options)


def analyze_file(
    engine: Engine,
    path: Path | str,
    granularity: Granularity = "utterance",
    config: EngineConfig | None = None,
    *,
    embeddings: bool = False,
    details: bool = False,
) -> list[Result]:
    """Return one result for each channel of a file. See :func:`analyze`, which tells more."""
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
    job = AnalysisJob(ArraySource(iter(blocks)), _NO_FILE, engine.info, settings, options)
    (channel,) = _run(engine, job, settings).channels
    return channel.result


def _analyze(
    engine: Engine,
    source: Path | str | npt.NDArray[np.floating],
    config: EngineConfig,
    options: AnalysisOptions,
) -> FileAnalysis:
    if isinstance(source, np.ndarray):
        job = AnalysisJob(ArraySource(source), _NO_FILE, engine.info, config, options)
        return _run(engine, job, config)
    return _run(engine, open_job(source, engine.info, config, options), config)


def _run(engine: Engine, job: AnalysisJob, config: EngineConfig) -> FileAnalysis:
    offline, max_batch = config.offline, config.batching.max_batch_size
    ((_, outcome),) = run_jobs(engine, [job], max_batch=max_batch, max_batch_s=offline.max_batch_s)
    if isinstance(outcome, SerEngineError):
        raise outcome
    return outcome


def _kept_engine(config: EngineConfig) -> Engine:
    """Return the engine for these settings; the caller holds the lock."""
    key = (config.model, config.timeline, config.batching)
    if key not in _engines:
        from ser_engine.core.factory import build_engine

        # Not warmed up: that gets ready for windows of live streams, and a first file would wait.
        engine = build_engine(config)
        while len(_engines) >= _MAX_ENGINES:
            _engines.popitem(last=False)
        _engines[key] = engine
    _engines.move_to_end(key)
    return _engines[key]
