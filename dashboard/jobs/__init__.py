"""Files that are analysed on request: sent, queued, analysed, kept, across restarts.

:class:`Jobs` has all of them: accepted, started in turn, listed, cancelled, deleted, expired.

============  ==========================================================================
``options``   what a file is to be analysed for
``queue``     limits and order: bookkeeping, nothing else
``spool``     the folder of files that wait and of results, taken over at a start
``rows``      what is known of each job: in the store, or in memory without one
``work``      one job from its turn to its end
``analyser``  the analysis itself, with the server's engines
============  ==========================================================================
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import structlog

from dashboard.backend import Analyse
from dashboard.config import AnalyseConfig
from dashboard.jobs.queue import JobQueue, Place, reserve
from dashboard.jobs.rows import JobRows
from dashboard.jobs.spool import Spool, take_up
from dashboard.jobs.work import ActiveJob, JobWorker
from stream_server.at_rest import Keys
from stream_server.store import (
    JobRecord,
    JobState,
    StoreError,
    StoreUnavailableError,
    with_name,
)

__all__ = ["Jobs", "Place"]

_log = structlog.get_logger(__name__)
_MAX_FINISHED = 10_000
_AT_A_TIME = 50
_UPKEEP_INTERVAL_S = 600.0
_READY_POLL_S = 0.25
# Longest wait for a job that is cancelled: a forward pass cannot be interrupted.
_CANCEL_TIMEOUT_S = 15.0


class Jobs:
    """All jobs of this server. Belongs to one event loop.

    ``root``: folder of the files; None: a temporary one. ``rows_of`` returns the rows of a folder,
    by :attr:`Spool.owner`. A job is deleted at the age of ``retention_s``, or that of its team; 0:
    never.
    """

    def __init__(
        self,
        *,
        analyse: Analyse,
        config: AnalyseConfig,
        root: Path | None,
        rows_of: Callable[[str], JobRows],
        retention_s: float = 0.0,
        team_retention_s: Mapping[str, float] | None = None,
        is_ready: Callable[[], bool] = lambda: True,
        now: Callable[[], float] = time.time,
        keys: Keys | None = None,
    ) -> None:
        self.keys = keys
        self._analyse = analyse
        self._max_kept_bytes = config.max_kept_mb << 20
        self._root = root
        self._rows_of = rows_of
        self._retention_s = retention_s
        self._team_retention_s = dict(team_retention_s or {})
        self._is_ready = is_ready
        self._now = now
        self._queue = JobQueue(
            max_running=config.max_running,
            max_waiting=config.max_waiting,
            max_bytes=config.max_waiting_mb << 20,
        )
        self._active: dict[str, ActiveJob] = {}
        self._changed = asyncio.Event()
        self._labelling = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()
        self._spool: Spool
        self._rows: JobRows
        self._worker: JobWorker

    async def open(self) -> None:
        """Take over the folder, and the jobs the last server left in it.

        Raises:
            ConfigError: the folder cannot be used.
            StoreError: the store does not answer.
        """
        self._spool = await asyncio.to_thread(Spool, self._root)
        try:
            self._rows = self._rows_of(self._spool.owner)
            self._worker = JobWorker(self._analyse, self._rows, self._spool, self._now, self.keys)
            for record in await take_up(self._rows, self._spool, self._now()):
                self._active[record.job_id] = ActiveJob(record)
                # Begun and not ended: the file may be what killed the last server.
                self._queue.restore(record.job_id, record.size_bytes, was_begun=record.attempts > 0)
        except BaseException:
            self._spool.close()
            raise

    async def run(self) -> None:
        """Analyse jobs, for ever. Cancelled, it closes the folder."""
        upkeep = asyncio.create_task(self._run_upkeep())
        try:
            while True:
                # Cleared before looking: what changes from here on ends the wait below.
                self._changed.clear()
                if self._queue.num_waiting and not self._is_ready():
                    # Jobs of the last server are known before a model is loaded.
                    await asyncio.sleep(_READY_POLL_S)
                    continue
                while (job_id := self._queue.next()) is not None:
                    self._start(self._work(self._active[job_id]))
                await self._changed.wait()
        finally:
            upkeep.cancel()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(upkeep, *self._tasks, return_exceptions=True)
            await asyncio.to_thread(self._spool.close)

    # Uploads.

    def place(self) -> contextlib.AbstractContextManager[Place]:
        """Reserve a place for an upload; its file is deleted unless :meth:`add` took it.

        Raises:
            ApiError: a limit is reached.
        """
        return reserve(self._queue, self._spool)

    async def add(
        self,
        uploads: Sequence[tuple[Place, str, dict[str, Any]]],
        *,
        team: str = "",
        metadata: dict[str, str] | None = None,
    ) -> list[JobRecord]:
        """Queue files, all or none.

        ``uploads``: place, name and options of each.

        Raises:
            StoreError: they could not be stored; the files are deleted.
        """
        records = [
            JobRecord(
                job_id=place.job_id,
                name=name,
                options=options,
                size_bytes=place.num_bytes,
                created_at=self._now(),
                team=team,
                metadata=metadata,
            )
            for place, name, options in uploads
        ]
        places = [place for place, _, _ in uploads]
        # From here on the rows decide about the files, not the upload's context manager.
        for place in places:
            place.is_taken = True
        # A client that disconnects cancels its handler: a row without its file, or the reverse.
        adding = asyncio.create_task(self._add(places, records))
        await asyncio.shield(adding)
        return records

    async def _add(self, places: Sequence[Place], records: Sequence[JobRecord]) -> None:
        try:
            await self._rows.add(*records)
        except BaseException:
            for place in places:
                self._queue.release(place.reservation)
                place.path.unlink(missing_ok=True)
            raise
        for place, record in zip(places, records, strict=True):
            self._active[record.job_id] = ActiveJob(record)
            self._queue.put(record.job_id, place.reservation)
        self._changed.set()

    # Queries.

    async def get(self, job_id: str) -> JobRecord | None:
        """Return a job, None if it does not exist."""
        active = self._active.get(job_id)
        return active.view if active is not None else await self._rows.get(job_id)

    async def page(
        self,
        *,
        states: Collection[JobState] | None,
        limit: int,
        offset: int,
        teams: Collection[str] | None = None,
    ) -> list[JobRecord]:
        """Return jobs, newest first; see :class:`~stream_server.store.JobTable`."""
        records = await self._rows.page(states=states, limit=limit, offset=offset, teams=teams)
        return [
            active.view if (active := self._active.get(record.job_id)) else record
            for record in records
        ]

    @property
    def counts(self) -> tuple[int, int]:
        """How many wait, and how many run."""
        return self._queue.num_waiting, self._queue.num_running

    def before(self, job_id: str) -> int:
        """Return how many jobs come before one that waits."""
        return self._queue.before(job_id)

    def folder(self, record: JobRecord) -> Path | None:
        """Return the folder of a job's result, None if it has none."""
        return None if record.folder is None else self._spool.folder(record.folder)

    # Changes.

    async def cancel(self, job_id: str) -> JobRecord | None:
        """Stop a job and delete its file; None if it does not exist.

        A job that has ended stays as it is.

        Raises:
            StoreUnavailableError: its end cannot be stored yet; that is tried again.
        """
        job = self._active.get(job_id)
        if job is None:
            return await self._rows.get(job_id)
        job.cancel()
        # A running one ends by itself; one that waits has no task that could.
        if self._queue.is_waiting(job_id):
            self._queue.leave(job_id)
            self._start(self._drop(job))
        try:
            async with asyncio.timeout(_CANCEL_TIMEOUT_S):
                await job.ended.wait()
        except TimeoutError:
            raise StoreUnavailableError(
                f"the job did not stop within {_CANCEL_TIMEOUT_S:.0f} s"
            ) from None
        return job.record

    async def label(
        self, job_id: str, who: str, channel: int, labels: Sequence[tuple[float, float, str]]
    ) -> bool:
        """Keep what a person hears in a channel, in place of what the same person said before.

        ``labels``: start and end, s, and what is heard; none: nothing is said any more. Return
        False if there is no such job.
        """
        # One at a time: what two people say of a file at once is kept of both.
        async with self._labelling:
            record = await self._rows.get(job_id)
            if record is None:
                return False
            said = {name: dict(channels) for name, channels in (record.labels or {}).items()}
            said.setdefault(who, {})[str(channel)] = list(labels)
            if not labels:
                del said[who][str(channel)]
            kept = {name: channels for name, channels in said.items() if channels}
            return await self._rows.change(job_id, labels=kept or None)

    async def name_speaker(self, job_id: str, channel: int, speaker: str, name: str) -> bool:
        """Call a speaker by a name, "" by none; return False if the job does not exist."""
        async with self._labelling:
            record = await self._rows.get(job_id)
            if record is None:
                return False
            named = with_name(record.speakers, channel, speaker, name)
            return await self._rows.change(job_id, speakers=named)

    async def delete(self, job_id: str) -> bool:
        """Stop a job and delete all of it; return False if it does not exist."""
        record = await self.cancel(job_id)
        if record is None:
            return False
        await self._delete(record)
        return True

    async def _delete(self, record: JobRecord) -> None:
        # The row first: if the server dies in between, the next start deletes a folder without row.
        await self._rows.delete(record.job_id)
        if record.folder is not None:
            await asyncio.to_thread(self._spool.remove_folder, record.folder)

    # Work.

    def _start(self, work: Any) -> None:
        task: asyncio.Task[None] = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _work(self, job: ActiveJob) -> None:
        try:
            await self._worker.work(job)
        except Exception as error:
            # A bug must not keep its place in the queue; the next start cleans up after it.
            _log.error("analysis_not_ended", error=type(error).__name__, exc_info=error)
        self._leave(job)
        with contextlib.suppress(StoreError):
            await self._make_room(job.record.job_id)

    async def _drop(self, job: ActiveJob) -> None:
        await self._worker.settle(job, state="cancelled")
        self._leave(job)

    def _leave(self, job: ActiveJob) -> None:
        job_id = job.record.job_id
        self._queue.leave(job_id)
        del self._active[job_id]
        job.ended.set()
        self._changed.set()

    # Upkeep.

    async def _run_upkeep(self) -> None:
        while True:
            try:
                await self.expire()
                await self._make_room("")
            except StoreError as error:
                _log.warning("analyses_upkeep_failed", error=str(error))
            await asyncio.sleep(_UPKEEP_INTERVAL_S)

    async def expire(self) -> int:
        """Delete the jobs that ended longer ago than they are kept; return how many."""
        num_deleted = 0
        for team, retention_s in self._team_retention_s.items():
            num_deleted += await self._expire_before(self._now() - retention_s, team=team)
        if self._retention_s:
            but = tuple(self._team_retention_s)
            num_deleted += await self._expire_before(self._now() - self._retention_s, but=but)
        if num_deleted:
            _log.info("analyses_expired", jobs=num_deleted)
        return num_deleted

    async def _expire_before(
        self, before: float, *, team: str | None = None, but: Collection[str] = ()
    ) -> int:
        num_deleted = 0
        while expired := await self._rows.finished(
            before=before, limit=_AT_A_TIME, team=team, but=but
        ):
            for record in expired:
                await self._delete(record)
            num_deleted += len(expired)
        return num_deleted

    async def _make_room(self, newest: str) -> None:
        """Delete the oldest results while they take too much disk; the newest one stays."""
        num_finished, kept_bytes = await self._rows.usage()
        while num_finished > _MAX_FINISHED or kept_bytes > self._max_kept_bytes:
            oldest = await self._rows.finished(limit=_AT_A_TIME)
            for record in oldest:
                # The result that was just made is kept even if it alone is over the limit: else
                # a large file could be analysed for ever without anybody seeing its result.
                if record.job_id == newest or (
                    num_finished <= _MAX_FINISHED and kept_bytes <= self._max_kept_bytes
                ):
                    return
                await self._delete(record)
                num_finished -= 1
                kept_bytes -= record.kept_bytes
            if not oldest:
                return
