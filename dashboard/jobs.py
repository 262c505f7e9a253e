"""Files that wait to be analysed, one at a time, and results that wait to be fetched.

::

    upload ─▶ waiting (bounded) ─▶ running (one) ─▶ done or failed (kept a while, bounded)

The file is deleted as soon as it has been analysed, however that ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import shutil
import tempfile
from collections import OrderedDict, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import structlog

from dashboard.backend import Analyse, AnalysisError
from dashboard.config import AnalyseConfig
from dashboard.errors import ApiError
from ser_engine.offline import AnalysisOptions, FileAnalysis, Granularity

__all__ = ["Job", "JobState", "Jobs"]

_log = structlog.get_logger(__name__)

_MAX_FINISHED = 1000
_RETRY_S = 5.0

JobState = Literal["waiting", "running", "done", "failed"]


@dataclass(slots=True, eq=False)
class Job:
    """One file.

    Attributes:
        job_id: names it; nobody guesses it.
        name: of the file, as its owner calls it; never a path of this machine.
        granularity: what to give results of.
        state: how far it is.
        progress: 0 to 1.
        result: once it is done.
        error: why it failed.
    """

    job_id: str
    name: str
    granularity: Granularity
    path: Path = field(repr=False)
    state: JobState = "waiting"
    progress: float = 0.0
    result: FileAnalysis | None = None
    error: ApiError | None = None

    def advance(self, progress: float) -> None:
        """Note how much is done; in any thread."""
        self.progress = max(self.progress, min(progress, 1.0))


class Jobs:
    """All of them. Belongs to one event loop.

    Args:
        analyse: does the work.
        config: how many, how large, and for how long.
    """

    def __init__(self, analyse: Analyse, config: AnalyseConfig) -> None:
        self._analyse = analyse
        self._config = config
        self._folder: Path | None = None
        self._uploads = 0
        self._waiting: deque[Job] = deque()
        self._arrived = asyncio.Event()
        self._jobs: dict[str, Job] = {}
        self._finished: OrderedDict[str, asyncio.TimerHandle] = OrderedDict()
        self._running: asyncio.Task[FileAnalysis] | None = None
        self._running_job: Job | None = None

    @contextlib.contextmanager
    def place(self) -> Iterator[Path]:
        """Reserve a place and a file for an upload; the file is deleted unless :meth:`add` took it.

        Raises:
            ApiError: as many wait as may.
        """
        waiting = len(self._waiting) + self._uploads
        if waiting >= self._config.max_waiting:
            raise ApiError(
                "too_many_jobs",
                f"got a file while {waiting} wait, expected fewer than {self._config.max_waiting}",
                retry_after_s=_RETRY_S,
            )
        self._uploads += 1
        path = self._new_file()
        try:
            yield path
        finally:
            self._uploads -= 1
            if not any(job.path == path for job in self._jobs.values()):
                _delete(path)

    def add(self, path: Path, name: str, granularity: Granularity) -> Job:
        """Let a file of :meth:`place` be analysed."""
        job = Job(secrets.token_urlsafe(12), name, granularity, path)
        self._jobs[job.job_id] = job
        self._waiting.append(job)
        self._arrived.set()
        return job

    def get(self, job_id: str) -> Job | None:
        """Return a job; None: there is none of that name any more."""
        return self._jobs.get(job_id)

    def position(self, job: Job) -> int:
        """Return how many go before a job that waits."""
        running = 0 if self._running_job is None else 1
        return self._waiting.index(job) + running if job in self._waiting else 0

    def remove(self, job_id: str) -> bool:
        """Forget a job, whatever its state; return False if there is none of that name."""
        job = self._jobs.pop(job_id, None)
        if job is None:
            return False
        if job is self._running_job and self._running is not None:
            self._running.cancel()
            return True
        with contextlib.suppress(ValueError):
            self._waiting.remove(job)
        timer = self._finished.pop(job_id, None)
        if timer is not None:
            timer.cancel()
        _delete(job.path)
        return True

    async def run(self) -> None:
        """Analyse what comes, for ever."""
        try:
            while True:
                self._arrived.clear()
                while self._waiting:
                    await self._work(self._waiting.popleft())
                await self._arrived.wait()
        finally:
            for timer in self._finished.values():
                timer.cancel()
            if self._folder is not None:
                shutil.rmtree(self._folder, ignore_errors=True)

    async def _work(self, job: Job) -> None:
        job.state = "running"
        self._running_job = job
        self._running = asyncio.create_task(self._analysed(job), name="analyse")
        try:
            await asyncio.wait([self._running])
            self._settle(job, self._running)
        finally:
            if not self._running.done():
                self._running.cancel()
                await asyncio.gather(self._running, return_exceptions=True)
            self._running = self._running_job = None
            _delete(job.path)

    async def _analysed(self, job: Job) -> FileAnalysis:
        options = AnalysisOptions(job.granularity, embeddings=True)
        return await self._analyse(job.path, options, job.advance)

    def _settle(self, job: Job, task: asyncio.Task[FileAnalysis]) -> None:
        if job.job_id not in self._jobs or task.cancelled():
            self._jobs.pop(job.job_id, None)
            return
        error = task.exception()
        if error is None:
            job.result, job.state, job.progress = task.result(), "done", 1.0
        elif isinstance(error, AnalysisError):
            job.error, job.state = ApiError("bad_audio", str(error)), "failed"
        else:
            _log.error("analysis_failed", error=type(error).__name__, exc_info=error)
            job.error, job.state = ApiError("failed", "the analysis broke off"), "failed"
        loop = asyncio.get_running_loop()
        timer = loop.call_later(self._config.keep_s, self.remove, job.job_id)
        self._finished[job.job_id] = timer
        self._make_room(job)

    def _make_room(self, newest: Job) -> None:
        """Forget the oldest results while they take too much memory; the newest one stays."""
        limit_bytes = self._config.max_kept_mb << 20
        kept = [self._jobs[job_id] for job_id in self._finished]
        total = sum(job.result.num_bytes for job in kept if job.result is not None)
        for job in kept:
            if (total <= limit_bytes and len(self._finished) <= _MAX_FINISHED) or job is newest:
                return
            total -= job.result.num_bytes if job.result is not None else 0
            self.remove(job.job_id)

    def _new_file(self) -> Path:
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix="emotion-monitor-uploads-"))
        handle, name = tempfile.mkstemp(dir=self._folder)
        os.close(handle)
        return Path(name)


def _delete(path: Path) -> None:
    path.unlink(missing_ok=True)
