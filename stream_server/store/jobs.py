"""Files that are analysed on request, as the store keeps them.

The rows of one folder: another server that writes to the same database has files that this one
cannot reach.

Rows of ``jobs``: asked for and changed. Each function is one short transaction.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import msgspec
from sqlalchemy import delete, func, insert, select, update
from sqlalchemy.engine import Connection

from stream_server.store.reader import StoreReader
from stream_server.store.records import JobRecord, JobState
from stream_server.store.rows import text
from stream_server.store.schema import jobs
from stream_server.store.writer import StoreWriter

_FIELDS = JobRecord.__struct_fields__
_COLUMNS = [jobs.c.id.label("job_id"), *(jobs.c[name] for name in _FIELDS if name != "job_id")]


def insert_jobs(connection: Connection, owner: str, records: Sequence[JobRecord]) -> None:
    """Add jobs."""
    for record in records:
        row = msgspec.structs.asdict(record)
        row["id"] = row.pop("job_id")
        connection.execute(insert(jobs).values(owner=owner, **_clean(row)))


def update_job(connection: Connection, owner: str, job_id: str, values: dict[str, Any]) -> bool:
    """Change fields of a job; return False if there is none of that name."""
    changed = connection.execute(
        update(jobs).where(jobs.c.id == job_id, jobs.c.owner == owner).values(**_clean(values))
    )
    return bool(changed.rowcount)


def delete_job(connection: Connection, owner: str, job_id: str) -> bool:
    """Delete a job; return False if there is none of that name."""
    deleted = connection.execute(delete(jobs).where(jobs.c.id == job_id, jobs.c.owner == owner))
    return bool(deleted.rowcount)


def job(connection: Connection, owner: str, job_id: str) -> JobRecord | None:
    """Return a job; None: there is none of that name."""
    query = select(*_COLUMNS).where(jobs.c.id == job_id, jobs.c.owner == owner)
    row = connection.execute(query).mappings().one_or_none()
    return None if row is None else JobRecord(**row)


def list_jobs(
    connection: Connection,
    owner: str,
    *,
    states: Collection[JobState] | None,
    limit: int,
    offset: int,
) -> list[JobRecord]:
    """Return jobs, the newest first."""
    query = select(*_COLUMNS).where(jobs.c.owner == owner)
    if states is not None:
        query = query.where(jobs.c.state.in_(states))
    query = query.order_by(jobs.c.key.desc()).limit(limit).offset(offset)
    return [JobRecord(**row) for row in connection.execute(query).mappings()]


def open_jobs(connection: Connection, owner: str) -> list[JobRecord]:
    """Return the jobs that wait or run, in the order they came."""
    query = (
        select(*_COLUMNS)
        .where(jobs.c.owner == owner, jobs.c.state.in_(["waiting", "running"]))
        .order_by(jobs.c.key)
    )
    return [JobRecord(**row) for row in connection.execute(query).mappings()]


def finished_jobs(
    connection: Connection, owner: str, *, before: float | None, limit: int
) -> list[JobRecord]:
    """Return the jobs that were finished first, before a time if one is given."""
    query = select(*_COLUMNS).where(jobs.c.owner == owner, jobs.c.finished_at.is_not(None))
    if before is not None:
        query = query.where(jobs.c.finished_at < before)
    query = query.order_by(jobs.c.finished_at, jobs.c.key).limit(limit)
    return [JobRecord(**row) for row in connection.execute(query).mappings()]


def cached_job(connection: Connection, owner: str, cache_key: str) -> JobRecord | None:
    """Return the newest job that is done and has the result of a key."""
    query = (
        select(*_COLUMNS)
        .where(jobs.c.cache_key == cache_key, jobs.c.owner == owner, jobs.c.state == "done")
        .order_by(jobs.c.key.desc())
        .limit(1)
    )
    row = connection.execute(query).mappings().one_or_none()
    return None if row is None else JobRecord(**row)


def usage(connection: Connection, owner: str) -> tuple[int, int]:
    """Return how many jobs are finished, and what all results take, in bytes."""
    query = select(func.count(jobs.c.finished_at), func.coalesce(func.sum(jobs.c.kept_bytes), 0))
    num_finished, kept_bytes = connection.execute(query.where(jobs.c.owner == owner)).one()
    return int(num_finished), int(kept_bytes)


def known_jobs(connection: Connection, owner: str, job_ids: Sequence[str]) -> set[str]:
    """Return which of some names are those of jobs; a few hundred at a time."""
    query = select(jobs.c.id).where(jobs.c.owner == owner, jobs.c.id.in_(job_ids))
    return set(connection.execute(query).scalars())


def _clean(values: dict[str, Any]) -> dict[str, Any]:
    """Return values without what PostgreSQL refuses in a text."""
    return {
        name: text(value) if isinstance(value, str) else value for name, value in values.items()
    }


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
        await self._writer.submit(lambda connection: insert_jobs(connection, owner, records))

    async def change(self, job_id: str, **values: Any) -> bool:
        """Change fields of a :class:`JobRecord`; return False if there is none of that name."""
        owner = self._owner
        return await self._writer.submit(
            lambda connection: update_job(connection, owner, job_id, values)
        )

    async def delete(self, job_id: str) -> bool:
        """Delete a job; return False if there is none of that name."""
        owner = self._owner
        return await self._writer.submit(lambda connection: delete_job(connection, owner, job_id))

    async def get(self, job_id: str) -> JobRecord | None:
        """Return a job; None: there is none of that name."""
        return await self._reader.read(job, self._owner, job_id)

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
            list_jobs, self._owner, states=states, limit=limit, offset=offset
        )

    async def open_jobs(self) -> list[JobRecord]:
        """Return the jobs that wait or run, in the order they came."""
        return await self._reader.read(open_jobs, self._owner)

    async def finished(self, *, before: float | None = None, limit: int = 100) -> list[JobRecord]:
        """Return the jobs that were finished first.

        Args:
            before: finished before this time, seconds since 1970; None: whenever.
            limit: how many at most.
        """
        return await self._reader.read(finished_jobs, self._owner, before=before, limit=limit)

    async def cached(self, cache_key: str) -> JobRecord | None:
        """Return the newest job that is done and has the result of a key; None: there is none."""
        return await self._reader.read(cached_job, self._owner, cache_key)

    async def usage(self) -> tuple[int, int]:
        """Return how many jobs are finished, and what all results take, in bytes."""
        return await self._reader.read(usage, self._owner)

    async def known(self, job_ids: Sequence[str]) -> set[str]:
        """Return which of some names, a few hundred at most, are those of jobs."""
        return await self._reader.read(known_jobs, self._owner, job_ids)
