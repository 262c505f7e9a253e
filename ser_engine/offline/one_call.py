"""A recording in one call."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ser_engine.config import (
    BatchingConfig,
    EngineConfig,
    Granularity,
    ModelConfig,
    TimelineConfig,
)
from ser_engine.errors import ConfigError, SerEngineError
from ser_engine.offline.analysis import FileAnalysis
from ser_engine.offline.job import AnalysisJob
from ser_engine.offline.options import AnalysisOptions, options_of_preset
from ser_engine.offline.results import Result
from ser_engine.offline.run import Engine, open_job, run_jobs
from ser_engine.offline.source import ArraySource

__all__ = ["analyze", "analyze_channel", "analyze_file"]

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
        source: a file that :mod:`ser_engine.audio_files` reads; or floating point samples at
            16 kHz, full scale ±1, ``(samples,)`` or ``(channels, samples)``.
        granularity: ``utterance``, ``frame`` or ``stream``; None: the preset's, or ``utterance``.
        engine: used instead of one of this module's own; ``config`` says what it was made for.
        model: a model's folder or name; None: that of ``config``, by default the best one on disk.
        config: settings; None: the defaults.
        embeddings: see :class:`~ser_engine.offline.options.AnalysisOptions`, as the next ones;
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
        from ser_engine.factory import build_engine

        # Not warmed up: that gets ready for windows of live streams, and a first file would wait.
        engine = build_engine(config)
        while len(_engines) >= _MAX_ENGINES:
            _engines.popitem(last=False)
        _engines[key] = engine
    _engines.move_to_end(key)
    return _engines[key]
