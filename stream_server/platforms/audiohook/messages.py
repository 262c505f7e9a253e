"""AudioHook's text messages: the envelope, its numbers, and the parameters that are used.

Nothing else is kept. That includes ``ani``, ``aniName`` and ``dnis``, the numbers and the name of
people, and the digits of ``dtmf``.

Positions are ISO 8601 durations, e.g. ``PT1.2S``; here they are whole nanoseconds, so that no
position is rounded twice.

Source: developer.genesys.cloud/devapps/audiohook, and the types of
github.com/purecloudlabs/audiohook-reference-implementation.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec

from stream_server.wire.errors import ErrorCode, ProtocolError, shown

NS_PER_S = 10**9
MAX_DURATION_NS = 7 * 24 * 3600 * NS_PER_S
"""Longest duration that is accepted: a week, the longest stream that settings allow."""

_NUMBER = r"((?:[0-9]{1,15}(?:[.,][0-9]{0,18})?|[.,][0-9]{1,18}))"
_DURATION = re.compile(
    rf"P(?:{_NUMBER}D)?(?:T(?=[0-9.,])(?:{_NUMBER}H)?(?:{_NUMBER}M)?(?:{_NUMBER}S)?)?"
)
_UNITS_NS = (24 * 3600 * NS_PER_S, 3600 * NS_PER_S, 60 * NS_PER_S, NS_PER_S)


def parse_duration(text: str) -> int:
    """Return a duration in nanoseconds, rounded to the nearest.

    Days, hours, minutes and seconds are known; the last of them may have a fraction (ISO 8601,
    section 5.5.2). The platform itself uses seconds only.

    Raises:
        ValueError: the text is not such a duration, or longer than :data:`MAX_DURATION_NS`.
    """
    match = _DURATION.fullmatch(text)
    parts = match.groups() if match is not None else ()
    given = [(part, unit) for part, unit in zip(parts, _UNITS_NS, strict=False) if part]
    # Only the last component may have a fraction (ISO 8601).
    if not given or any(not part.isdigit() for part, _ in given[:-1]):
        raise ValueError(f"got a duration of {len(text)} characters, expected e.g. 'PT1.2S'")
    duration_ns = sum(_to_ns(part, unit) for part, unit in given)
    if duration_ns > MAX_DURATION_NS:
        raise ValueError(f"got a duration of more than {MAX_DURATION_NS // NS_PER_S} s")
    return duration_ns


def format_duration(duration_ns: int) -> str:
    """Return a duration of nanoseconds, 0 or more, in seconds and without needless digits."""
    whole, fraction = divmod(duration_ns, NS_PER_S)
    digits = f"{fraction:09}".rstrip("0")
    return f"PT{whole}.{digits}S" if digits else f"PT{whole}S"


def ticks_of(duration_ns: int, rate_hz: int) -> int:
    """Return how many samples a channel a duration is, to the nearest."""
    # Twice both sides: integer division rounds to the nearest without floats.
    return (2 * duration_ns * rate_hz + NS_PER_S) // (2 * NS_PER_S)


def to_duration(ticks: int, rate_hz: int) -> int:
    """Return the duration of samples of a channel, in nanoseconds, to the nearest."""
    return (2 * ticks * NS_PER_S + rate_hz) // (2 * rate_hz)


def _to_ns(number: str, unit_ns: int) -> int:
    # ISO 8601 prefers the comma.
    whole, _, fraction = number.replace(",", ".").partition(".")
    scale: int = 10 ** len(fraction)
    digits = int(f"{whole}{fraction}")
    return (2 * digits * unit_ns + scale) // (2 * scale)


VERSION = "2"
MAX_TEXT_LENGTH = 65_535
"""Characters of a text message, both ways."""
NULL_UUID = "00000000-0000-0000-0000-000000000000"
"""Conversation and participant of a connection probe."""

_UUID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")


class ClientMessage(msgspec.Struct, frozen=True, kw_only=True):
    """What every message of the client has.

    ``position`` is a duration; ``parameters`` are of the message's type, not decoded yet.
    """

    version: str
    id: str
    type: str
    seq: int
    serverseq: int
    position: str
    parameters: msgspec.Raw = msgspec.Raw(b"{}")


class MediaOffer(msgspec.Struct, frozen=True, kw_only=True):
    """A form in which the client can send the audio: ``PCMU`` or ``L16``, at 8000 Hz as yet.

    Of its channels ``external`` is who called or is called, ``internal`` who works there.
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
    """Parameters of ``discarded`` and ``resumed``: position and duration of unsent audio."""

    start: str
    discarded: str


