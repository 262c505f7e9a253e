"""Files analysed with the engines of a running server, and written as a result's files."""

from __future__ import annotations

import datetime
import math
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from dashboard.backend import Analysed, AnalysisError, AnalysisRequest
from dashboard.config import AnalyseConfig
from dashboard.results import summary_of, write_result
from ser_engine.config import EngineConfig
from ser_engine.errors import (
    CheckpointError,
    ConfigError,
    EngineDeadError,
    RuntimeUnavailableError,
    SerEngineError,
)
from ser_engine.files import AnalysisJob, AnalysisOptions, FileAnalysis, analysis_key
from ser_engine.files.audio import AudioFile
from ser_engine.files.bounded_file import BoundedFile
from ser_engine.files.shared_engine import (
    SharedEngine,
    WaitUntilAllowed,
    in_thread,
    run_shared,
)

if TYPE_CHECKING:
    from ser_engine.types import ModelInfo


class AnalysisLog:
    """Lines with the time, UTC. No path of the server is in them."""

    def __init__(self, request: AnalysisRequest) -> None:
        self.lines: list[str] = []
        self._add(f"took {request.name}: {request.path.stat().st_size} bytes")
        self._add(f"its bytes have the SHA-256 {request.content_sha256}")
        asked = ", ".join(f"{name} {value}" for name, value in request.options.items() if value)
        self._add(f"asked for {asked}")

    def analysed(self, analysis: FileAnalysis) -> None:
        """Tell what was found, and what is written of it."""
        channels = len(analysis.channels)
        self._add(
            f"read {analysis.duration_s:.3f} s of audio, {analysis.rate_hz} Hz, {channels}"
            f" channel{'s' if channels > 1 else ''} analysed, each apart; as 16000 Hz"
        )
        model = analysis.model
        self._add(f"scored with {model.name} (licence {model.licence}, SHA-256 {model.sha256})")
        for number, channel in analysis.numbered:
            self._add(f"channel {number}: {len(channel.pieces)} pieces")
            for warning in channel.warnings:
                self._add(f"channel {number}: {warning.code}: {warning.message}")
        self._add("wrote result.json, result.csv and log.txt, and what else there is beside them")

    def _add(self, text: str) -> None:
        now = datetime.datetime.now(datetime.UTC)
        self.lines.append(f"{now:%Y-%m-%dT%H:%M:%S.%f}"[:-3] + f"Z {text}")


# Memory for the frames or points of one file; a longer one is refused.
_MAX_RESULT_BYTES = 512 << 20
# A second of points.
_POINT_BYTES = 2_000

Progress = Callable[[float], None]


class Engines(Protocol):
    """Lends engines."""

    def acquire(self) -> AbstractContextManager[SharedEngine]:
        """Lend one until the context ends.

        Raises:
            EngineDeadError: none is alive.
        """
        ...


