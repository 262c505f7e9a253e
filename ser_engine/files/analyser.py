"""Recordings analysed by one engine, with results of earlier runs taken from the cache."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from ser_engine.config import EngineConfig
from ser_engine.errors import (
    CheckpointError,
    ConfigError,
    HubUnavailableError,
    RuntimeUnavailableError,
    SerEngineError,
)
from ser_engine.files.analysis import FileAnalysis
from ser_engine.files.cache import Fingerprint, ResultCache, analysis_key, file_sha256
from ser_engine.files.job import AnalysisJob
from ser_engine.files.options import AnalysisOptions
from ser_engine.files.run import Engine, open_job, run_jobs

_NOT_OF_A_FILE = (ConfigError, CheckpointError, HubUnavailableError, RuntimeUnavailableError)
"""Errors that every other file would have as well."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A recording to be analysed.

    Attributes:
        fingerprint: of the file when its content was read, where it was.
        sha256: of its content, hex, where it is known, else "".
    """

    path: Path
    name: str
    fingerprint: Fingerprint | None = None
    sha256: str = ""
    about: Any = None


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of it.

    Attributes:
        outcome: the analysis, or why there is none; the error does not name the file.
        is_kept: whether it is a result that was had before.
    """

    wanted: Wanted
    outcome: FileAnalysis | SerEngineError
    is_kept: bool = False


class Analyser(Protocol):
    """Analyses files: in this process, or in several (:mod:`ser_engine.files.processes`)."""

    def key(self, sha256: str) -> str:
        """Return the key of the result for a content."""
        ...

    def run(
        self,
        wanted: Iterable[Wanted],
        deliver: Callable[[Answer], None],
        *,
        on_progress: Callable[[AnalysisJob], None] | None = None,
    ) -> None:
        """See :meth:`FileAnalyser.run`."""
        ...


class FileAnalyser:
    """Analyses files, windows of many in one batch.

    Args:
        use_cache: take results that were had before, and keep new ones.
    """

    def __init__(
        self,
        engine: Engine,
        config: EngineConfig,
        options: AnalysisOptions,
        *,
        use_cache: bool = True,
    ) -> None:
        self._engine = engine
        self._config = config
        self._options = options
        # A model without a hash cannot be told from another one of its name.
        is_on = use_cache and config.offline.cache_mb > 0 and bool(engine.info.sha256)
        self._cache = ResultCache(config.offline) if is_on else None

    def key(self, sha256: str) -> str:
        return analysis_key(sha256, self._engine.info, self._options, self._config)

    def run(
        self,
        wanted: Iterable[Wanted],
        deliver: Callable[[Answer], None],
        *,
        on_progress: Callable[[AnalysisJob], None] | None = None,
    ) -> None:
        """Analyse files and deliver every answer as it is there, in any order.

        Files are taken from ``wanted`` as there is room for them in a batch, so that few are open.

        Raises:
            ConfigError, CheckpointError, HubUnavailableError, RuntimeUnavailableError: what is
                asked for cannot be had, of whatever file.
            EngineDeadError: nothing is scored any more.
        """
        waiting: dict[AnalysisJob, Wanted] = {}
        jobs = run_jobs(
            self._engine,
            self._jobs(wanted, deliver, waiting),
            max_batch=self._config.batching.max_batch_size,
            max_batch_s=self._config.offline.max_batch_s,
            on_progress=on_progress,
        )
        for job, outcome in jobs:
            each = waiting.pop(job)
            if isinstance(outcome, FileAnalysis):
                self._keep(each, outcome)
                deliver(Answer(each, outcome))
            else:
                deliver(Answer(each, _nameless(outcome, each)))

    def _jobs(
        self,
        wanted: Iterable[Wanted],
        deliver: Callable[[Answer], None],
        waiting: dict[AnalysisJob, Wanted],
    ) -> Iterator[AnalysisJob]:
        for file in wanted:
            try:
                each = self._with_content(file)
                kept = self._kept(each)
                if kept is not None:
                    deliver(Answer(each, kept, is_kept=True))
                    continue
                job = open_job(
                    each.path, self._engine.info, self._config, self._options, name=each.name
                )
            except _NOT_OF_A_FILE:
                raise
            except SerEngineError as error:
                deliver(Answer(file, _nameless(error, file)))
                continue
            waiting[job] = each
            yield job

    def _with_content(self, wanted: Wanted) -> Wanted:
        """Return what is wanted with the hash of its content, where somebody needs it."""
        if wanted.sha256 or self._cache is None:
            return wanted
        # What is no file is said by whoever opens it.
        if (fingerprint := Fingerprint.of(wanted.path)) is None:
            return wanted
        return replace(wanted, fingerprint=fingerprint, sha256=file_sha256(wanted.path))

    def _kept(self, wanted: Wanted) -> FileAnalysis | None:
        if self._cache is None or not wanted.sha256:
            return None
        return self._cache.get(self.key(wanted.sha256), wanted.name)

    def _keep(self, wanted: Wanted, analysis: FileAnalysis) -> None:
        if self._cache is None or not wanted.sha256:
            return
        # A file that was written to meanwhile must not give its result to the former content.
        if Fingerprint.of(wanted.path) == wanted.fingerprint:
            self._cache.put(self.key(wanted.sha256), analysis)


def _nameless(error: SerEngineError, wanted: Wanted) -> SerEngineError:
    """Return an error without the file's path or name in front: whoever tells of it knows it."""
    message = str(error)
    short = message.removeprefix(f"{wanted.path}: ").removeprefix(f"{wanted.name}: ")
    return error if short == message else type(error)(short)
