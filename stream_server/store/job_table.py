"""Files that are analysed on request, as the store keeps them.

The rows of one folder: another server that writes to the same database has files that this one
cannot reach.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from stream_server.store import job_rows
from stream_server.store.reader import StoreReader
from stream_server.store.records import JobRecord, JobState
from stream_server.store.writer import StoreWriter

__all__ = ["JobTable"]


class JobTable:
    """The jobs whose files are in one folder.

    Everything raises :class:`StoreUnavailableError` where the database does not answer or the
    store is closed.

    Args:
        writer: its thread changes rows.
        reader: its threads read them.
        owner: names that folder.
    """

    def __init__(self, writer: StoreWriter, reader: StoreReader, owner: str) -> None:
        self._writer = writer
        self._reader = reader
        self._owner = owner

    async def add(self, *records: JobRecord) -> None:
        """Add jobs, all or none."""
        owner = self._owner
        await self._writer.submit(
            lambda connection: job_rows.insert_jobs(connection, owner, records)
        )

    async def change(self, job_id: str, **values: Any) -> bool:
        """Change fields of a :class:`JobRecord`; return False if there is none of that name."""
        owner = self._owner
        return await self._writer.submit(
            lambda connection: job_rows.update_job(connection, owner, job_id, values)
        )

    async def delete(self, job_id: str) -> bool:
        """Delete a job; return False if there is none of that name."""
        owner = self._owner
        return await self._writer.submit(
            lambda connection: job_rows.delete_job(connection, owner, job_id)
        )

    async def get(self, job_id: str) -> JobRecord | None:
        """Return a job; None: there is none of that name."""
        return await self._reader.read(job_rows.job, self._owner, job_id)

    async def page(
        self,
        *,
        states: Collection[JobState] | None = None,
        limit: int = 100,
        offset: int = 0,
    ) -> list[JobRecord]:
        """Return jobs, the newest first.

        Args:
            states: only those; None: all.
            limit: how many at most.
            offset: how many of the newest to leave out.
        """
        return await self._reader.read(
            job_rows.list_jobs, self._owner, states=states, limit=limit, offset=offset
        )

    async def open_jobs(self) -> list[JobRecord]:
        """Return the jobs that wait or run, in the order they came."""
        return await self._reader.read(job_rows.open_jobs, self._owner)

    async def finished(self, *, before: float | None = None, limit: int = 100) -> list[JobRecord]:
        """Return the jobs that were finished first.

        Args:
            before: finished before this time, seconds since 1970; None: whenever.
            limit: how many at most.
        """
        return await self._reader.read(
            job_rows.finished_jobs, self._owner, before=before, limit=limit
        )

    async def cached(self, cache_key: str) -> JobRecord | None:
        """Return the newest job that is done and has the result of a key; None: there is none."""
        return await self._reader.read(job_rows.cached_job, self._owner, cache_key)

    async def usage(self) -> tuple[int, int]:
        """Return how many jobs are finished, and what all results take, in bytes."""
        return await self._reader.read(job_rows.usage, self._owner)

    async def known(self, job_ids: Sequence[str]) -> set[str]:
        """Return which of some names, a few hundred at most, are those of jobs."""
        return await self._reader.read(job_rows.known_jobs, self._owner, job_ids)
