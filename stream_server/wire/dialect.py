"""The interface of a client protocol: messages in, requests out; results in, messages out.

Also what several protocols share: reading JSON of which nothing is guaranteed, so that every
surprise is a :class:`ProtocolError`, and counting the messages that could not be understood.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar, runtime_checkable

import msgspec

from stream_server.wire.errors import ErrorCode, ProtocolError, shown
from stream_server.wire.messages import Control, ServerMessage
from stream_server.wire.start import StreamSpec

M = TypeVar("M")
T = TypeVar("T")

MAX_BAD_MESSAGES = 100
"""Bad messages of one connection before it is closed."""

GOOD_MESSAGES_PER_BAD = 10
"""Good messages that make up for a bad one: a client of a later version that sends something
unknown now and then is not a broken one."""

_decoder = msgspec.json.Decoder(dict[str, Any])
# Platforms write numbers as strings, with spaces or fractions too; msgspec's lax mode takes "1e3"
# and refuses " 1 ". Neither signs nor the digits of other scripts, which int() takes.
_NUMBER = re.compile(r"([0-9]{1,15})(?:\.[0-9]{1,9})?")
_MOST_DIGITS = 15
_LARGEST_NUMBER = 10**_MOST_DIGITS
_MAX_CONTROL_BYTES = 65_536
_MAX_EXPLANATION_CHARACTERS = 80


def parse_json_object(text: str | bytes) -> dict[str, Any]:
    """Parse a message.

    Raises:
        ProtocolError: ``BAD_MESSAGE``: it is binary, or not a JSON object.
    """
    if isinstance(text, bytes):
        raise bad_message(f"got {len(text)} bytes of a binary message, expected text")
    try:
        return _decoder.decode(text)
    except RecursionError:
        # msgspec raises RecursionError, which is not a DecodeError.
        raise bad_message("got JSON that is nested too deeply") from None
    except (msgspec.DecodeError, UnicodeError):
        raise bad_message("got text that is not a JSON object") from None


def text_of_control(message: str | bytes) -> str | bytes:
    """Return the text of a control message that came as a binary one; audio as it is.

    Some clients send all their messages as binary ones, and JSON taken for audio would be noise,
    and shift what follows by the rest of a sample.
    """
    if isinstance(message, str) or len(message) > _MAX_CONTROL_BYTES:
        return message
    # PCM may begin with "{", but not be an object with one of these names.
    text = message.removeprefix(codecs.BOM_UTF8).lstrip(b" \t\r\n")
    if text[:1] != b"{":
        return message
    try:
        fields = _decoder.decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return message
    is_control = any(isinstance(fields.get(name), str) for name in ("type", "event"))
    return text.decode() if is_control else message


def json_field(fields: Mapping[str, Any], name: str, kind: type[T]) -> T:
    """Return a field of a type.

    Raises:
        ProtocolError: ``BAD_MESSAGE``: it is missing or of another type.
    """
    value = fields.get(name)
    # As nearly always; conversion costs more than the decoding of the whole message.
    if type(value) is kind:
        return value
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise bad_message(f"invalid '{name}': {error}") from None


def json_number(fields: Mapping[str, Any], name: str) -> int | None:
    """Return the whole part of a number or numeric string, 0 or more; None if it is missing.

    Raises:
        ProtocolError: ``BAD_MESSAGE``: it is something else.
    """
    value = fields.get(name)
    if value is None:
        return None
    # As nearly always. ASCII only: isdigit() takes the digits of other scripts.
    if type(value) is str and len(value) <= _MOST_DIGITS and value.isascii() and value.isdigit():
        return int(value)
    if isinstance(value, str) and (matched := _NUMBER.fullmatch(value.strip())):
        return int(matched[1])
    # True passes as 1: bool is an int in Python, and no platform sends it. NaN does not pass.
    if isinstance(value, int | float) and 0 <= value < _LARGEST_NUMBER:
        return int(value)
    got = f": got {shown(value)}" if isinstance(value, str) else ""
    raise bad_message(f"invalid '{name}'{got}, expected a number from 0")


def explained(error: Exception) -> str:
    """Return what msgspec found wrong with a text, without repeating much of it."""
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    if isinstance(error, UnicodeError):
        # WebSocket text is UTF-8 (RFC 6455, section 5.6); a caller's str may hold lone surrogates.
        return "it is not valid Unicode"
    # msgspec repeats a value that is none of those expected, whatever its length, and then says
    # where it is: "Invalid enum value 'x' - at `$.wants[0]`".
    what, separator, where = str(error).rpartition(" - at ")
    if not separator:
        what, where = where, ""
    if len(what) > _MAX_EXPLANATION_CHARACTERS:
        what = what[: _MAX_EXPLANATION_CHARACTERS - 1] + "…"
    return what + separator + where[:_MAX_EXPLANATION_CHARACTERS]


def bad_message(problem: str) -> ProtocolError:
    """Return the error of a message that cannot be understood; the stream goes on."""
    return ProtocolError(ErrorCode.BAD_MESSAGE, problem)


def unexpected_message(problem: str) -> ProtocolError:
    """Return the error of a message that comes at the wrong time; the stream goes on."""
    return ProtocolError(ErrorCode.UNEXPECTED_MESSAGE, problem)


@dataclass(frozen=True, slots=True)
class LostSpan:
    """Audio of one channel that never came, while that of others did.

    Attributes:
        start_tick: first missing sample, counted from the start of the :class:`AudioData`.
        end_tick: end, not included.
    """

    channel: int
    start_tick: int
    end_tick: int


@dataclass(frozen=True, slots=True)
class AudioData:
    """Audio of a stream.

    Attributes:
        data: interleaved samples in the stream's format; may end within a sample.
        lost: where a channel has no audio, whatever ``data`` holds there; in order, not overlapping
            on a channel, and only with data of whole ticks.
    """

    data: bytes
    lost: tuple[LostSpan, ...] = ()


@dataclass(frozen=True, slots=True)
class CodedPacket:
    """A packet of one channel, not decoded yet; ``first`` is the number of its first sample."""

    channel: int
    first: int
    num_samples: int
    payload: bytes


@dataclass(frozen=True, slots=True)
class CodedAudio:
    """Audio whose place in time is known before it is decoded.

    Attributes:
        came: the packet that just came, which later ``placed`` may name samples of.
        placed: audio in order; its ``data`` holds for every sample not the sample but its number, 4
            bytes in the machine's order. Packets that are never named need not be decoded.
    """

    came: CodedPacket | None
    placed: tuple[AudioData, ...]


@dataclass(frozen=True, slots=True)
class Say:
    """WebSocket messages that the protocol itself answers with, without the stream."""

    messages: tuple[str | bytes, ...]


Inbound = StreamSpec | AudioData | CodedAudio | Control | Say
"""What a client requests. A :class:`StreamSpec` begins the stream and comes once; before it only
:class:`Say` may come, and ``Stop`` from a client that leaves without a stream."""


class Dialect(Protocol):
    """One connection's protocol, without I/O.

    Attributes:
        can_resume: a lost client may resume, so its stream is kept for a while.
        client_closes: the client closes the WebSocket after its last message; the server does so
            only if that takes too long.
        begins_with: the message that has to come first, as error texts name it.
    """

    can_resume: bool
    client_closes: bool
    begins_with: str

    @property
    def start(self) -> StreamSpec | None:
        """The stream's specification, once known: with some protocols before any message."""
        ...

    def receive(self, message: str | bytes) -> list[Inbound]:
        """Take one WebSocket message.

        Raises:
            ProtocolError: the message is refused. If its code does not end the stream, the dialect
                is as it was before the message.
        """
        ...

    def send(self, message: ServerMessage) -> list[str | bytes]:
        """Return ``message`` as WebSocket messages; none if the protocol has none for it."""
        ...


