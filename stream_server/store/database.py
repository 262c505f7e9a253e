"""The database: its URL, its connections (one writes, a few read), its migrations, its errors.

::

    StoreError
    ├── StoreUnavailableError  the database does not answer (recoverable)
    └── StoreVersionError      the database was made by a newer version

A wrong ``store.url`` or a missing driver is a :class:`~ser_engine.errors.ConfigError`. No message
holds the password of the URL.
"""

from __future__ import annotations

import fcntl
import importlib.util
import os
import sqlite3
import time
from pathlib import Path
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

from ser_engine.errors import ConfigError, how_to_install

_EXAMPLES = "sqlite:///FOLDER/FILE.db or postgresql+psycopg://USER:PASSWORD@HOST/DATABASE"


class StoreError(Exception):
    """Base class of the store's errors."""


class StoreUnavailableError(StoreError):
    """The database does not answer, or the store is closed. It may work again later."""


class StoreVersionError(StoreError):
    """The database has tables this version does not know."""


def parse_store_url(text: str) -> URL:
    """Return the URL with the user's home folder in place of ``~`` and psycopg as driver.

    Raises:
        ConfigError: it is not the URL of a SQLite file or a PostgreSQL database, or the driver is
            not installed.
    """
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):
        # The text may hold a password, so it is not repeated.
        raise ConfigError(f"store.url is not a database URL; expected e.g. {_EXAMPLES}") from None
    if url.drivername in ("sqlite", "sqlite+pysqlite"):
        return _sqlite(url)
    if url.drivername in ("postgresql", "postgres", "postgresql+psycopg"):
        return _postgresql(url)
    raise ConfigError(f"store.url has the driver '{url.drivername}'; expected e.g. {_EXAMPLES}")


def _sqlite(url: URL) -> URL:
    if url.host:
        raise ConfigError(
            f"store.url '{url}' has a host; a path has three slashes before it if it is relative,"
            " four if it is absolute"
        )
    if not url.database or url.database == ":memory:" or url.database.startswith("file:"):
        raise ConfigError(
            f"store.url '{url}' names no file; expected e.g. sqlite:///FOLDER/FILE.db, or \"\" to"
            " keep nothing"
        )
    try:
        path = Path(url.database).expanduser()
    except RuntimeError:
        raise ConfigError(
            f"store.url '{url}': this user has no home folder for '~'; name the folder in full"
        ) from None
    return url.set(drivername="sqlite", database=str(path.absolute()))


def _postgresql(url: URL) -> URL:
    if importlib.util.find_spec("psycopg") is None:
        raise ConfigError(
            "store.url names a PostgreSQL database, and its driver is not installed;"
            f" {how_to_install('postgresql')}"
        )
    if not url.database:
        raise ConfigError(
            f"store.url '{url.render_as_string()}' names no database; expected e.g. {_EXAMPLES}"
        )
    return url.set(drivername="postgresql+psycopg")


class Claim:
    """The claim of one server on a SQLite file; a database server needs none.

    It is a lock on a file beside the database, which ends with the process however that ends.
    SQLite's own locks would not do: POSIX drops them as soon as the process closes any descriptor
    of the database file (https://www.sqlite.org/howtocorrupt.html, 2.2).

    Servers of other names (``owner``) may have the same file.

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
                f"store.url: a running server writes to the file '{path}'; stop that server, or"
                " name another file"
            ) from None
        except OSError:
            # Some network file systems have no such locks; the operator has to take care there.
            os.close(descriptor)
            return
        self._descriptor = descriptor

    def release(self) -> None:
        """Give it up; may be called twice."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


_MIGRATIONS = Path(__file__).parent / "migrations"
# Number of the advisory lock under which one server at a time upgrades a PostgreSQL database:
# "EmoM" in ASCII, as no other program is likely to choose.
_LOCK = 0x456D6F4D


def newest_revision() -> str:
    """Return the name of the last migration."""
    (head,) = ScriptDirectory(str(_MIGRATIONS)).get_heads()
    return head


def upgrade_schema(connection: Connection) -> None:
    """Apply the migrations that are missing, inside the connection's transaction.

    Raises:
        StoreVersionError: the database was made by a newer version.
    """
    # SQLite needs no lock: BEGIN IMMEDIATE has taken the only one there is for writing.
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
    scripts = ScriptDirectory(str(_MIGRATIONS))
    for revision in MigrationContext.configure(connection).get_current_heads():
        try:
            scripts.get_revision(revision)
        except CommandError:
            raise StoreVersionError(
                f"the database has tables of version '{revision}', newer than"
                f" '{newest_revision()}': a newer emotion-monitor made it; install that one, or"
                " point store.url to another database"
            ) from None
    config = Config()
    # alembic interpolates "%" in its options, and a path may have one.
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


NUM_READERS = 2
"""Threads, and connections, that answer reads."""

_BUSY_TIMEOUT_MS = 5000
_BROKEN_FILE = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_BUSY_PAUSE_MS = 20
_CONNECT_TIMEOUT_S = 5
_STATEMENT_TIMEOUT_MS = 60_000


