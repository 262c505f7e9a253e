"""What the gateway needs of a protocol: messages in, requests out; results in, messages out.

Reading JSON whose form nobody guarantees: every surprise is a :class:`ProtocolError`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar, runtime_checkable

import msgspec

from stream_server.wire.errors import ErrorCode, ProtocolError, shown
from stream_server.wire.messages import (
    Discarded,
    Flush,
    KeepAlive,
    Mark,
    Pause,
    Resume,
    ServerMessage,
    Stop,
)
from stream_server.wire.start import StreamSpec

M = TypeVar("M")


MAX_BAD_MESSAGES = 100
"""Bad messages of one connection before it is closed."""


GOOD_MESSAGES_PER_BAD = 10
"""So many good messages make up for a bad one: a client of a later version that says something
unknown now and then is not a broken one."""

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


@dataclass(frozen=True, slots=True)
class LostSpan:
    """Audio of one channel that never came, while that of others did.

    Attributes:
        channel: its index.
        start_tick: first sample that is missing, counted from the start of the
            :class:`AudioData` it belongs to.
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
        lost: where a channel has nothing, whatever ``data`` holds there; only with data of whole
            ticks, in order, not overlapping on a channel.
    """

    data: bytes
    lost: tuple[LostSpan, ...] = ()


@dataclass(frozen=True, slots=True)
class Say:
    """What the protocol itself answers, at once: nobody else is asked.

    Attributes:
        messages: WebSocket messages, in order.
    """

    messages: tuple[str | bytes, ...]


Inbound = (
    StreamSpec | AudioData | KeepAlive | Flush | Pause | Resume | Discarded | Mark | Stop | Say
)
"""What a client asks for. A :class:`StreamSpec` begins the stream and comes once; before it only
:class:`Say` may come, and :class:`Stop` from a client that goes without a stream."""


class Dialect(Protocol):
    """One connection's protocol, without I/O.

    Attributes:
        can_resume: a client that is lost may come back and go on, so its stream is kept a while.
        client_closes: the client closes the WebSocket when it has been told the last there is; the
            server does so only if that takes too long.
        begins_with: what has to come first, as messages call it.
    """

    can_resume: bool
    client_closes: bool
    begins_with: str

    @property
    def start(self) -> StreamSpec | None:
        """What the stream is, as soon as that is known: perhaps before the first message."""
        ...

    def receive(self, message: str | bytes) -> list[Inbound]:
        """Take one WebSocket message.

        Raises:
            ProtocolError: the client has to be told of something. Where its code does not end the
                stream, the dialect is as it was before the message.
        """
        ...

    def send(self, message: ServerMessage) -> list[str | bytes]:
        """Return the WebSocket messages that say ``message``; none where there are no words."""
        ...


@runtime_checkable
class HoldsAudio(Protocol):
    """A dialect that holds audio back until what belongs before or beside it has come."""

    def release(self) -> list[Inbound]:
        """Return what is held, as nothing more will come; nothing the second time."""
        ...


class BadMessages:
    """Counts what one connection sends."""

    def __init__(self) -> None:
        self._badness = 0

    def counted(self, understand: Callable[[M], list[Inbound]], message: M) -> list[Inbound]:
        """Return what ``understand`` makes of a message, and count it as good or bad.

        Raises:
            ProtocolError: what ``understand`` raises, or ``TOO_MANY_ERRORS`` for one more that
                would have left the stream as it was.
        """
        try:
            inbound = understand(message)
        except ProtocolError as error:
            if not error.ends_stream:
                self.count_bad(error)
            raise
        self.count_good()
        return inbound

    def count_good(self) -> None:
        """Count a message that was understood."""
        self._badness = max(0, self._badness - 1)

    def count_bad(self, error: ProtocolError) -> None:
        """Count a message that was not.

        Args:
            error: what the client is told of it.

        Raises:
            ProtocolError: ``TOO_MANY_ERRORS``.
        """
        self._badness += GOOD_MESSAGES_PER_BAD
        if self._badness > MAX_BAD_MESSAGES * GOOD_MESSAGES_PER_BAD:
            raise ProtocolError(
                ErrorCode.TOO_MANY_ERRORS,
                f"got more than {MAX_BAD_MESSAGES} bad messages, the last one: {error}",
            ) from error
