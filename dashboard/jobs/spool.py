"""What a server that ended, in whatever way, left behind: taken up again, or cleaned up.

The folder of files that wait and of results, and nothing left over in it.

::

    DIR/NAME/.lock               a running server has it
    DIR/NAME/.id                 names the folder in the store
    DIR/NAME/uploads/JOB         a file that waits or runs
    DIR/NAME/2026-11-22/JOB/     a result

Nothing here is named by whoever sends a file. Everything blocks.
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

_ID = re.compile(r"[A-Za-z0-9_-]{16}")
_DAY = re.compile(r"\d{4}-\d\d-\d\d")


def new_job_id() -> str:
    """Return a name that nobody guesses."""
    return secrets.token_urlsafe(12)


class Spool:
    """One server's folder.

    Args:
        root: made if it is not there; None: a temporary one, which :meth:`close` removes.

    Attributes:
        owner: names the folder, for as long as it is there.

    Raises:
        ConfigError: it cannot be made, or a running server has it.
    """

    def __init__(self, root: Path | None = None) -> None:
        self._is_temporary = root is None
        self._root = Path(tempfile.mkdtemp(prefix="emotion-monitor-")) if root is None else root
        try:
            self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
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
        """Let others have the folder; a temporary one is removed with all it holds."""
        if self._lock < 0:
            return
        if self._is_temporary:
            shutil.rmtree(self._root, ignore_errors=True)
        os.close(self._lock)
        self._lock = -1

    def upload(self, job_id: str) -> Path:
        """Return where the file of a job is."""
        return self._uploads / _checked(job_id)

    def folder(self, name: str) -> Path:
        """Return where a folder of :meth:`folder_of` is."""
        day, _, job_id = name.partition("/")
        if not _DAY.fullmatch(day):
            raise ValueError(f"got folder '{name}', expected DAY/JOB")
        return self._root / day / _checked(job_id)

    @staticmethod
    def folder_of(job_id: str, at: float) -> str:
        """Return the folder of a job's result, below this one.

        Args:
            job_id: of the job.
            at: when it came in, seconds since 1970.
        """
        day = datetime.datetime.fromtimestamp(at, datetime.UTC).date()
        return f"{day.isoformat()}/{job_id}"

    def make_folder(self, name: str) -> Path:
        """Make a result's folder, empty."""
        path = self.folder(name)
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir(mode=0o700, parents=True)
        path.parent.chmod(0o700)
        return path

    def remove_upload(self, job_id: str) -> None:
        """Delete the file of a job, if it is there."""
        self.upload(job_id).unlink(missing_ok=True)

    def remove_folder(self, name: str) -> None:
        """Delete a result, if it is there, and the folder of its day if it was the last."""
        path = self.folder(name)
        shutil.rmtree(path, ignore_errors=True)
        with contextlib.suppress(OSError):
            path.parent.rmdir()

    def uploads(self) -> list[str]:
        """Return the jobs whose files are there."""
        return sorted(path.name for path in self._uploads.iterdir() if _ID.fullmatch(path.name))

    def folders(self) -> Iterator[tuple[str, str]]:
        """Yield the folder and the job of each result that is there."""
        for day in sorted(self._root.iterdir()):
            if _DAY.fullmatch(day.name):
                for path in sorted(day.iterdir()):
                    if _ID.fullmatch(path.name):
                        yield f"{day.name}/{path.name}", path.name

    def size_bytes(self, name: str) -> int:
        """Return what a result takes."""
        return sum(path.stat().st_size for path in self.folder(name).rglob("*") if path.is_file())

    def _claim(self) -> None:
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._lock)
            raise ConfigError(
                f"got dashboard.analyse.dir with the folder '{self._root}', which a running server"
                " uses; expected one of its own: stop that server, or name another folder"
            ) from None
        except OSError:
            pass  # A file system without such locks, as some of networks are.

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
