"""Names of files that came from outside, made fit to name files of ours.

What a name may hold differs by system; the result is one that every common file system takes, so
that a folder of results can be copied anywhere.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata

__all__ = ["MAX_NAME_BYTES", "safe_name"]

MAX_NAME_BYTES = 180
"""Length of a name in UTF-8. File systems take 255; the rest is for what is appended to it."""

_FORBIDDEN = re.compile(r'[<>:"/\\|?*]')
_RESERVED = re.compile(r"(?:con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³])", re.IGNORECASE)
_HASH_DIGITS = 8
_MAX_ENDING_BYTES = 16


def safe_name(name: str) -> str:
    """Return one path component that stands for ``name``, whatever that holds.

    Folders in front of the name are dropped, be they separated by slashes or backslashes. Control
    characters, characters that change the direction of writing, half surrogates and
    ``<>:"|?*`` become ``_``. Leading dots, and dots and spaces at the end, are dropped; names that
    Windows reserves get a ``_``. A name that is too long keeps its beginning and its ending, with
    a hash of the whole between them. Where nothing is left it is ``audio``.
    """
    base = re.split(r"[/\\]", unicodedata.normalize("NFC", name))[-1]
    cleaned = "".join(_shown(character) for character in base)
    cleaned = _FORBIDDEN.sub("_", cleaned).strip().lstrip(".").rstrip(". ")
    if not cleaned:
        return "audio"
    if _RESERVED.fullmatch(cleaned.partition(".")[0].rstrip()):
        cleaned = f"_{cleaned}"
    return _shortened(cleaned)


def _shown(character: str) -> str:
    """Return a character, or ``_`` for one that is no sign of its own (Unicode's category C)."""
    return "_" if unicodedata.category(character).startswith("C") else character


def _shortened(name: str) -> str:
    if len(name.encode()) <= MAX_NAME_BYTES:
        return name
    stem, dot, ending = name.rpartition(".")
    if not dot or len(ending.encode()) > _MAX_ENDING_BYTES:
        stem, ending = name, ""
    tail = f"~{hashlib.sha256(name.encode()).hexdigest()[:_HASH_DIGITS]}{dot if ending else ''}"
    room = MAX_NAME_BYTES - len((tail + ending).encode())
    # A character of several bytes that does not fit whole is left out.
    return stem.encode()[:room].decode(errors="ignore") + tail + ending
