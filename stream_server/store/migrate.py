"""Bring a database to the tables this version knows."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import text
from sqlalchemy.engine import Connection

from stream_server.store.errors import StoreVersionError

__all__ = ["newest_revision", "upgrade_schema"]

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
