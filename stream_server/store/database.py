"""Connections to the database: one for the writer, a few for readers."""

from __future__ import annotations

import os
import sqlite3
import time
from pathlib import Path

from sqlalchemy import create_engine, event, text
from sqlalchemy.engine import URL, Connection, Engine
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from ser_engine.errors import ConfigError

__all__ = ["NUM_READERS", "describe", "is_away", "make_engine", "size_bytes"]

NUM_READERS = 2
"""Threads, and connections, that answer reads."""

_BUSY_TIMEOUT_MS = 5000
_BUSY_PAUSE_MS = 20
_CONNECT_TIMEOUT_S = 5
_STATEMENT_TIMEOUT_MS = 60_000


def make_engine(url: URL, *, read_only: bool) -> Engine:
    """Return the connections of the writer, or of the readers.

    Args:
        url: checked by :func:`~stream_server.store.url.parse_store_url`.
        read_only: for readers: each transaction sees one moment of the database, and changes
            nothing.

    Raises:
        ConfigError: the folder or file of a SQLite database cannot be made.
    """
    size = NUM_READERS if read_only else 1
    if url.get_backend_name() == "sqlite":
        if not read_only:
            _make_file(Path(str(url.database)))
        engine = create_engine(
            url,
            pool_size=size,
            max_overflow=0,
            # A connection is used by one thread at a time, not always the same one.
            connect_args={"check_same_thread": False, "timeout": _BUSY_TIMEOUT_MS / 1000},
        )
        _set_up_sqlite(engine, read_only)
        return engine
    options = {
        "connect_timeout": str(_CONNECT_TIMEOUT_S),
        # Without these a machine that vanishes is noticed after a quarter of an hour.
        "tcp_user_timeout": "10000",
        "keepalives_idle": "10",
        "application_name": "emotion-monitor",
        "options": f"-c statement_timeout={_STATEMENT_TIMEOUT_MS}",
    }
    return create_engine(
        url,
        pool_size=size,
        max_overflow=0,
        pool_pre_ping=True,
        isolation_level="REPEATABLE READ" if read_only else "READ COMMITTED",
        connect_args={name: value for name, value in options.items() if name not in url.query},
    )


def is_away(error: SQLAlchemyError) -> bool:
    """Return whether trying the same again later may help: the fault is not in the statement."""
    if isinstance(error, PoolTimeoutError | OperationalError | InterfaceError):
        return True
    return isinstance(error, DBAPIError) and error.connection_invalidated


def describe(error: SQLAlchemyError) -> str:
    """Return one line about an error, without the statement and its values."""
    cause = getattr(error, "orig", None) or error
    lines = str(cause).strip().splitlines()
    return f"{type(cause).__name__}: {lines[0] if lines else ''}".rstrip(": ")


def size_bytes(connection: Connection) -> int:
    """Return how large the database is."""
    if connection.dialect.name == "sqlite":
        pages = connection.execute(text("PRAGMA page_count")).scalar_one()
        page_bytes = connection.execute(text("PRAGMA page_size")).scalar_one()
        return int(pages) * int(page_bytes)
    return int(connection.execute(text("SELECT pg_database_size(current_database())")).scalar_one())


def _make_file(path: Path) -> None:
    """Make the file so that nobody else can read it; SQLite gives its side files the same mode."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    except OSError as error:
        raise ConfigError(
            f"got store.url with the file '{path}', which cannot be opened: {error.strerror};"
            " expected a file in a folder that this user may write to"
        ) from None


def _set_up_sqlite(engine: Engine, read_only: bool) -> None:
    def connect(connection: sqlite3.Connection, record: object) -> None:
        # The driver would begin transactions late, and not at all for reads.
        connection.isolation_level = None
        cursor = connection.cursor()
        for statement in (
            f"PRAGMA busy_timeout = {_BUSY_TIMEOUT_MS}",
            "PRAGMA foreign_keys = ON",
            # Takes effect in a new file only; deleted streams then give their space back.
            "PRAGMA auto_vacuum = INCREMENTAL",
            # A commit outlives the process; only a power failure can take the last ones.
            "PRAGMA synchronous = NORMAL",
            # What is deleted is overwritten, not only forgotten.
            "PRAGMA secure_delete = ON",
            f"PRAGMA query_only = {'ON' if read_only else 'OFF'}",
        ):
            cursor.execute(statement)
        _use_write_ahead_log(cursor)
        cursor.close()

    def begin(connection: Connection) -> None:
        # A writer that begins as a reader could not wait for another process's lock.
        connection.exec_driver_sql("BEGIN" if read_only else "BEGIN IMMEDIATE")

    event.listen(engine, "connect", connect)
    event.listen(engine, "begin", begin)


def _use_write_ahead_log(cursor: sqlite3.Cursor) -> None:
    """Switch the file to a write-ahead log, however many open it at once.

    SQLite's own busy timeout does not hold for this statement: where another connection has the
    file of a new database, it fails at once.
    """
    for _ in range(_BUSY_TIMEOUT_MS // _BUSY_PAUSE_MS):
        try:
            cursor.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF not in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
                raise
        time.sleep(_BUSY_PAUSE_MS / 1000)
    cursor.execute("PRAGMA journal_mode = WAL")
