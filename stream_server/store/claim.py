"""Who a SQLite file belongs to while a server runs: a lock that ends with the process.

The lock is on a file beside the database. SQLite's own locks are gone as soon as the process closes
any descriptor of the database file, so that one is not touched.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from urllib.parse import quote

from sqlalchemy.engine import URL

from stream_server.store.errors import StoreError

__all__ = ["Claim"]


class Claim:
    """A SQLite file, taken for one server; a database server's needs none.

    Args:
        url: checked by :func:`~stream_server.store.url.parse_store_url`; its folder exists.
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
