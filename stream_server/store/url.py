"""``store.url``, checked: which database, and is what it takes there?"""

from __future__ import annotations

import importlib.util
from pathlib import Path

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from ser_engine.errors import ConfigError

__all__ = ["parse_store_url"]

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