def make_engine(url: URL, *, read_only: bool) -> Engine:
    """Return the connections of the writer, or of the readers.

    ``read_only``, for readers: each transaction sees one moment of the database, and changes
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
        # Without these two, a machine that vanishes is noticed when the kernel gives up sending
        # again, after a quarter of an hour (tcp_retries2).
        "tcp_user_timeout": "10000",
        "keepalives_idle": "10",
        "application_name": "emotion-monitor",
        "options": f"-c statement_timeout={_STATEMENT_TIMEOUT_MS}",
    }
    return create_engine(
        url,
        pool_size=size,
        max_overflow=0,
        # A connection that broke while it was idle is replaced, instead of failing once.
        pool_pre_ping=True,
        isolation_level="REPEATABLE READ" if read_only else "READ COMMITTED",
        connect_args={name: value for name, value in options.items() if name not in url.query},
    )


def is_away(error: SQLAlchemyError) -> bool:
    """Return whether the database is at fault, not the statement: later the same may work."""
    if isinstance(error, PoolTimeoutError | OperationalError | InterfaceError):
        return True
    # A file that was overwritten: every statement fails, whatever it says. An operator may put the
    # file right; until then results are kept as for a database that is away.
    if getattr(getattr(error, "orig", None), "sqlite_errorcode", 0) & 0xFF in _BROKEN_FILE:
        return True
    return isinstance(error, DBAPIError) and error.connection_invalidated


def describe(error: SQLAlchemyError) -> str:
    """Return one line about an error, without the statement and its values."""
    cause = getattr(error, "orig", None) or error
    lines = str(cause).strip().splitlines()
    return f"{type(cause).__name__}: {lines[0] if lines else ''}".rstrip(": ")


_SQLITE_MAGIC = b"SQLite format 3\0"


class DatabaseFile:
    """A SQLite file that is being written, to see whether it is still what it was.

    SQLite does not notice that its file was deleted: it writes to what has no name any more. Nor
    does a connection that has pages in memory notice at once that the file was overwritten.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._identity = _identity(path)
        self._log = path.with_name(f"{path.name}-wal")
        self._has_seen_log = self._has_lost_log = False

    def problem(self) -> str | None:
        """Return what happened to the file; None: nothing. Not while a checkpoint is written."""
        try:
            if _identity(self._path) != self._identity:
                return f"the file '{self._path}' was replaced under the server; restart it"
            with self._path.open("rb") as file:
                header = file.read(32)
                size_bytes = os.fstat(file.fileno()).st_size
        except FileNotFoundError:
            return (
                f"the file '{self._path}' is gone: what is written now is lost; restart the server"
            )
        except OSError as error:
            return f"the file '{self._path}' cannot be read: {error.strerror}"
        # https://www.sqlite.org/fileformat.html, 1.3: the size of a page, 1 for 65536, and the
        # number of pages, of which a write-ahead log may have more.
        page_bytes = int.from_bytes(header[16:18], "big")
        page_bytes = 65_536 if page_bytes == 1 else page_bytes
        num_pages = int.from_bytes(header[28:32], "big")
        if header[:16] != _SQLITE_MAGIC or size_bytes < num_pages * page_bytes:
            return (
                f"the file '{self._path}' was overwritten or cut under the server; put a copy in"
                " its place and restart the server"
            )
        # It is there as long as a connection is. One that somebody else has made since is not the
        # one that is written.
        has_log = self._log.exists()
        self._has_lost_log = self._has_lost_log or (self._has_seen_log and not has_log)
        self._has_seen_log = self._has_seen_log or has_log
        if self._has_lost_log:
            return (
                f"the file '{self._log}' was deleted under the server: what is written now is lost"
                " unless the server is stopped in order; restart it"
            )
        return None


def _identity(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_dev, status.st_ino


def _make_file(path: Path) -> None:
    """Make the file so that only this user can read it.

    SQLite would make it with the umask. It gives its -wal and -shm files the mode of this one.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    except OSError as error:
        raise ConfigError(
            f"store.url: the file '{path}' cannot be opened: {error.strerror}; name a file in a"
            " folder that this user may write to"
        ) from None


def _set_up_sqlite(engine: Engine, read_only: bool) -> None:
    def connect(connection: sqlite3.Connection, record: object) -> None:
        # None: begin() below begins transactions. Python's driver would begin one before the first
        # INSERT only, so that two SELECTs would see two states.
        connection.isolation_level = None
        cursor = connection.cursor()
        for statement in (
            f"PRAGMA busy_timeout = {_BUSY_TIMEOUT_MS}",
            "PRAGMA foreign_keys = ON",
            # Deleted streams give their space back. Takes effect in a new file only.
            "PRAGMA auto_vacuum = INCREMENTAL",
            # With a write-ahead log a commit then outlives the process, without an fsync each; a
            # power failure may take the last ones, and never corrupts the file.
            "PRAGMA synchronous = NORMAL",
            # What is deleted is overwritten with zeros, not only unlinked: it is about people.
            "PRAGMA secure_delete = ON",
            f"PRAGMA query_only = {'ON' if read_only else 'OFF'}",
        ):
            cursor.execute(statement)
        _use_write_ahead_log(cursor)
        cursor.close()

    def begin(connection: Connection) -> None:
        # A transaction that has read and then wants to write, while another process wrote, fails at
        # once with SQLITE_BUSY_SNAPSHOT: the busy timeout does not help a stale snapshot.
        connection.exec_driver_sql("BEGIN" if read_only else "BEGIN IMMEDIATE")

    event.listen(engine, "connect", connect)
    event.listen(engine, "begin", begin)


def _use_write_ahead_log(cursor: sqlite3.Cursor) -> None:
    """Switch the file to a write-ahead log, also if several processes open it at once.

    With one, readers never wait for the writer, nor the writer for readers.
    """
    # The busy timeout does not apply to this statement: it needs the file for itself, and fails at
    # once where another connection has a new database open. It is tried for as long as that.
    for _ in range(_BUSY_TIMEOUT_MS // _BUSY_PAUSE_MS):
        try:
            cursor.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            # The low byte is the primary code, of which e.g. SQLITE_BUSY_RECOVERY is an extension.
            if error.sqlite_errorcode & 0xFF not in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
                raise
        time.sleep(_BUSY_PAUSE_MS / 1000)
    cursor.execute("PRAGMA journal_mode = WAL")
