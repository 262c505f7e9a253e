"""Recordings in folders."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePath

from ser_engine.files.audio import AUDIO_SUFFIXES, RAW_SUFFIXES

_RESULT_FOLDER = re.compile(r"outputs_\d{8}_\d{6}(_\d+)?")


@dataclass(frozen=True, slots=True)
class FoundFile:
    """A recording.

    Attributes:
        path: as the caller's names lead to it.
        place: where its results go, relative: its path in the folder it was found in, that
            folder's name in front where several were named.
    """

    path: Path
    place: PurePath


def find_recordings(
    names: Iterable[Path],
    *,
    recursive: bool = False,
    leave_out: Path | None = None,
    raw: bool = False,
    on_unreadable: Callable[[Path, str], None] = lambda path, reason: None,
) -> Iterator[FoundFile]:
    """Yield the recordings that files and folders stand for, each once, folders in order of name.

    Links are followed, but no folder is entered twice, so that a loop ends. Hidden files and
    folders are left out, and so are folders of results with the audio that was analysed.

    Args:
        names: files, which need not exist, and folders.
        leave_out: a folder that is not entered, unless it is named: where results go.
        on_unreadable: told of folders that cannot be listed, and why.
    """
    given = list(names)
    left_out = _identity(leave_out) if leave_out else None
    if left_out in [_identity(name) for name in given]:
        left_out = None
    search = _Search(recursive, left_out, raw, on_unreadable)
    many = len(given) > 1
    for name in given:
        if name.is_dir():
            # A folder such as ".." has a name only once it is resolved.
            start = PurePath(name.resolve().name) if many else PurePath()
            yield from search.folder(name, start)
        else:
            yield from search.file(name, PurePath(name.name))


_Identity = tuple[int, int]


def _identity(path: Path) -> _Identity | None:
    """Return what a file is known by, whatever its names; None where it is not there."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


class _Search:
    def __init__(
        self,
        recursive: bool,
        leave_out: _Identity | None,
        raw: bool,
        on_unreadable: Callable[[Path, str], None],
    ) -> None:
        self._recursive = recursive
        self._suffixes = AUDIO_SUFFIXES | RAW_SUFFIXES if raw else AUDIO_SUFFIXES
        self._on_unreadable = on_unreadable
        self._entered: set[_Identity | None] = {leave_out} if leave_out else set()
        self._files: set[str] = set()

    def file(self, path: Path, place: PurePath) -> Iterator[FoundFile]:
        absolute = os.path.abspath(path)
        if absolute not in self._files:
            self._files.add(absolute)
            yield FoundFile(path, place)

    def folder(self, top: Path, start: PurePath) -> Iterator[FoundFile]:
        # A list instead of recursion: no depth of folders is too deep.
        waiting = [(top, start)]
        while waiting:
            folder, place = waiting.pop()
            identity = _identity(folder)
            if identity is not None and identity in self._entered:
                continue
            self._entered.add(identity)
            try:
                entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
            except OSError as error:
                self._on_unreadable(folder, error.strerror or str(error))
                continue
            below: list[tuple[Path, PurePath]] = []
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                path, inner = folder / entry.name, place / entry.name
                if entry.is_dir():
                    if self._recursive and not _holds_results(path):
                        below.append((path, inner))
                elif path.suffix.lower() in self._suffixes:
                    yield from self.file(path, inner)
            waiting += reversed(below)


def _holds_results(folder: Path) -> bool:
    return bool(_RESULT_FOLDER.fullmatch(folder.name)) and (folder / "result.json").is_file()