class DtmfParameters(msgspec.Struct, frozen=True, kw_only=True):
    """Parameters of ``dtmf``: the key of a telephone that was pressed."""

    digit: str


_message_decoder = msgspec.json.Decoder(ClientMessage)
_P = TypeVar("_P", bound=msgspec.Struct)


def is_uuid(text: str) -> bool:
    """Whether ``text`` is a UUID, of whatever version (RFC 9562, section 4)."""
    return _UUID.fullmatch(text) is not None


def read_message(text: str, code: ErrorCode) -> ClientMessage:
    """Return the message that ``text`` is. Raises ProtocolError: it is none, or too long."""
    if len(text) > MAX_TEXT_LENGTH:
        raise ProtocolError(
            code, f"got a message of {len(text)} characters, expected at most {MAX_TEXT_LENGTH}"
        )
    try:
        return _message_decoder.decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        raise ProtocolError(
            code,
            "got text that is not an AudioHook message: a JSON object with version, id, type, seq,"
            " serverseq, position and parameters",
        ) from None


def read_parameters(message: ClientMessage, kind: type[_P], code: ErrorCode) -> _P:
    """Return a message's parameters; errors as for :func:`read_message`."""
    try:
        return msgspec.json.decode(message.parameters, type=kind)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        expected = ", ".join(field.encode_name for field in msgspec.structs.fields(kind))
        raise ProtocolError(
            code,
            f"invalid parameters of '{message.type}', which has {expected}",
        ) from None


def read_duration(what: str, text: str, code: ErrorCode) -> int:
    """Return a duration in nanoseconds; errors as for :func:`read_message`."""
    try:
        return parse_duration(text)
    except ValueError as error:
        raise ProtocolError(code, f"{error}, for {what}") from None


_MAX_SEQ = 2**53 - 1
"""Largest integer that every JSON reader keeps exactly (RFC 8259, section 6)."""

_encoder = msgspec.json.Encoder()


class Envelopes:
    """Checks the numbers of the client's messages, and numbers the server's.

    Args:
        session_id: of the handshake's headers; "": that of the first message.
    """

    def __init__(self, session_id: str = "") -> None:
        self._id = session_id
        self._seq = 0
        self._client_seq = 0

    def read(self, text: str, code: ErrorCode) -> ClientMessage:
        """Return a message of the client.

        Raises:
            ProtocolError: it is none, of another version or session, or its numbers are wrong.
        """
        message = read_message(text, code)
        if message.version != VERSION:
            raise ProtocolError(
                ErrorCode.UNSUPPORTED_VERSION,
                f"got version {shown(message.version)}, expected '{VERSION}'",
            )
        # WebSocket keeps the order, so a number that is left out is a client's mistake.
        if message.seq != self._client_seq + 1:
            raise ProtocolError(
                code, f"got seq {shown(message.seq)}, expected {self._client_seq + 1}"
            )
        # Taken before the other checks, so that ``disconnect`` acknowledges this message.
        self._client_seq = message.seq
        if not 0 <= message.serverseq <= self._seq:
            raise ProtocolError(
                code, f"got serverseq {shown(message.serverseq)}, expected at most {self._seq}"
            )
        self._check_id(message.id, code)
        read_duration("position", message.position, code)
        return message

    def read_late(self, text: str) -> ClientMessage | None:
        """Return a message that comes after an error, its numbers unchecked; None if it is none."""
        try:
            message = read_message(text, ErrorCode.BAD_START)
        except ProtocolError:
            return None
        # Never backwards, and never beyond what JSON can carry.
        self._client_seq = min(max(self._client_seq, message.seq), _MAX_SEQ)
        return message

    def write(self, kind: str, parameters: Mapping[str, object]) -> str:
        """Return the next message of the server."""
        self._seq += 1
        return _encoder.encode(
            {
                "version": VERSION,
                "type": kind,
                "seq": self._seq,
                "clientseq": self._client_seq,
                # Only a ``disconnect`` before the first valid message has no id to use.
                "id": self._id or NULL_UUID,
                "parameters": parameters,
            }
        ).decode()

    def _check_id(self, session_id: str, code: ErrorCode) -> None:
        if not is_uuid(session_id):
            raise ProtocolError(code, f"got the id {shown(session_id)}, expected a UUID")
        # A client without the header: its first message names the session.
        if not self._id:
            self._id = session_id
        if session_id != self._id:
            raise ProtocolError(code, "got the id of another session than Audiohook-Session-Id's")
