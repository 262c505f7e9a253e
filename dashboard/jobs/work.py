"""One job from its turn to its end, whatever that is.

::

    running (stored: if the server dies of the file, that is known) ─▶ same bytes before?
        ├─ yes: the files of that result
        └─ no: analyse
    ─▶ done, failed or cancelled (stored) ─▶ the file is deleted
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec
import structlog

from dashboard.backend import Analyse, Analysed, AnalysisError, AnalysisRequest
from dashboard.jobs.rows import JobRows
from dashboard.jobs.spool import Spool
from dashboard.results import rename_result
from ser_engine.files import file_sha256
from stream_server.at_rest import Keys, readable, seal
from stream_server.store import JobRecord, StoreError, StoreUnavailableError

_PROGRESS_INTERVAL_S = 1.0
_MAX_REASON = 500
_FIRST_RETRY_S, _LAST_RETRY_S = 0.5, 10.0
_log = structlog.get_logger(__name__)


class ActiveJob:
    """A job that waits or runs.

    Attributes:
        record: what is known of it, progress aside; ahead of what is stored.
        progress: how much is done, 0 to 1.
        is_cancelled: nobody wants its result.
        is_settled: how it ended is stored.
        began_s: when its analysis began, on the event loop's clock; None: it has not, here.
        ended: set when it has left the queue.
    """

    def __init__(self, record: JobRecord) -> None:
        self.record = record
        self.progress = 0.0
        self.is_cancelled = False
        self.is_settled = False
        self.began_s: float | None = None
        self.ended = asyncio.Event()
        self._analysis: asyncio.Task[dict[str, Any]] | None = None

    @property
    def view(self) -> JobRecord:
        """What is known of it."""
        if self.record.is_final:
            return self.record
        return msgspec.structs.replace(self.record, progress=self.progress)

    def note(self, **values: Any) -> None:
        """Change what is known of it."""
        self.record = msgspec.structs.replace(self.record, **values)

    def advance(self, progress: float) -> None:
        """Note how much is done; in any thread."""
        self.progress = max(self.progress, min(progress, 1.0))

    def cancel(self) -> None:
        """Stop its analysis as soon as that can be."""
        self.is_cancelled = True
        if self._analysis is not None:
            self._analysis.cancel()

    def begin(self, analysis: asyncio.Task[dict[str, Any]]) -> None:
        """Note what :meth:`cancel` has to stop."""
        self._analysis = analysis


@dataclass(frozen=True, slots=True)
class JobWorker:
    """Works on jobs."""

    analyse: Analyse
    rows: JobRows
    spool: Spool
    now: Callable[[], float]
    keys: Keys | None = None

    async def work(self, job: ActiveJob) -> None:
        """See a job through. Cancelled, it lets the job wait for the next server."""
        try:
            began = {
                "state": "running",
                "attempts": job.record.attempts + 1,
                "started_at": max(self.now(), job.record.created_at),
            }
            job.began_s = asyncio.get_running_loop().time()
            job.note(**began)
            await self._store(job, began)
            values = await self._outcome(job)
            await self.settle(job, **values)
        except asyncio.CancelledError:
            await self._give_back(job)
            raise

    async def settle(self, job: ActiveJob, **values: Any) -> None:
        """Note how a job ended, and delete its file."""
        values["finished_at"] = self._end_of(job)
        await self._store(job, values)
        job.is_settled = True
        await asyncio.to_thread(self.spool.remove_upload, job.record.job_id)
        # Told last: who sees that it has ended finds nothing left of the file.
        job.note(**values)

    def _end_of(self, job: ActiveJob) -> float:
        """Return the time of day; not before the begin, though the clock was set back."""
        record = job.record
        if job.began_s is not None and record.started_at is not None:
            return record.started_at + asyncio.get_running_loop().time() - job.began_s
        return max(self.now(), record.created_at)

    async def _outcome(self, job: ActiveJob) -> dict[str, Any]:
        if job.is_cancelled:
            return {"state": "cancelled"}
        analysis = asyncio.create_task(self._analysed(job), name="analyse")
        job.begin(analysis)
        telling = asyncio.create_task(self._tell_progress(job))
        try:
            await asyncio.wait([analysis])
        finally:
            telling.cancel()
            analysis.cancel()
            await asyncio.gather(analysis, telling, return_exceptions=True)
        if analysis.cancelled():
            return {"state": "cancelled"}
        error = analysis.exception()
        if error is None:
            return analysis.result()
        if isinstance(error, AnalysisError):
            # Of a library's own words no more than a page can show.
            reason = " ".join(str(error).split())[:_MAX_REASON]
            return {"state": "failed", "error_code": error.code, "error": reason}
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            _log.error("analysis_without_room")
            reason = "the server's disk has no room for the result"
            return {"state": "failed", "error_code": "no_room", "error": reason}
        _log.error("analysis_failed", error=type(error).__name__, exc_info=error)
        return {"state": "failed", "error_code": "failed", "error": "the analysis broke off"}

    async def _analysed(self, job: ActiveJob) -> dict[str, Any]:
        """Return what is to be noted of a job that is done."""
        record, spool = job.record, self.spool
        path = spool.upload(record.job_id)
        if not await asyncio.to_thread(path.is_file):
            raise AnalysisError("the file is no longer on this server", code="file_lost")
        name = spool.folder_of(record.job_id, record.created_at)
        folder = await asyncio.to_thread(spool.make_folder, name)
        try:
            with readable(path, self.keys) as clear:
                content = await asyncio.to_thread(file_sha256, clear)
                request = AnalysisRequest(clear, record.name, record.options, folder, content)
                found = await self._repeat(request, self.analyse.key(request))
                if found is None:
                    found = await self.analyse(request, job.advance)
                    if (audio := folder / "audio.flac").is_file():
                        await asyncio.to_thread(seal, audio, self.keys)
            kept_bytes = await asyncio.to_thread(spool.size_bytes, name)
        except BaseException:
            await asyncio.shield(asyncio.to_thread(spool.remove_folder, name))
            raise
        return {
            "state": "done",
            "progress": 1.0,
            "duration_s": found.duration_s,
            "summary": found.summary,
            "cache_key": found.cache_key,
            "folder": name,
            "kept_bytes": kept_bytes,
        }

    async def _repeat(self, request: AnalysisRequest, key: str) -> Analysed | None:
        """Copy the result of the same bytes, model and settings, if there is one."""
        record = await self.rows.cached(key)
        if record is None or record.folder is None or record.duration_s is None:
            return None
        kept = self.spool.folder(record.folder)

        def copy() -> None:
            shutil.copytree(kept, request.folder, dirs_exist_ok=True)
            rename_result(request.folder, record.name, request.name)

        try:
            await asyncio.to_thread(copy)
        except OSError:  # It was deleted meanwhile.
            return None
        return Analysed(duration_s=record.duration_s, summary=record.summary or {}, cache_key=key)

    async def _tell_progress(self, job: ActiveJob) -> None:
        told = 0.0
        while True:
            await asyncio.sleep(_PROGRESS_INTERVAL_S)
            progress = job.progress
            if progress != told:
                told = progress
                with contextlib.suppress(StoreError):
                    await self.rows.change(job.record.job_id, progress=progress)

    async def _store(self, job: ActiveJob, values: dict[str, Any]) -> None:
        """Store what has become of a job, however long the store takes to answer."""
        retry_s = _FIRST_RETRY_S
        while True:
            try:
                await self.rows.change(job.record.job_id, **values)
                return
            except StoreUnavailableError:
                await asyncio.sleep(retry_s)
                retry_s = min(2 * retry_s, _LAST_RETRY_S)
            except StoreError as error:
                _log.error("analysis_not_stored", error=str(error))
                return

    async def _give_back(self, job: ActiveJob) -> None:
        """Let a job wait for the next server; that this one ended is not the file's fault."""
        if job.is_settled or job.record.state == "waiting":
            return
        attempts = max(0, job.record.attempts - 1)
        with contextlib.suppress(StoreError):
            await self.rows.change(
                job.record.job_id, state="waiting", attempts=attempts, progress=0.0
            )
