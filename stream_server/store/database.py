"""Connections to the database: one for the writer, a few for readers.

``store.url``, checked: which database, and is what it takes there?

Who a SQLite file belongs to while a server runs: a lock that ends with the process.

The lock is on a file beside the database. SQLite's own locks are gone as soon as the process closes
any descriptor of the database file, so that one is not touched.

Bring a database to the tables this version knows.
"""

from __future__ import annotations

import fcntl
import importlib.util
import os
import sqlite3
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any
from urllib.parse import quote

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import create_engine, event, text
from sqlalchemy.engine import URL, Connection, Engine, make_url
from sqlalchemy.exc import (
    ArgumentError,
    DBAPIError,
    InterfaceError,
    OperationalError,
    SQLAlchemyError,
)
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from ser_engine.errors import ConfigError
from stream_server.store.errors import StoreError, StoreUnavailableError, StoreVersionError

Job = tuple[Callable[[Connection], Any], "Future[Any]"]
"""What to do in a transaction, and who waits for its outcome."""

_EXPECTED = "expected sqlite:///FOLDER/FILE.db or postgresql+psycopg://USER:PASSWORD@HOST/DATABASE"


def parse_store_url(text: str) -> URL:
    """Return the URL with the user's home folder in place of ``~`` and psycopg as driver.

    Raises:
        ConfigError: it is no URL of a SQLite file or a PostgreSQL database, or the driver is not
            installed.
    """
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):
        # The text may hold a password, so it is not repeated.
        raise ConfigError(f"got a store.url that is no database URL, {_EXPECTED}") from None
    if url.drivername in ("sqlite", "sqlite+pysqlite"):
        return _sqlite(url)
    if url.drivername in ("postgresql", "postgres", "postgresql+psycopg"):
        return _postgresql(url)
    raise ConfigError(f"got store.url with '{url.drivername}', {_EXPECTED}")


def _sqlite(url: URL) -> URL:
    if url.host:
        raise ConfigError(
            f"got store.url '{url}' with a host, expected three slashes before a relative path and"
            " four before an absolute one"
        )
    if not url.database or url.database == ":memory:" or url.database.startswith("file:"):
        raise ConfigError(
            f"got store.url '{url}' without a file, expected sqlite:///FOLDER/FILE.db; \"\" keeps"
            " nothing"
        )
    try:
        path = Path(url.database).expanduser()
    except RuntimeError:
        raise ConfigError(
            f"got store.url '{url}', expected a home folder for '~'; name the folder in full"
        ) from None
    return url.set(drivername="sqlite", database=str(path.absolute()))


def _postgresql(url: URL) -> URL:
    if importlib.util.find_spec("psycopg") is None:
        raise ConfigError(
            "got a store.url of PostgreSQL without its driver; pip install"
            " 'emotion-monitor[postgresql]'"
        )
    if not url.database:
        raise ConfigError(
            f"got store.url '{url.render_as_string()}' without a database, {_EXPECTED}"
        )
    return url.set(drivername="postgresql+psycopg")


class Claim:
    """A SQLite file, taken for one server; a database server's needs none.

    Args:
        url: checked by :func:`~stream_server.store.database.parse_store_url`; its folder exists.
        owner: name of this server; others may have the same file.

    Raises:
        StoreError: a running server of this name has it.
    """

    def __init__(self, url: URL, owner: str) -> None:
        self._descriptor: int | None = None
        if url.get_backend_name() != "sqlite" or not url.database:
            return
        path = Path(url.database)
        suffix = f".{quote(owner, safe='')}.lock" if owner else ".lock"
        descriptor = os.open(path.with_name(path.name + suffix), os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            raise StoreError(
                f"got store.url with the file '{path}', which a running server writes to; expected"
                " a file of its own: stop that server, or name another file"
            ) from None
        except OSError:
            # A file system without such locks, as some of networks are.
            os.close(descriptor)
            return
        self._descriptor = descriptor

    def release(self) -> None:
        """Give it back; a second time is nothing."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


_MIGRATIONS = Path(__file__).parent / "migrations"
_LOCK = 0x456D6F4D
"""Number of the lock that lets one server at a time upgrade a PostgreSQL database."""


def newest_revision() -> str:
    """Return the name of the last step."""
    (head,) = ScriptDirectory(str(_MIGRATIONS)).get_heads()
    return head


def upgrade_schema(connection: Connection) -> None:
    """Apply the steps that are missing, inside the connection's transaction.

    Raises:
        StoreVersionError: the database was made by a newer version.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
    scripts = ScriptDirectory(str(_MIGRATIONS))
    for revision in MigrationContext.configure(connection).get_current_heads():
        try:
            scripts.get_revision(revision)
        except CommandError:
            raise StoreVersionError(
                f"got a database with tables of version '{revision}', expected"
                f" '{newest_revision()}' or older: a newer emotion-monitor made it; install that"
                " one, or point store.url to another database"
            ) from None
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


NUM_READERS = 2
"""Threads, and connections, that answer reads."""

_BUSY_TIMEOUT_MS = 5000
_BUSY_PAUSE_MS = 20
_CONNECT_TIMEOUT_S = 5
_STATEMENT_TIMEOUT_MS = 60_000


def make_engine(url: URL, *, read_only: bool) -> Engine:
    """Return the connections of the writer, or of the readers.

    Args:
        url: checked by :func:`~stream_server.store.database.parse_store_url`.
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


def refuse(jobs: deque[Job], error: SQLAlchemyError | None) -> None:
    """Tell those who wait for jobs that they are not done, and forget them.

    Args:
        jobs: left empty.
        error: why the database does not answer; None: the store is closed.
    """
    while jobs:
        _, future = jobs.popleft()
        if future.set_running_or_notify_cancel():
            future.set_exception(unavailable(error))


def unavailable(error: SQLAlchemyError | None) -> StoreUnavailableError:
    """Return what a caller is told, arguments as for :func:`refuse`."""
    if error is None:
        return StoreUnavailableError("the store is closed")
    return StoreUnavailableError(
        f"got no answer from the database ({describe(error)}); it is tried again by itself"
    )
