"""What is done already: ``index.jsonl`` in the folder of results.

One line a file, appended when its results are on disk; of several lines about a file the last one
counts. A line is written by one call in append mode, so that several runs may share a folder. What
is no such line, because a run was killed or somebody edited the file, is passed over: the file it
was about is analysed once more.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

from ser_engine.files.cache import Fingerprint

MANIFEST_NAME = "index.jsonl"

_MAX_LINE_BYTES = 1 << 20
"""Longer lines are not ours: a file of 32 channels takes some 10 KiB."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A recording that was dealt with.

    Attributes:
        source: its absolute path.
        place: where its results are, in the folder, without what is appended to the name.
        fingerprint: of the file that was analysed; None with an error.
        sha256: of its content, hex, or "".
        key: of content, model and settings (:mod:`ser_engine.files.cache`), or "".
        formats: what was asked to be written.
        outputs: files that were written, relative to the folder.
        rows: its rows of the table over all files.
        model: sha256 of the model, or "".
        error: why there is no result, or "".
    """

    source: str
    place: str
    fingerprint: Fingerprint | None = None
    sha256: str = ""
    key: str = ""
    formats: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    rows: tuple[dict[str, Any], ...] = field(default=())
    model: str = ""
    error: str = ""

    def to_line(self) -> bytes:
        """Return it as a line of the manifest."""
        # ASCII only: a path may hold what is no UTF-8.
        return json.dumps(asdict(self), separators=(",", ":")).encode("ascii") + b"\n"

    @classmethod
    def from_line(cls, line: bytes) -> Self | None:
        """Return what a line says, or None where it is none of ours."""
        try:
            document = json.loads(line)
            texts: dict[str, Any] = {name: document[name] for name in _TEXTS}
            lists = {name: tuple(document[name]) for name in _LISTS}
            rows, prints = tuple(document["rows"]), document["fingerprint"]
            words: tuple[Any, ...] = (
                *texts.values(),
                *(word for each in lists.values() for word in each),
            )
            if not all(isinstance(word, str) for word in words):
                return None
            if not all(isinstance(row, dict) for row in rows):
                return None
            cells = (cell for row in rows for cell in row.values())
            if not all(cell is None or type(cell) in (str, int, float) for cell in cells):
                return None
            fingerprint = None if prints is None else Fingerprint(**prints)
            return cls(fingerprint=fingerprint, rows=rows, **{**lists, **texts})
        except (ValueError, KeyError, TypeError, RecursionError):
            return None


_TEXTS = ("source", "place", "sha256", "key", "model", "error")
_LISTS = ("formats", "outputs")


class Manifest:
    """The entries of a folder of results.

    Args:
        folder: of the results; it must be there.

    Raises:
        OSError: its manifest cannot be read.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / MANIFEST_NAME
        self._entries = {entry.source: entry for entry in _read(self._path)}

    def __iter__(self) -> Iterator[Entry]:
        """Yield the entries, each file's last one, in the order of their places."""
        yield from sorted(self._entries.values(), key=lambda entry: entry.place)

    def get(self, source: str) -> Entry | None:
        """Return what is known of a file, by its absolute path."""
        return self._entries.get(source)

    def add(self, entry: Entry) -> None:
        """Note a file that was dealt with.

        Raises:
            OSError: the manifest cannot be written.
        """
        handle = os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o666)
        try:
            line = entry.to_line()
            if _is_cut_off(handle):
                line = b"\n" + line
            if os.write(handle, line) != len(line):
                raise OSError(28, "the disk is full")
        finally:
            os.close(handle)
        self._entries[entry.source] = entry


def _is_cut_off(handle: int) -> bool:
    """Return whether the file ends within a line."""
    size = os.fstat(handle).st_size
    return size > 0 and os.pread(handle, 1, size - 1) != b"\n"


def _read(path: Path) -> Iterator[Entry]:
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return
    with file:
        while line := file.readline(_MAX_LINE_BYTES):
            if (entry := Entry.from_line(line)) is not None:
                yield entry
