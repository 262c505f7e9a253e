"""Files that are analysed on request, as rows of ``jobs``."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import msgspec
from sqlalchemy import Select, delete, func, insert, select, update
from sqlalchemy.engine import Connection

from stream_server.store.reader import StoreReader
from stream_server.store.records import JobRecord, JobState
from stream_server.store.rows import clean
from stream_server.store.schema import jobs
from stream_server.store.writer import StoreWriter

_FIELDS = JobRecord.__struct_fields__
_COLUMNS = [jobs.c.id.label("job_id"), *(jobs.c[name] for name in _FIELDS if name != "job_id")]


class JobTable:
    """The jobs of one owner, whose files are in one folder.

    Another server that writes to the same database has files that this one cannot reach, so it does
    not see this one's rows either.

    Every method raises :class:`StoreUnavailableError` if the database does not answer or the store
    is closed.
    """

    def __init__(self, writer: StoreWriter, reader: StoreReader, owner: str) -> None:
        self._writer = writer
        self._reader = reader
        self._owner = owner
        self._own = jobs.c.owner == owner

    async def add(self, *records: JobRecord) -> None:
        """Add jobs, all or none."""

        def add(connection: Connection) -> None:
            for record in records:
                row = msgspec.structs.asdict(record)
                row["id"] = row.pop("job_id")
                connection.execute(insert(jobs).values(owner=self._owner, **clean(row)))

        await self._writer.submit(add)

    async def change(self, job_id: str, **values: Any) -> bool:
        """Change fields of a :class:`JobRecord`; return False if there is none with that id."""
        statement = update(jobs).where(jobs.c.id == job_id, self._own).values(**clean(values))
        return await self._writer.submit(
            lambda connection: bool(connection.execute(statement).rowcount)
        )

    async def delete(self, job_id: str) -> bool:
        """Delete a job; return False if there is none with that id."""
        statement = delete(jobs).where(jobs.c.id == job_id, self._own)
        return await self._writer.submit(
            lambda connection: bool(connection.execute(statement).rowcount)
        )

    async def get(self, job_id: str) -> JobRecord | None:
        """Return a job; None: there is none with that id."""
        return next(iter(await self._find(self._select().where(jobs.c.id == job_id))), None)

    async def page(
        self,
        *,
        states: Collection[JobState] | None = None,
        limit: int = 100,
        offset: int = 0,
        teams: Collection[str] | None = None,
    ) -> list[JobRecord]:
        """Return jobs, the newest first; ``states`` and ``teams`` None: of all."""
        query = self._select()
        if teams is not None:
            query = query.where(jobs.c.team.in_(teams))
        if states is not None:
            query = query.where(jobs.c.state.in_(states))
        return await self._find(query.order_by(jobs.c.key.desc()).limit(limit).offset(offset))

    async def open_jobs(self) -> list[JobRecord]:
        """Return the jobs that wait or run, in the order they came."""
        is_open = jobs.c.state.in_(["waiting", "running"])
        return await self._find(self._select().where(is_open).order_by(jobs.c.key))

    async def finished(
        self,
        *,
        before: float | None = None,
        limit: int = 100,
        team: str | None = None,
        but: Collection[str] = (),
    ) -> list[JobRecord]:
        """Return the jobs that were finished first, before a time in seconds since 1970.

        Files of one team, None: of all, but not those of the teams ``but``.
        """
        query = self._select().where(jobs.c.finished_at.is_not(None))
        if team is not None:
            query = query.where(jobs.c.team == team)
        if but:
            query = query.where(jobs.c.team.not_in(but))
        if before is not None:
            query = query.where(jobs.c.finished_at < before)
        return await self._find(query.order_by(jobs.c.finished_at, jobs.c.key).limit(limit))

    async def cached(self, cache_key: str) -> JobRecord | None:
        """Return the newest job that is done and has the result of a key, if there is one."""
        query = self._select().where(jobs.c.cache_key == cache_key, jobs.c.state == "done")
        return next(iter(await self._find(query.order_by(jobs.c.key.desc()).limit(1))), None)

    async def usage(self) -> tuple[int, int]:
        """Return how many jobs are finished, and what all results take, in bytes."""
        query = select(
            # COUNT of a column leaves NULL out: jobs that are not finished.
            func.count(jobs.c.finished_at),
            func.coalesce(func.sum(jobs.c.kept_bytes), 0),
        ).where(self._own)
        num_finished, kept_bytes = await self._reader.read(
            lambda connection: connection.execute(query).one()
        )
        # PostgreSQL sums BIGINT as NUMERIC, which comes as a Decimal.
        return int(num_finished), int(kept_bytes)

    async def known(self, job_ids: Sequence[str]) -> set[str]:
        """Return which of some ids, a few hundred at most, are those of jobs."""
        query = select(jobs.c.id).where(self._own, jobs.c.id.in_(job_ids))
        return await self._reader.read(lambda connection: set(connection.execute(query).scalars()))

    def _select(self) -> Select[Any]:
        return select(*_COLUMNS).where(self._own)

    async def _find(self, query: Select[Any]) -> list[JobRecord]:
        return await self._reader.read(
            lambda connection: [JobRecord(**row) for row in connection.execute(query).mappings()]
        )
