"""Changes that somebody waits for, besides writing results.

Every error the store raises on purpose.

::

    StoreError
    ├── StoreUnavailableError  the database does not answer (recoverable)
    └── StoreVersionError      the database was made by a newer version

A wrong ``store.url`` or a missing driver is a :class:`~ser_engine.errors.ConfigError`. A message
says what was got, what was expected and what to do; it never holds the password of the URL.
"""

from __future__ import annotations


class StoreError(Exception):
    """Base class of the store's errors."""


class StoreUnavailableError(StoreError):
    """The database does not answer, or the store is closed. It may work again later."""


class StoreVersionError(StoreError):
    """The database has tables this version does not know."""
