"""Files analysed with the engines of a running server; its live streams go first.

::

    thread:  read a block ─▶ cut ─▶ step(window) ··waits··▶ result ─▶ ...
    loop:                              └▶ engine.submit(window, OFFLINE)

A forward pass is not interrupted, so it is short: ``dashboard.analyse.max_pass_s``.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import math
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from dashboard.analysis import Analysis, ChannelAnalysis, QualityWarning
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
from ser_engine.frames import SAMPLE_RATE_HZ, samples_to_s
from ser_engine.offline import FrameResult, Granularity, Result, UtteranceResult
from ser_engine.offline.analyzers import make_analyzer
from ser_engine.pooling import softmax
from ser_engine.streaming import make_detector
from ser_engine.types import FloatArray, ModelInfo, Window, WindowResult
from stream_server.audio.quality import QualityMonitor
from stream_server.engines.handle import EngineHandle, EngineSource
from stream_server.protocol.message_base import ModelNotice
from stream_server.protocol.server_messages import LabelName

__all__ = ["PoolAnalyser"]

_RETRY_S = 0.25
_MAX_EMBEDDING_BYTES = 96 << 20
"""Memory for the embeddings of all frames of a file; a longer one has none."""
_SHORT_S = 2.0

Progress = Callable[[float], None]


class PoolAnalyser:
    """A :class:`~dashboard.backend.Analyse`.

    Args:
        engines: lends engines.
        config: how long recordings and forward passes may be.
    """

    def __init__(self, engines: EngineSource, config: AnalyseConfig) -> None:
        self._engines = engines
        self._config = config

    async def __call__(self, path: Path, granularity: Granularity, progress: Progress) -> Analysis:
        """Return what is heard.

        Raises:
            AnalysisError: it is no such file, or cannot be scored.
        """
        try:
            lease = self._engines.acquire()
        except EngineDeadError as error:
            raise AnalysisError(f"got no engine to score the file with: {error}") from error
        with lease as handle:
            engine = _OfflineEngine(handle, asyncio.get_running_loop())
            work = _Work(path, granularity, engine, handle.config, self._config, progress)
            job = asyncio.ensure_future(asyncio.to_thread(work.run))
            try:
                return await asyncio.shield(job)
            except asyncio.CancelledError:
                engine.stop()
                await asyncio.wait([job])
                job.exception()  # Seen, or asyncio complains that it never was.
                raise
            except _StoppedError as error:
                raise AnalysisError("the analysis was stopped") from error
            except EngineDeadError as error:
                raise AnalysisError(f"the engine was lost: {error}") from error
            except SerEngineError as error:
                # The path is one of the server's own; whoever gave the file knows its name.
                raise AnalysisError(str(error).removeprefix(f"{path}: ")) from error
            finally:
                engine.forget()


class _StoppedError(Exception):
    """The analysis is no longer wanted."""


class _OfflineEngine:
    """The blocking engine that analysers know, over one of the event loop's."""

    def __init__(self, handle: EngineHandle, loop: asyncio.AbstractEventLoop) -> None:
        self._handle = handle
        self._loop = loop
        self._keys: set[str] = set()
        self._lock = threading.Lock()
        self._waiting: concurrent.futures.Future[WindowResult | WindowError] | None = None
        self._is_stopped = False
        self.scored_samples = 0

    @property
    def info(self) -> ModelInfo:
        return self._handle.info

    def step(self, windows: Sequence[Window]) -> list[WindowResult | WindowError]:
        return [self._score(window) for window in windows]

    def check(self) -> None:
        """Leave the thread if the analysis is no longer wanted."""
        if self._is_stopped:
            raise _StoppedError

    def stop(self) -> None:
        """Let the thread leave as soon as it can."""
        with self._lock:
            self._is_stopped = True
            if self._waiting is not None:
                self._waiting.cancel()

    def forget(self) -> None:
        """Free what the engine keeps of the file."""
        for key in self._keys:
            self._handle.forget(key)

    def _score(self, window: Window) -> WindowResult | WindowError:
        with self._lock:
            self.check()
            if window.stream_key is not None:
                self._keys.add(window.stream_key)
            waiting = asyncio.run_coroutine_threadsafe(self._submit(window), self._loop)
            self._waiting = waiting
        try:
            answer = waiting.result()
        except concurrent.futures.CancelledError:
            raise _StoppedError from None
        self.scored_samples = max(self.scored_samples, window.start_sample + len(window.samples))
        return answer

    async def _submit(self, window: Window) -> WindowResult | WindowError:
        while True:
            try:
                return await self._handle.submit(window, Priority.OFFLINE)
            except WindowError as error:
                return error
            except (EngineOverloadedError, StreamBusyError):
                await asyncio.sleep(_RETRY_S)


