"""Where the results of each recording go in the folder of results."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePath, PurePosixPath

from ser_engine.offline.file_search import FoundFile
from ser_engine.offline.safe_names import safe_name
from stream_server.cli.batch.manifest import Manifest

__all__ = ["PlacedFile", "place_all"]

_HASH_DIGITS = 8


@dataclass(frozen=True, slots=True)
class PlacedFile:
    """A recording and where its results go.

    Attributes:
        found: the recording.
        source: its absolute path. Links in it are kept: they are names, too.
        place: where its results go, relative, with ``/``; ``.json`` and so on is appended.
    """

    found: FoundFile
    source: str
    place: str


def place_all(found: Iterable[FoundFile], manifest: Manifest) -> list[PlacedFile]:
    """Return recordings with places of their own.

    A file that was dealt with before keeps its place. Places that differ in case only count as
    one, for file systems to which they are; the later of two gets a hash of its path.
    """
    files = [(each, os.path.abspath(each.path)) for each in found]
    taken = {_folded(entry.place): entry.source for entry in manifest}
    placed: list[PlacedFile] = []
    for each, source in files:
        known = manifest.get(source)
        place = known.place if known is not None and _is_sound(known.place) else _fit(each.place)
        if taken.setdefault(_folded(place), source) != source:
            place = _apart(place, source)
            taken[_folded(place)] = source
        placed.append(PlacedFile(each, source, place))
    return placed


def _fit(place: PurePath) -> str:
    return "/".join(safe_name(part) for part in place.parts)


def _is_sound(place: str) -> bool:
    """Return whether a place that a file tells of is one of ours: it must not lead elsewhere."""
    return bool(place) and place == _fit(PurePosixPath(place))


def _apart(place: str, source: str) -> str:
    path = PurePosixPath(place)
    digits = hashlib.sha256(source.encode(errors="surrogateescape")).hexdigest()[:_HASH_DIGITS]
    return str(path.with_name(f"{path.stem}~{digits}{path.suffix}"))


def _folded(place: str) -> str:
    return place.casefold()
