"""What a telephone platform says of a call, as a stream may keep it."""

from __future__ import annotations

from collections.abc import Mapping

from stream_server.protocol.start_check import MAX_METADATA_ENTRIES, MAX_TEXT_LENGTH

__all__ = ["KEY_MARK", "call_metadata", "clean_text"]

KEY_MARK = "dtmf"
"""Mark where a key was pressed. Not which: it may be part of a card's number."""


def clean_text(text: str) -> str:
    """Return a text as a stream's name and metadata may have it: cut, without control characters.

    A call is not refused for a name that is too long: nobody is there to shorten it.
    """
    kept = (
        one
        for one in text[: 2 * MAX_TEXT_LENGTH]
        if one >= " " and one != "\x7f" and not "\ud800" <= one <= "\udfff"
    )
    return "".join(kept)[:MAX_TEXT_LENGTH]


def call_metadata(said: Mapping[str, object]) -> dict[str, str]:
    """Return the texts, numbers and truth values of ``said`` as metadata, as many as a stream has.

    What is empty, and what holds further values, is left out.
    """
    metadata: dict[str, str] = {}
    for key, value in said.items():
        if len(metadata) == MAX_METADATA_ENTRIES:
            break
        text = _text(value)
        name = clean_text(key)
        if name and text:
            metadata[name] = text
    return metadata


def _text(value: object) -> str:
    match value:
        case bool():
            return str(value).lower()
        case str():
            return clean_text(value)
        case int() | float():
            # Python refuses to print integers of thousands of digits.
            too_long = isinstance(value, int) and value.bit_length() > 64
            return "" if too_long else str(value)
    return ""
