"""A file as pieces: byte ranges of it, and bytes that stand for wrong ones. Nothing is copied."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

Piece = bytes | tuple[int, int]
"""Bytes, or from where to where they are taken from the file."""


@dataclass(frozen=True, slots=True)
class Layout:
    """What was found.

    Attributes:
        parts: what is decoded, one after the other; empty: the file as it is.
        claimed_bytes, held_bytes: audio, as the header has it and as it is there.
        note: what else is to be said, "" where nothing is.
    """

    parts: tuple[tuple[Piece, ...], ...] = ()
    claimed_bytes: int = 0
    held_bytes: int = 0
    note: str = ""


class PatchedFile:
    """The pieces of a file as one, for reading."""

    def __init__(self, path: Path, pieces: tuple[Piece, ...]) -> None:
        self._file = path.open("rb")
        self._pieces = [
            (len(each), each, 0) if isinstance(each, bytes) else (each[1] - each[0], b"", each[0])
            for each in pieces
        ]
        self._size = sum(length for length, _, _ in self._pieces)
        self._at = 0

    def read(self, count: int = -1) -> bytes:
        end = self._size if count < 0 else min(self._at + count, self._size)
        found: list[bytes] = []
        start = 0
        for length, inserted, offset in self._pieces:
            low, high = max(self._at - start, 0), min(end - start, length)
            if low < high:
                if inserted:
                    found.append(inserted[low:high])
                else:
                    self._file.seek(offset + low)
                    found.append(self._file.read(high - low))
            start += length
        data = b"".join(found)
        self._at += len(data)
        return data

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to a place; one outside the file is its start or end."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        self._at = min(max(base + offset, 0), self._size)
        return self._at

    def tell(self) -> int:
        return self._at

    def close(self) -> None:
        self._file.close()


_SEARCH_BYTES = 1 << 22


class FileBytes:
    """A file as bytes to search. Not mapped: a file that shrinks would end the process."""

    def __init__(self, file: io.BufferedReader, size: int) -> None:
        self._file = file
        self._size = size

    def __len__(self) -> int:
        return self._size

    def get(self, at: int, length: int) -> bytes:
        self._file.seek(at)
        return self._file.read(max(length, 0))

    def find_all(self, mark: bytes, start: int = 0) -> Iterator[int]:
        while start < self._size:
            block = self.get(start, _SEARCH_BYTES + len(mark) - 1)
            at = block.find(mark)
            while at >= 0:
                yield start + at
                at = block.find(mark, at + len(mark))
            start += _SEARCH_BYTES


def split(starts: list[int], size: int) -> tuple[tuple[Piece, ...], ...]:
    """Return the parts of a file, by where they start."""
    ends = [*starts[1:], size]
    return tuple(((begin, end),) for begin, end in zip(starts, ends, strict=True))