class _Work:
    """One file, in a thread."""

    def __init__(
        self,
        path: Path,
        granularity: Granularity,
        engine: _OfflineEngine,
        engine_config: EngineConfig,
        config: AnalyseConfig,
        progress: Progress,
    ) -> None:
        self._path = path
        self._granularity: Granularity = granularity
        self._engine = engine
        pass_s = min(config.max_pass_s, engine_config.offline.max_pass_s)
        self._engine_config = replace(
            engine_config, offline=replace(engine_config.offline, max_pass_s=pass_s)
        )
        self._max_duration_s = config.max_duration_s
        self._progress = progress

    def run(self) -> Analysis:
        """Return what is heard.

        Raises:
            SerEngineError: the file cannot be read or scored.
        """
        engine, info = self._engine, self._engine.info
        with AudioFile(self._path) as file:
            duration_s = file.header_s
            if duration_s > self._max_duration_s:
                raise AnalysisError(
                    f"got {duration_s:.0f} s of audio, expected {self._max_duration_s:.0f} s or"
                    " less; see dashboard.analyse.max_duration_s"
                )
            frame_bytes = info.embedding_dim * 4 * 50 * file.channels
            with_embeddings = duration_s * frame_bytes <= _MAX_EMBEDDING_BYTES
            channels = [
                _Channel(engine, self._granularity, self._engine_config, file, with_embeddings)
                for _ in range(file.channels)
            ]
            for block in file.blocks():
                engine.check()
                for channel, samples in zip(channels, block, strict=True):
                    channel.push(samples)
                total = max(duration_s * SAMPLE_RATE_HZ, 1)
                self._progress(min(engine.scored_samples / total, 0.99))
            rate_hz = file.rate_hz
        analysed = tuple(channel.finish() for channel in channels)
        return Analysis(
            model=ModelNotice(name=info.name, licence=info.licence, notice=info.notice),
            labels=tuple(
                LabelName(name=label.name, name_zh=label.name_zh) for label in info.labels.labels
            ),
            duration_s=samples_to_s(max(one.result.num_samples for one in analysed)),
            rate_hz=rate_hz,
            channels=analysed,
        )


class _Channel:
    """One channel of the file."""

    def __init__(
        self,
        engine: _OfflineEngine,
        granularity: Granularity,
        config: EngineConfig,
        file: AudioFile,
        with_embeddings: bool,
    ) -> None:
        embeddings = with_embeddings and granularity == "frame"
        self._analyzer = make_analyzer(engine, granularity, config, embeddings=embeddings)
        self._quality = QualityMonitor(make_detector(config.vad), file.rate_hz)
        self._silent_dbfs = config.vad.min_level_dbfs
        self._num_samples = 0
        self._energy = 0.0

    def push(self, samples: FloatArray) -> None:
        # Short pieces, so that progress and an end come between any two passes.
        self._num_samples += len(samples)
        self._energy += float(np.square(samples, dtype=np.float64).sum())
        self._quality.push(samples)
        self._analyzer.push(samples)

    def finish(self) -> ChannelAnalysis:
        result = self._analyzer.finish()
        return ChannelAnalysis(
            result=result, overall=self._overall(result), warnings=tuple(self._warnings())
        )

    @property
    def _level_dbfs(self) -> float:
        power = self._energy / max(self._num_samples, 1)
        return 10 * math.log10(power) if power else -math.inf

    def _overall(self, result: Result) -> UtteranceResult | None:
        match result:
            case UtteranceResult():
                return result
            case FrameResult(embeddings=embeddings):
                # The head is linear: the mean of the frames is what the model says of them all.
                logits = result.logits.mean(axis=0, dtype=np.float64)
                none = np.empty(0, dtype=np.float32)
                embedding = none if embeddings is None else embeddings.mean(axis=0)
                return UtteranceResult(
                    labels=result.labels,
                    num_samples=result.num_samples,
                    logits=logits.astype(np.float32),
                    posteriors=softmax(logits),
                    embedding=embedding,
                    level_dbfs=self._level_dbfs,
                )
            case _:
                return None

    def _warnings(self) -> list[QualityWarning]:
        warnings = [
            QualityWarning(code=finding.code, message=finding.message, at_s=finding.at_s)
            for finding in self._quality.take_findings()
        ]
        level, duration_s = self._level_dbfs, samples_to_s(self._num_samples)
        if level < self._silent_dbfs:
            message = (
                f"the level is {max(level, -120):.0f} dBFS, expected {self._silent_dbfs:.0f} dBFS"
                " or more; a result for silence means nothing"
            )
            warnings.append(QualityWarning(code="silent", message=message, at_s=0.0))
        if duration_s < _SHORT_S:
            message = (
                f"the recording has {duration_s:.1f} s, expected {_SHORT_S:.0f} s or more;"
                " a result from less is weak"
            )
            warnings.append(QualityWarning(code="short", message=message, at_s=0.0))
        return warnings
