"""Reading JSON whose form nobody guarantees: every surprise is a :class:`ProtocolError`."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from stream_server.protocol.errors import ErrorCode, ProtocolError, shown

__all__ = [
    "bad_message",
    "json_number",
    "json_object",
    "kind_of",
    "parse_json_object",
    "unexpected_message",
]

_decoder = msgspec.json.Decoder(dict[str, Any])
_NUMBER = re.compile(r"([0-9]{1,15})(?:\.[0-9]{1,9})?")
_LARGEST_NUMBER = 10**15


def parse_json_object(text: str | bytes) -> dict[str, Any]:
    """Return the object that a message is.

    Raises:
        ProtocolError: ``BAD_MESSAGE``: it is binary, no JSON, or no object.
    """
    if isinstance(text, bytes):
        raise bad_message(f"{len(text)} bytes of a binary message", "text")
    try:
        return _decoder.decode(text)
    except RecursionError:
        raise bad_message("JSON that is nested too deeply", "an object with an event") from None
    except (msgspec.DecodeError, UnicodeError):
        raise bad_message("text that is no JSON object", "one with an event") from None


def json_object(message: dict[str, Any], name: str) -> dict[str, Any]:
    """Return the object that a field of a message is.

    Raises:
        ProtocolError: ``BAD_MESSAGE``: it is missing or no object.
    """
    value = message.get(name)
    if not isinstance(value, dict):
        raise bad_message(f"'{name}' that is {kind_of(value)}", "an object")
    return value


def json_number(fields: dict[str, Any], name: str) -> int | None:
    """Return a whole number that is 0 or more, from a number or a string; None: there is none.

    Raises:
        ProtocolError: ``BAD_MESSAGE``: it is something else.
    """
    value = fields.get(name)
    if value is None:
        return None
    if isinstance(value, str) and (matched := _NUMBER.fullmatch(value.strip())):
        return int(matched[1])
    if isinstance(value, int | float) and 0 <= value < _LARGEST_NUMBER:
        # True is a number as well, and no platform sends it.
        return int(value)
    got = shown(value) if isinstance(value, str) else kind_of(value)
    raise bad_message(f"{name} {got}", "a number from 0")


def kind_of(value: object) -> str:
    """Return what a JSON value is, as messages may say it."""
    match value:
        case None:
            return "missing"
        case bool():
            return "a truth value"
        case int() | float():
            return "another number"
        case str():
            return "text"
        case list():
            return "a list"
        case _:
            return "an object"


def bad_message(got: str, expected: str) -> ProtocolError:
    """Return the error of a message that makes no sense."""
    return ProtocolError(ErrorCode.BAD_MESSAGE, f"got {got}, expected {expected}")


def unexpected_message(event: str, expected: str) -> ProtocolError:
    """Return the error of a message that comes at the wrong time."""
    return ProtocolError(ErrorCode.UNEXPECTED_MESSAGE, f"got '{event}', expected {expected}")
