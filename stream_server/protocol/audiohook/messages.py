"""AudioHook's text messages: the envelope, and the parameters that are made use of.

Of what is not listed here nothing is kept. That includes ``ani``, ``aniName`` and ``dnis``, the
numbers and the name of people, and the digits of ``dtmf``.

Source: developer.genesys.cloud/devapps/audiohook, and the types of
github.com/purecloudlabs/audiohook-reference-implementation.
"""

from __future__ import annotations

import re
from typing import Any, TypeVar

import msgspec

from stream_server.protocol.audiohook.durations import parse_duration
from stream_server.protocol.errors import ErrorCode, ProtocolError

__all__ = [
    "MAX_TEXT_LENGTH",
    "NULL_UUID",
    "VERSION",
    "ClientMessage",
    "GapParameters",
    "MediaOffer",
    "OpenParameters",
    "is_uuid",
    "read_duration",
    "read_message",
    "read_parameters",
]

VERSION = "2"
MAX_TEXT_LENGTH = 65_535
"""Characters of a text message, both ways."""
NULL_UUID = "00000000-0000-0000-0000-000000000000"
"""Conversation and participant of a connection probe."""

_UUID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")


class ClientMessage(msgspec.Struct, frozen=True, kw_only=True):
    """What every message of the client has.

    Attributes:
        version: of the protocol.
        id: of the session.
        type: which message.
        seq: its number, from 1.
        serverseq: number of the last message the client has.
        position: where in the media the client is, a duration.
        parameters: of the message's type, not read yet.
    """

    version: str
    id: str
    type: str
    seq: int
    serverseq: int
    position: str
    parameters: msgspec.Raw = msgspec.Raw(b"{}")


class MediaOffer(msgspec.Struct, frozen=True, kw_only=True):
    """A form in which the client can send the audio.

    Attributes:
        type: ``audio``.
        format: ``PCMU``, or ``L16``.
        channels: ``external`` is who called or is called, ``internal`` who works there.
        rate: Hz; 8000 as yet.
    """

    type: str
    format: str
    channels: tuple[str, ...]
    rate: int


class Participant(msgspec.Struct, frozen=True, kw_only=True):
    """Whose leg of the call is sent."""

    id: str


class ContinuedSession(msgspec.Struct, frozen=True, kw_only=True):
    """A session that this one goes on with."""

    id: str


class OpenParameters(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Parameters of ``open``."""

    organization_id: str
    conversation_id: str
    participant: Participant
    media: tuple[MediaOffer, ...]
    language: str | None = None
    supported_languages: bool | None = None
    continued_sessions: tuple[ContinuedSession, ...] | None = None
    custom_config: dict[str, Any] | None = None


class GapParameters(msgspec.Struct, frozen=True, kw_only=True):
    """Parameters of ``discarded`` and ``resumed``: audio that is not sent.

    Attributes:
        start: position of its first sample, a duration.
        discarded: its length.
    """

    start: str
    discarded: str


_message_decoder = msgspec.json.Decoder(ClientMessage)
_P = TypeVar("_P", bound=msgspec.Struct)


def is_uuid(text: str) -> bool:
    """Whether ``text`` is a UUID, of whatever version (RFC 9562, section 4)."""
    return _UUID.fullmatch(text) is not None


def read_message(text: str, code: ErrorCode) -> ClientMessage:
    """Return the message that ``text`` is.

    Args:
        text: of the client.
        code: of the error.

    Raises:
        ProtocolError: it is none, or too long.
    """
    if len(text) > MAX_TEXT_LENGTH:
        raise ProtocolError(
            code, f"got a message of {len(text)} characters, expected at most {MAX_TEXT_LENGTH}"
        )
    try:
        return _message_decoder.decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        raise ProtocolError(
            code,
            "got a text that is no message of an AudioHook client, expected a JSON object with"
            " version, id, type, seq, serverseq, position and parameters",
        ) from None


def read_parameters(message: ClientMessage, kind: type[_P], code: ErrorCode) -> _P:
    """Return a message's parameters; errors as for :func:`read_message`."""
    try:
        return msgspec.json.decode(message.parameters, type=kind)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        expected = ", ".join(field.encode_name for field in msgspec.structs.fields(kind))
        raise ProtocolError(
            code,
            f"got wrong parameters of '{message.type}', expected those of the specification:"
            f" {expected}",
        ) from None


def read_duration(what: str, text: str, code: ErrorCode) -> int:
    """Return a duration in nanoseconds; errors as for :func:`read_message`.

    Args:
        what: which one, for the message.
        text: of the client.
        code: of the error.
    """
    try:
        return parse_duration(text)
    except ValueError as error:
        raise ProtocolError(code, f"{error}, for {what}") from None
