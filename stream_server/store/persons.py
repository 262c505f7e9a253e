"""Finding what is kept of one person, by metadata; and leaving nothing of it behind."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

from sqlalchemy import Column, ColumnElement, Text, cast, or_, select
from sqlalchemy.engine import Connection

from stream_server.store.schema import jobs, streams

_CHECKPOINT_PAUSE_S = 0.05


def find_streams(connection: Connection, values: Collection[str], name: str = "") -> list[str]:
    """Return the ids of streams that have one of the values in their metadata, oldest first.

    Args:
        connection: in a transaction.
        values: what is looked for: as it was told, and hashed.
        name: only in the metadata of this name; "": of any.
    """
    query = (
        select(streams.c.id, streams.c.metadata)
        .where(_holds(streams.c.metadata, values))
        .order_by(streams.c.key)
    )
    return [row.id for row in connection.execute(query) if _has(row.metadata, values, name)]


def find_jobs(connection: Connection, values: Collection[str], name: str = "") -> list[str]:
    """Return the ids of files that have one of the values in their metadata, oldest first."""
    query = (
        select(jobs.c.id, jobs.c.metadata)
        .where(_holds(jobs.c.metadata, values))
        .order_by(jobs.c.key)
    )
    return [row.id for row in connection.execute(query) if _has(row.metadata, values, name)]


def _holds(column: Column[Any], values: Iterable[str]) -> ColumnElement[bool]:
    # A first sieve in the database. SQLite's JSON has \u escapes, PostgreSQL's has the letters.
    text = cast(column, Text)
    forms = {form for value in values for form in (json.dumps(value)[1:-1], value)}
    return or_(*(text.contains(form, autoescape=True) for form in sorted(forms)))


def _has(metadata: dict[str, str] | None, values: Collection[str], name: str) -> bool:
    known = metadata or {}
    return any(value in values for key, value in known.items() if name in ("", key))


def purge_file(file: Path, timeout_s: float = 10.0) -> bool:
    """Move what the write-ahead log of a SQLite file holds into it, and empty the log.

    Deleted rows are overwritten in the file itself (``secure_delete``), but the log keeps earlier
    versions of its pages until then.

    Returns:
        False: somebody has read the database for ``timeout_s`` without a pause.
    """
    deadline = time.monotonic() + timeout_s
    connection = sqlite3.connect(file, timeout=timeout_s, isolation_level=None)
    try:
        while True:
            busy, _, _ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            if not busy:
                return True
            if time.monotonic() > deadline:
                return False
            time.sleep(_CHECKPOINT_PAUSE_S)
    finally:
        connection.close()
