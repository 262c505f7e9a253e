"""Rows of ``jobs``: asked for and changed. Each function is one short transaction."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import msgspec
from sqlalchemy import delete, func, insert, select, update
from sqlalchemy.engine import Connection

from stream_server.store.records import JobRecord, JobState
from stream_server.store.rows import text
from stream_server.store.schema import jobs

__all__ = [
    "cached_job",
    "delete_job",
    "finished_jobs",
    "insert_jobs",
    "job",
    "known_jobs",
    "list_jobs",
    "open_jobs",
    "update_job",
    "usage",
]

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
