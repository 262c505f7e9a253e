"""The folder of files that wait and of results, and how a new server takes it over.

::

    DIR/NAME/.lock               a running server has it
    DIR/NAME/.id                 names the folder in the store
    DIR/NAME/uploads/JOB         a file that waits or runs
    DIR/NAME/2026-11-22/JOB/     a result

No name here comes from a client. Everything but :func:`take_up` blocks.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import fcntl
import os
import re
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import msgspec
import structlog

from dashboard.jobs.rows import JobRows
from ser_engine.errors import ConfigError
from stream_server.store import JobRecord

# How many servers may die while they analyse a file, before it is given up.
MAX_ATTEMPTS = 3

_log = structlog.get_logger(__name__)
_AT_A_TIME = 500
_ID = re.compile(r"[A-Za-z0-9_-]{16}")
_DAY = re.compile(r"\d{4}-\d\d-\d\d")


def new_job_id() -> str:
    """Return an id that cannot be guessed: who knows it may read the result."""
    return secrets.token_urlsafe(12)


class Spool:
    """One server's folder.

    Args:
        root: made if it is not there; None: a temporary one, which :meth:`close` removes.

    Attributes:
        owner: identifies the folder in the store, for as long as it exists.

    Raises:
        ConfigError: it cannot be made, or a running server has it.
    """

    def __init__(self, root: Path | None = None) -> None:
        self._is_temporary = root is None
        self._root = Path(tempfile.mkdtemp(prefix="emotion-monitor-")) if root is None else root
        try:
            self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
            # mkdir leaves the mode of a folder that exists: recordings are private.
            self._root.chmod(0o700)
            self._uploads.mkdir(mode=0o700, exist_ok=True)
            self._lock = os.open(self._root / ".lock", os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise ConfigError(
                f"got dashboard.analyse.dir with the folder '{self._root}', which cannot be used:"
                f" {error.strerror}; expected one that this user may write to"
            ) from None
        self._claim()
        self.owner = self._identity()

    @property
    def _uploads(self) -> Path:
        return self._root / "uploads"

    def close(self) -> None:
        """Unlock the folder; a temporary one is removed with its contents."""
        if self._lock < 0:
            return
        if self._is_temporary:
            shutil.rmtree(self._root, ignore_errors=True)
        os.close(self._lock)
        self._lock = -1

    def upload(self, job_id: str) -> Path:
        """Return the path of a job's file."""
        return self._uploads / _checked(job_id)

    def folder(self, name: str) -> Path:
        """Return the path of a folder named by :meth:`folder_of`."""
        day, _, job_id = name.partition("/")
        if not _DAY.fullmatch(day):
            raise ValueError(f"got folder '{name}', expected DAY/JOB")
        return self._root / day / _checked(job_id)

    @staticmethod
    def folder_of(job_id: str, at: float) -> str:
        """Return the name of a job's result folder; ``at``: when it came in, s since 1970."""
        day = datetime.datetime.fromtimestamp(at, datetime.UTC).date()
        return f"{day.isoformat()}/{job_id}"

    def make_folder(self, name: str) -> Path:
        """Make a result's folder, empty."""
        path = self.folder(name)
        # An earlier attempt may have left a part of a result.
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir(mode=0o700, parents=True)
        path.parent.chmod(0o700)
        return path

    def remove_upload(self, job_id: str) -> None:
        """Delete the file of a job, if it exists."""
        self.upload(job_id).unlink(missing_ok=True)

    def remove_folder(self, name: str) -> None:
        """Delete a result, if it exists, and the folder of its day if it was the last."""
        path = self.folder(name)
        shutil.rmtree(path, ignore_errors=True)
        # rmdir fails while the day has other results.
        with contextlib.suppress(OSError):
            path.parent.rmdir()

    def uploads(self) -> list[str]:
        """Return the jobs that have a file."""
        return sorted(path.name for path in self._uploads.iterdir() if _ID.fullmatch(path.name))

    def folders(self) -> Iterator[tuple[str, str]]:
        """Yield the folder name and the job of each result."""
        for day in sorted(self._root.iterdir()):
            if _DAY.fullmatch(day.name):
                for path in sorted(day.iterdir()):
                    if _ID.fullmatch(path.name):
                        yield f"{day.name}/{path.name}", path.name

    def size_bytes(self, name: str) -> int:
        """Return the size of a result."""
        return sum(path.stat().st_size for path in self.folder(name).rglob("*") if path.is_file())

    def _claim(self) -> None:
        try:
            # The kernel releases it with the process, however that ends: no stale lock files.
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._lock)
            raise ConfigError(
                f"got dashboard.analyse.dir with the folder '{self._root}', which a running server"
                " uses; expected one of its own: stop that server, or name another folder"
            ) from None
        except OSError:
            pass  # Some network file systems have no locks.

    def _identity(self) -> str:
        path = self._root / ".id"
        with contextlib.suppress(FileNotFoundError):
            known = path.read_text(encoding="ascii").strip()
            if _ID.fullmatch(known):
                return known
        new = new_job_id()
        path.write_text(new + "\n", encoding="ascii")
        return new


def _checked(job_id: str) -> str:
    if not _ID.fullmatch(job_id):
        raise ValueError("got a name that is not of a job")
    return job_id


async def take_up(rows: JobRows, spool: Spool, now: float) -> list[JobRecord]:
    """Return the jobs of the last server that go on, oldest first; delete what belongs to none.

    A server may have died at any moment: rows and files need not agree. ``now`` is in seconds
    since 1970.
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
    """Delete results without a job; return how many."""
    num_removed = 0
    results = await asyncio.to_thread(lambda: list(spool.folders()))
    for start in range(0, len(results), _AT_A_TIME):
        some = results[start : start + _AT_A_TIME]
        known = await rows.known([job_id for _, job_id in some])
        for folder, job_id in some:
            record = await rows.get(job_id) if job_id in known else None
            # No folder in the row: it was being written when the server died, and is incomplete.
            if record is None or record.folder != folder:
                await asyncio.to_thread(spool.remove_folder, folder)
                num_removed += 1
    return num_removed
