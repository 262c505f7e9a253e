"""What a server that ended, in whatever way, left behind: taken up again, or cleaned up."""

from __future__ import annotations

import asyncio

import msgspec
import structlog

from dashboard.jobs.rows import JobRows
from dashboard.jobs.spool import Spool
from stream_server.store import JobRecord

__all__ = ["MAX_ATTEMPTS", "take_up"]

MAX_ATTEMPTS = 3
"""How often a file is begun: one that ends the server each time is given up then."""

_AT_A_TIME = 500
_log = structlog.get_logger(__name__)


async def take_up(rows: JobRows, spool: Spool, now: float) -> list[JobRecord]:
    """Return the jobs that go on, in the order they came; delete files that belong to no job.

    Args:
        rows: what is known of the jobs.
        spool: their files.
        now: seconds since 1970.
    """
    uploads = set(await asyncio.to_thread(spool.uploads))
    going_on: list[JobRecord] = []
    for record in await rows.open_jobs():
        if record.job_id not in uploads:
            await _fail(rows, record, now, "file_lost", "the file is no longer on this server")
        elif record.attempts >= MAX_ATTEMPTS:
            reason = (
                f"the server ended {record.attempts} times while it analysed this file; it is not"
                " tried again"
            )
            await _fail(rows, record, now, "too_many_attempts", reason)
        else:
            if record.state == "running":
                await rows.change(record.job_id, state="waiting", progress=0.0)
                record = msgspec.structs.replace(record, state="waiting", progress=0.0)
            going_on.append(record)
    orphans = uploads.difference(record.job_id for record in going_on)
    for job_id in orphans:
        await asyncio.to_thread(spool.remove_upload, job_id)
    num_results = await _remove_strange_results(rows, spool)
    if going_on or orphans or num_results:
        _log.info(
            "analyses_taken_up",
            jobs=len(going_on),
            deleted_uploads=len(orphans),
            deleted_results=num_results,
        )
    return going_on


async def _fail(rows: JobRows, record: JobRecord, now: float, code: str, reason: str) -> None:
    _log.warning("analysis_given_up", reason=code)
    await rows.change(record.job_id, state="failed", finished_at=now, error_code=code, error=reason)


async def _remove_strange_results(rows: JobRows, spool: Spool) -> int:
    """Delete results that no job has; return how many."""
    num_removed = 0
    results = await asyncio.to_thread(lambda: list(spool.folders()))
    for start in range(0, len(results), _AT_A_TIME):
        some = results[start : start + _AT_A_TIME]
        known = await rows.known([job_id for _, job_id in some])
        for folder, job_id in some:
            record = await rows.get(job_id) if job_id in known else None
            # One that was being written when the server died is written anew.
            if record is None or record.folder != folder:
                await asyncio.to_thread(spool.remove_folder, folder)
                num_removed += 1
    return num_removed
