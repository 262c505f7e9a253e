"""A folder of entries with a bound: what was used longest ago goes first.

Several processes may share it, and any of them may be killed at any time: an entry appears whole
or not at all, and all that is known of it is in its file.

::

    <key>          the entry; modified: when it was put, accessed: when it was used last
    .<key>.….new   an entry that is being written
"""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

__all__ = ["BoundedFolder"]

_KEY = re.compile(r"[0-9a-f]{16,128}")
_ABANDONED_S = 3600.0
"""Age from which on a file that is being written belongs to a process that is gone."""


@dataclass(frozen=True, slots=True)
class _Entry:
    path: Path
    size_bytes: int
    put_s: float
    used_s: float


class BoundedFolder:
    """Entries of bytes, by key.

    Args:
        folder: made at the first entry, for its owner only.
        max_bytes: of all entries together; a larger one is not kept.
        max_age_s: entries put longer ago are gone; 0: no limit.
        clock: seconds since 1970.
    """

    def __init__(
        self,
        folder: Path,
        max_bytes: int,
        max_age_s: float = 0.0,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._folder = folder
        self.max_bytes = max_bytes
        self._max_age_s = max_age_s
        self._clock = clock

    def get(self, key: str) -> bytes | None:
        """Return an entry, which is the youngest in use from now on, or None.

        Args:
            key: 16 to 128 hexadecimal digits, lower case.

        Raises:
            ValueError: it is no such key.
        """
        path = self._path(key)
        try:
            put_s = path.stat().st_mtime
            if self._is_old(put_s):
                path.unlink()
                return None
            data = path.read_bytes()
            os.utime(path, (self._clock(), put_s))
        except OSError:
            return None
        return data

    def put(self, key: str, data: bytes) -> bool:
        """Keep an entry, in the place of others if need be; return whether it is kept.

        A folder that cannot be written is no error: nothing is kept.

        Raises:
            ValueError: it is no such key.
        """
        path = self._path(key)
        if len(data) > self.max_bytes:
            return False
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            _write(path, data, self._clock())
            self._make_room(path)
        except OSError:
            return False
        return True

    def remove(self, key: str) -> None:
        """Forget an entry, if it is there."""
        with contextlib.suppress(OSError):
            self._path(key).unlink()

    def clear(self) -> None:
        """Forget every entry."""
        for entry in self._entries():
            with contextlib.suppress(OSError):
                entry.path.unlink()

    @property
    def size_bytes(self) -> int:
        """Size of all entries together."""
        return sum(entry.size_bytes for entry in self._entries())

    def _path(self, key: str) -> Path:
        if not _KEY.fullmatch(key):
            raise ValueError(f"got the key '{key[:40]}', expected 16 to 128 hexadecimal digits")
        return self._folder / key

    def _is_old(self, put_s: float) -> bool:
        return 0 < self._max_age_s < self._clock() - put_s

    def _make_room(self, kept: Path) -> None:
        entries = sorted(self._entries(), key=lambda entry: (entry.path == kept, entry.used_s))
        excess = sum(entry.size_bytes for entry in entries) - self.max_bytes
        for entry in entries:
            if excess <= 0 and not self._is_old(entry.put_s):
                continue
            # Another process may have been faster.
            with contextlib.suppress(OSError):
                entry.path.unlink()
            excess -= entry.size_bytes

    def _entries(self) -> list[_Entry]:
        """Return the entries; remove what processes that are gone were writing."""
        found: list[_Entry] = []
        try:
            listing = list(os.scandir(self._folder))
        except OSError:
            return []
        for each in listing:
            with contextlib.suppress(OSError):
                status = each.stat(follow_symlinks=False)
                if _KEY.fullmatch(each.name):
                    entry = _Entry(
                        Path(each.path), status.st_size, status.st_mtime, status.st_atime
                    )
                    found.append(entry)
                elif each.name.endswith(".new") and time.time() - status.st_ctime > _ABANDONED_S:
                    os.unlink(each.path)
        return found


def _write(path: Path, data: bytes, now_s: float) -> None:
    # mkstemp gives the file to its owner only.
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".new")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        os.utime(name, (now_s, now_s))
        os.replace(name, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(name)
        raise
