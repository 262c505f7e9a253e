"""Files and folders that appear whole or not at all, and names that every file system takes."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import unicodedata
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

MAX_NAME_BYTES = 180
"""Length of a name in UTF-8. File systems take 255; the rest is for what is appended to it."""

_FORBIDDEN = re.compile(r'[<>:"/\\|?*]')
_RESERVED = re.compile(r"(?:con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³])", re.IGNORECASE)
_HASH_DIGITS = 8
_MAX_ENDING_BYTES = 16
_MOST_INDENTED_CHARACTERS = 20_000


def write_json(path: Path, document: Any) -> None:
    """Write JSON: indented if it is small enough to be read, else on one line."""
    text = json.dumps(document, ensure_ascii=False)
    if len(text) < _MOST_INDENTED_CHARACTERS:
        text = json.dumps(document, ensure_ascii=False, indent=2)
    # A file name that is no UTF-8 has half surrogates (PEP 383): written as JSON's own escapes.
    with path.open("w", encoding="utf-8", errors="backslashreplace") as file:
        file.write(text + "\n")


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Give a path to write a file to; at the end of the block it replaces ``path``.

    If the block raises, ``path`` stays as it was. A process that is killed leaves a hidden file
    ``.<name>.….new``.
    """
    # A device or pipe such as /dev/stdout is written to itself: renaming would replace it.
    if path.exists() and not path.is_file():
        yield path
        return
    partial = path.with_name(f".{path.name[:64]}.{uuid.uuid4().hex[:12]}.new")
    try:
        yield partial
        os.replace(partial, path)
    finally:
        with contextlib.suppress(OSError):
            partial.unlink()


def new_folder(parent: Path, name: str, fill: Callable[[Path], None]) -> Path:
    """Make a folder in ``parent``, call ``fill`` with it, then give it its name and return it.

    If the name is taken it becomes ``name_2``, ``name_3`` and so on: nothing is overwritten, and
    two processes never get one name. If ``fill`` raises, no folder is left. A process that is
    killed leaves a hidden folder ``.<name>.….new``.
    """
    parent.mkdir(parents=True, exist_ok=True)
    partial = parent / f".{name}.{uuid.uuid4().hex[:12]}.new"
    partial.mkdir()
    try:
        fill(partial)
        return _rename(partial, parent, name)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _rename(partial: Path, parent: Path, name: str) -> Path:
    target, number = parent / name, 1
    while True:
        if not target.exists():
            try:
                os.rename(partial, target)
                return target
            except OSError:
                # Another process was faster: rename(2) refuses a target that holds anything.
                if not target.exists():
                    raise
        number += 1
        target = parent / f"{name}_{number}"


def safe_name(name: str) -> str:
    """Return one path component for a name from outside, valid on every common file system.

    Folders in front of the name are dropped, be they separated by slashes or backslashes. Control
    characters, characters that change the direction of writing, half surrogates and
    ``<>:"|?*`` become ``_``. Leading dots, and dots and spaces at the end, are dropped; names that
    Windows reserves get a ``_``. A name that is too long keeps its beginning and its ending, with
    a hash of the whole between them. A name of which nothing is left becomes ``audio``.
    """
    # macOS may hand over decomposed letters (NFD): one form, so that a name is the same everywhere.
    base = re.split(r"[/\\]", unicodedata.normalize("NFC", name))[-1]
    cleaned = "".join(_shown(character) for character in base)
    cleaned = _FORBIDDEN.sub("_", cleaned).strip().lstrip(".").rstrip(". ")
    if not cleaned:
        return "audio"
    if _RESERVED.fullmatch(cleaned.partition(".")[0].rstrip()):
        cleaned = f"_{cleaned}"
    return _shortened(cleaned)


def _shown(character: str) -> str:
    # Category C: control, format, surrogate, private, unassigned; none of them can be seen.
    return "_" if unicodedata.category(character).startswith("C") else character


def _shortened(name: str) -> str:
    if len(name.encode()) <= MAX_NAME_BYTES:
        return name
    stem, dot, ending = name.rpartition(".")
    if not dot or len(ending.encode()) > _MAX_ENDING_BYTES:
        stem, ending = name, ""
    tail = f"~{hashlib.sha256(name.encode()).hexdigest()[:_HASH_DIGITS]}{dot if ending else ''}"
    room = MAX_NAME_BYTES - len((tail + ending).encode())
    # The cut may fall into a character of several bytes, which is left out then.
    return stem.encode()[:room].decode(errors="ignore") + tail + ending
