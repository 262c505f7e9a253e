"""Messages that are to reach a bus which may be away: kept in a file until it has taken them.

A process that is killed finds them again at its next start. They are bounded in number: the oldest
go first, counted.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

_TABLE = """
CREATE TABLE IF NOT EXISTS outbox (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    subject TEXT NOT NULL,
    key TEXT NOT NULL UNIQUE,
    payload BLOB NOT NULL
)
"""


@dataclass(frozen=True, slots=True)
class Kept:
    """A message that waits.

    Attributes:
        id: larger than that of any message before it.
        key: by which the bus knows one that comes twice.
    """

    id: int
    subject: str
    key: str
    payload: bytes


class Outbox:
    """A file of messages. Its methods block, and may be called in any thread at any time.

    Args:
        path: of the file; its folder is made, for this user alone.
        max_messages: how many wait at most.

    Attributes:
        dropped: messages lost because there were too many.

    Raises:
        OSError: the folder cannot be made.
        sqlite3.Error: the file cannot be used.
    """

    def __init__(self, path: Path, max_messages: int) -> None:
        path.parent.mkdir(0o700, parents=True, exist_ok=True)
        path.touch(0o600)
        self._max_messages = max_messages
        self.dropped = 0
        # A task that is cancelled leaves a thread behind, which is not done with the file.
        self._lock = threading.Lock()
        # Every statement is a transaction of its own.
        self._file = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._file.execute("PRAGMA journal_mode = WAL")
        self._file.execute("PRAGMA synchronous = NORMAL")
        self._file.execute(_TABLE)
        self._count = self._counted()

    def __len__(self) -> int:
        return self._count

    def put(self, subject: str, key: str, payload: bytes) -> None:
        """Add a message; one with a key that waits already is not added again."""
        values = (subject, key, payload)
        with self._lock:
            self._file.execute(
                "INSERT OR IGNORE INTO outbox (subject, key, payload) VALUES (?, ?, ?)", values
            )
            self._count = self._counted()
            if self._count > self._max_messages:
                excess = self._count - self._max_messages
                self._file.execute(
                    "DELETE FROM outbox WHERE id IN (SELECT id FROM outbox ORDER BY id LIMIT ?)",
                    (excess,),
                )
                self.dropped += excess
                self._count -= excess

    def oldest(self, limit: int) -> list[Kept]:
        """Return the messages that have waited longest, in the order they came."""
        with self._lock:
            rows = self._file.execute(
                "SELECT id, subject, key, payload FROM outbox ORDER BY id LIMIT ?", (limit,)
            )
            return [Kept(*row) for row in rows]

    def remove(self, ids: Iterable[int]) -> None:
        """Remove messages that the bus has taken."""
        with self._lock:
            self._file.executemany("DELETE FROM outbox WHERE id = ?", [(one,) for one in ids])
            self._count = self._counted()

    def close(self) -> None:
        with self._lock:
            self._file.close()

    def _counted(self) -> int:
        (count,) = self._file.execute("SELECT COUNT(*) FROM outbox").fetchone()
        return int(count)