@runtime_checkable
class HoldsAudio(Protocol):
    """A dialect that holds audio back until earlier audio, or other channels', has come."""

    def release(self) -> list[Inbound]: ...


@runtime_checkable
class TakesPlainAudio(Protocol):
    """A dialect whose binary messages are audio, once one was, until one of another kind comes."""

    def plain_audio(self, num_messages: int) -> None:
        """Note that messages of audio came that it was not given."""
        ...


class BadMessages:
    """Counts the bad messages of one connection, so that a broken client is closed."""

    def __init__(self) -> None:
        self._badness = 0

    def counted(self, understand: Callable[[M], list[Inbound]], message: M) -> list[Inbound]:
        """Return ``understand(message)``, and count the message as good or bad.

        Raises:
            ProtocolError: as ``understand`` raises, or ``TOO_MANY_ERRORS`` instead of the error
                that exceeds the limit.
        """
        try:
            inbound = understand(message)
        except ProtocolError as error:
            # An error that ends the stream ends the count, too.
            if not error.ends_stream:
                self.count_bad(error)
            raise
        self.count_good()
        return inbound

    def count_good(self, num_messages: int = 1) -> None:
        # Not below 0: an hour of good messages is no licence for a thousand bad ones.
        if self._badness:
            self._badness = max(self._badness - num_messages, 0)

    def count_bad(self, error: ProtocolError) -> None:
        """Count a message that was not understood; raise ``TOO_MANY_ERRORS`` at the limit."""
        self._badness += GOOD_MESSAGES_PER_BAD
        if self._badness > MAX_BAD_MESSAGES * GOOD_MESSAGES_PER_BAD:
            raise ProtocolError(
                ErrorCode.TOO_MANY_ERRORS,
                f"got more than {MAX_BAD_MESSAGES} bad messages, the last one: {error}",
            ) from error