class PoolAnalyser:
    """A :class:`~dashboard.backend.Analyse`.

    Channels of other roles than ``analyse_roles`` are not analysed; None: all are.
    ``wait_until_allowed`` returns when analysis is not halted; None: it never is.
    """

    def __init__(
        self,
        engines: Engines,
        config: AnalyseConfig,
        analyse_roles: tuple[str, ...] | None = None,
        wait_until_allowed: WaitUntilAllowed | None = None,
    ) -> None:
        self._wait = wait_until_allowed
        self._engines = engines
        self._analyse_roles = analyse_roles
        self._config = config

    def key(self, request: AnalysisRequest) -> str:
        """Return the key that a result of the file would have now.

        Raises:
            AnalysisError: there is no engine.
        """
        with self._acquire() as engine:
            return self._key(request, engine.info, engine.config)

    async def __call__(self, request: AnalysisRequest, progress: Progress) -> Analysed:
        """Write a result's files.

        Raises:
            AnalysisError: it is no such file, or cannot be scored.
        """
        log = AnalysisLog(request)
        keep = request.folder / "audio.flac" if self._config.keep_audio else None
        with self._acquire() as engine:
            key = self._key(request, engine.info, engine.config)
            options = _options(request, self._analyse_roles)
            analysis = await self.analyse(
                engine, request.path, options, progress, name=request.name, keep=keep
            )
        log.analysed(analysis)
        is_stopped = threading.Event()

        def check() -> None:
            if is_stopped.is_set():
                raise AnalysisError("the analysis was stopped")

        writing = partial(write_result, request.folder, analysis, log.lines, check)
        await in_thread(writing, stop=is_stopped.set)
        return Analysed(duration_s=analysis.duration_s, summary=summary_of(analysis), cache_key=key)

    async def analyse(
        self,
        engine: SharedEngine,
        path: Path,
        options: AnalysisOptions,
        progress: Progress,
        *,
        name: str = "recording",
        keep: Path | None = None,
    ) -> FileAnalysis:
        """Return what is heard; the audio is written to ``keep``, None: to nowhere.

        Raises:
            AnalysisError: it is no such file, or cannot be scored.
        """
        try:
            job = await in_thread(
                lambda: self._open(path, name, options, engine, keep), if_late=AnalysisJob.close
            )
            return await run_shared(job, engine, progress, self._wait)
        except EngineDeadError as error:
            raise AnalysisError(f"the engine was lost: {error}", code="failed") from error
        except ConfigError as error:
            raise AnalysisError(str(error), code="bad_request") from error
        except (CheckpointError, RuntimeUnavailableError) as error:
            raise AnalysisError(str(error), code="not_installed") from error
        except SerEngineError as error:
            # The path is one of the server's own; whoever gave the file knows its name.
            message = str(error).removeprefix(f"{path}: ").removeprefix(f"{name}: ")
            raise AnalysisError(message) from error

    def _acquire(self) -> AbstractContextManager[SharedEngine]:
        try:
            return self._engines.acquire()
        except EngineDeadError as error:
            reason = f"got no engine to score the file with: {error}"
            raise AnalysisError(reason, code="failed") from error

    def _open(
        self,
        path: Path,
        name: str,
        options: AnalysisOptions,
        engine: SharedEngine,
        keep: Path | None,
    ) -> AnalysisJob:
        config, info = self._engine_config(engine.config), engine.info
        with ExitStack() as stack:
            file = stack.enter_context(
                AudioFile(path, as_streamed=options.granularity == "stream", raw=options.raw)
            )
            max_s, hint = self._limit(file.channels, info, options)
            bounded = BoundedFile(file, max_s=max_s, hint=hint, keep=keep)
            job = AnalysisJob(file=bounded, name=name, info=info, config=config, options=options)
            stack.pop_all()
        return job

    def _limit(self, channels: int, info: ModelInfo, options: AnalysisOptions) -> tuple[float, str]:
        """Return how long a recording may be, s, and what to do about a longer one."""
        per_s = _POINT_BYTES if options.granularity == "stream" else 0.0
        if options.granularity == "frame":
            dim = info.embedding_dim if options.embeddings else 0
            per_frame = 4 * dim + 12 * len(info.labels)
            per_s = per_frame * 1000 / options.frame_hop_ms
        memory_s = _MAX_RESULT_BYTES / (per_s * channels) if per_s else math.inf
        if memory_s < self._config.max_duration_s:
            what = "embeddings=false, or " if options.embeddings else ""
            return memory_s, f"ask for {what}granularity=utterance, or send fewer channels"
        return self._config.max_duration_s, "see dashboard.analyse.max_duration_s"

    def _key(self, request: AnalysisRequest, info: ModelInfo, config: EngineConfig) -> str:
        effective = self._engine_config(config)
        options = _options(request, self._analyse_roles)
        key = analysis_key(request.content_sha256, info, options, effective)
        return f"{key}-audio" if self._config.keep_audio else key

    def _engine_config(self, config: EngineConfig) -> EngineConfig:
        pass_s = min(self._config.max_pass_s, config.offline.max_pass_s)
        return replace(config, offline=replace(config.offline, max_pass_s=pass_s))


def _options(request: AnalysisRequest, analyse_roles: tuple[str, ...] | None) -> AnalysisOptions:
    given = request.options
    try:
        return AnalysisOptions(
            granularity=given["granularity"],
            embeddings=given["embeddings"],
            frame_hop_ms=given["frame_hop_ms"],
            speakers=given["speakers"],
            # Jobs of before have no roles.
            roles=tuple(given.get("roles", ())),
            analyse_roles=analyse_roles,
        )
    except ConfigError as error:
        raise AnalysisError(str(error), code="bad_request") from error
