"""By what a file is known to be unchanged without being read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Self

__all__ = ["Fingerprint"]


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """A file's state.

    Attributes:
        size_bytes: length.
        modified_ns: when its content was changed last, as it says itself.
        changed_ns: when anything about it was changed last, which nobody can set.
    """

    size_bytes: int
    modified_ns: int
    changed_ns: int

    @classmethod
    def of(cls, path: Path) -> Self | None:
        """Return that of a file, or None where there is no file that has content to read."""
        try:
            status = path.stat()
        except OSError:
            return None
        if not path.is_file():
            return None
        return cls(status.st_size, status.st_mtime_ns, status.st_ctime_ns)
