"""Finding what is kept of one person, by metadata and names; and leaving nothing of it behind."""

from __future__ import annotations

import json
import re
import sqlite3
import time
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

from sqlalchemy import JSON, Column, ColumnElement, Table, Text, cast, or_, select
from sqlalchemy.engine import Connection, Engine

from stream_server.store.schema import decisions, jobs, metadata, streams

_CHECKPOINT_PAUSE_S = 0.05
_LOCK_TIMEOUT_S = 30
_STATISTICS = "pg_catalog.pg_statistic"
_ERASED = tuple(
    table
    for table in metadata.sorted_tables
    if table in (streams, decisions, jobs)
    or any(key.column.table is streams for key in table.foreign_keys)
)
"""Tables that an erasure deletes from."""


def find_streams(connection: Connection, values: Collection[str], name: str = "") -> list[str]:
    """Return the ids of streams that have one of the values, oldest first.

    In their metadata, or as the name of a speaker.

    ``values``: as it was told, and hashed. ``name``: only in the metadata of this name; "": of any.
    """
    return _find(connection, streams, values, name)


def find_jobs(connection: Connection, values: Collection[str], name: str = "") -> list[str]:
    """Return the ids of files that have one of the values, as above."""
    return _find(connection, jobs, values, name)


def _find(connection: Connection, table: Table, values: Collection[str], name: str) -> list[str]:
    columns = table.c
    query = (
        select(columns.id, columns.metadata, columns.speakers)
        .where(or_(_holds(columns.metadata, values), _holds(columns.speakers, values)))
        .order_by(columns.key)
    )
    return [
        row.id
        for row in connection.execute(query)
        if _has(row.metadata, values, name)
        or (not name and any(_has(called, values, "") for called in (row.speakers or {}).values()))
    ]


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


def purge_database(engine: Engine) -> str:
    """Leave nothing of deleted rows in the files of a database; return why something may be left.

    PostgreSQL's VACUUM frees the place of a deleted row and leaves its bytes there until another
    row takes it; VACUUM FULL writes a table anew and cuts the old file to nothing. The most
    frequent values of columns, names and metadata among them, are in a table of statistics, too.
    """
    if engine.dialect.name == "sqlite":
        file = Path(str(engine.url.database))
        return "" if purge_file(file) else "others read the database all the time; try again later"
    told: list[tuple[str, str]] = []
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        driver: Any = connection.connection.driver_connection
        driver.add_notice_handler(
            lambda notice: told.append(
                (notice.severity_nonlocalized or "", notice.message_detail or "")
            )
        )
        connection.exec_driver_sql(f"SET lock_timeout = '{_LOCK_TIMEOUT_S}s'")
        connection.exec_driver_sql("SET statement_timeout = 0")  # a large table takes minutes
        for table in _ERASED:
            for column in table.columns:
                # Even to the same type it removes the column's statistics. ANALYZE does not where
                # a table is empty, and only a superuser may delete them.
                if isinstance(column.type, Text | JSON):
                    kind = column.type.compile(engine.dialect)
                    connection.exec_driver_sql(
                        f"ALTER TABLE {table.name} ALTER COLUMN {column.name} TYPE {kind}"
                    )
            connection.exec_driver_sql(f"VACUUM (FULL, ANALYZE, VERBOSE) {table.name}")
        connection.exec_driver_sql(f"VACUUM (FULL, VERBOSE) {_STATISTICS}")
        # Not for the next user of the connection.
        connection.invalidate()
    if any(severity == "WARNING" for severity, _ in told):
        return f"some tables were left out ({_STATISTICS} is one): do it as the database's owner"
    # "3 dead row versions cannot be removed yet.", in the language of the server.
    if any(re.match(r"[1-9]", detail) for severity, detail in told if severity == "INFO"):
        return "a transaction from before the erasure can still see it; try again when it has ended"
    return ""
