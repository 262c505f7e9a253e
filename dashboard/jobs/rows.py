"""The rows of jobs: those of a store, and a stand-in for a server without one."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from itertools import islice
from typing import Any

import msgspec

from stream_server.store import JobRecord, JobState, JobTable


class MemoryRows:
    """Rows in memory, in order of arrival; its methods are those of ``JobTable``."""

    def __init__(self) -> None:
        self._rows: dict[str, JobRecord] = {}

    async def add(self, *records: JobRecord) -> None:
        """Add jobs, all or none."""
        self._rows |= {record.job_id: record for record in records}

    async def change(self, job_id: str, **values: Any) -> bool:
        """Change fields of a job; return False if it does not exist."""
        record = self._rows.get(job_id)
        if record is None:
            return False
        self._rows[job_id] = msgspec.structs.replace(record, **values)
        return True

    async def delete(self, job_id: str) -> bool:
        """Delete a job; return False if it does not exist."""
        return self._rows.pop(job_id, None) is not None

    async def get(self, job_id: str) -> JobRecord | None:
        """Return a job, None if it does not exist."""
        return self._rows.get(job_id)

    async def page(
        self,
        *,
        states: Collection[JobState] | None = None,
        limit: int = 100,
        offset: int = 0,
        teams: Collection[str] | None = None,
    ) -> list[JobRecord]:
        """Return jobs, the newest first."""
        newest = reversed(self._rows.values())
        wanted = (
            row
            for row in newest
            if (states is None or row.state in states) and (teams is None or row.team in teams)
        )
        return list(islice(wanted, offset, offset + limit))

    async def open_jobs(self) -> list[JobRecord]:
        """Return the jobs that wait or run, oldest first."""
        return [row for row in self._rows.values() if not row.is_final]

    async def finished(
        self,
        *,
        before: float | None = None,
        limit: int = 100,
        team: str | None = None,
        but: Collection[str] = (),
    ) -> list[JobRecord]:
        """Return finished jobs, those that finished first."""
        ended: Iterable[tuple[float, JobRecord]] = (
            (row.finished_at, row) for row in self._rows.values() if row.finished_at is not None
        )
        wanted = [
            (at, row)
            for at, row in ended
            if (before is None or at < before)
            and (team is None or row.team == team)
            and row.team not in but
        ]
        return [row for _, row in sorted(wanted, key=lambda pair: pair[0])[:limit]]

    async def cached(self, cache_key: str) -> JobRecord | None:
        """Return the newest job that is done, with a result of this key."""
        for row in reversed(self._rows.values()):
            if row.cache_key == cache_key and row.state == "done":
                return row
        return None

    async def usage(self) -> tuple[int, int]:
        """Return how many jobs are finished, and what all results take, in bytes."""
        rows = self._rows.values()
        return sum(row.is_final for row in rows), sum(row.kept_bytes for row in rows)

    async def known(self, job_ids: Sequence[str]) -> set[str]:
        """Return which of some ids are jobs."""
        return {job_id for job_id in job_ids if job_id in self._rows}


JobRows = JobTable | MemoryRows
