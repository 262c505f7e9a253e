"""The server's side of the native protocol, version 1, without I/O.

``docs/reference/protocol.md`` describes it.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from stream_server.wire.dialect import (
    AudioData,
    BadMessages,
    Inbound,
    text_of_control,
    unexpected_message,
)
from stream_server.wire.errors import ErrorCode, ProtocolError, shown
from stream_server.wire.feed_messages import ResultEncoder, encode_message
from stream_server.wire.messages import (
    ClientMessage,
    ConsentTold,
    Discarded,
    Error,
    Flush,
    Heartbeat,
    KeepAlive,
    Mark,
    Objection,
    Pause,
    Ready,
    Resume,
    ServerMessage,
    SpeakerTold,
    Start,
    Stop,
)
from stream_server.wire.results import (
    Alert,
    Gap,
    Measures,
    Point,
    Result,
    Segment,
    StreamClosed,
    StreamOpened,
)
from stream_server.wire.start import (
    StreamSpec,
    check_span,
    check_start,
    check_text,
    check_told,
    start_from_query,
)


class _Typed(msgspec.Struct):
    type: str


# Two passes instead of one tagged union: an unknown type is an error of its own, which a client of
# a later version survives, and the type decides what an invalid field does.
_typed_decoder = msgspec.json.Decoder(_Typed)
_decoders: dict[str, msgspec.json.Decoder[ClientMessage]] = {
    str(message.__struct_config__.tag): msgspec.json.Decoder(message)
    for message in (
        Start,
        KeepAlive,
        Flush,
        Pause,
        Resume,
        Discarded,
        Mark,
        ConsentTold,
        SpeakerTold,
        Objection,
        Stop,
    )
}
_MAX_EXPLANATION_CHARACTERS = 80


class NativeDialect:
    """One connection of the native protocol.

    While a stream is paused its audio is dropped, not analysed: people pause to keep something
    private. The first chunk of it is an error; the others of the same pause are dropped silently,
    as a client that has not noticed would be sent fifty errors a second.

    Args:
        query: of the URL, decoded; None or empty: ``start`` comes as a message.

    Raises:
        ProtocolError: the query is wrong; codes as for ``start``.
    """

    can_resume = True
    client_closes = False
    begins_with = "'start'"

    def __init__(
        self, query: Mapping[str, str] | None = None, *, encoder: ResultEncoder | None = None
    ) -> None:
        self.start: StreamSpec | None = check_start(start_from_query(query)) if query else None
        # A private encoder needs to remember no more than the result it is given.
        self._encoder = ResultEncoder(capacity=1) if encoder is None else encoder
        self._paused = False
        self._stopped = False
        self._has_reported_audio = False
        self._bad = BadMessages()

    def receive(self, message: str | bytes) -> list[Inbound]:
        """Take one WebSocket message.

        Raises:
            ProtocolError: see :class:`stream_server.wire.dialect.Dialect`.
        """
        message = text_of_control(message)
        if isinstance(message, bytes):
            return self._bad.counted(self._audio, message)
        return self._bad.counted(self._text, message)

    def plain_audio(self, num_messages: int) -> None:
        self._bad.count_good(num_messages)

    def send(self, message: ServerMessage) -> list[str | bytes]:
        """Return the text of ``message``; nothing if the client does not want it."""
        if isinstance(message, Ready):
            # A resumed stream may be paused: this connection has not seen its ``pause``.
            self._paused = message.paused
        if isinstance(message, Ready | Error | Heartbeat):
            return [encode_message(message)]
        wants = frozenset() if self.start is None else self.start.wants
        if not _is_wanted(message, wants):
            return []
        return [self._encoder.encode(message, frames="frames" in wants)]

    def _audio(self, data: bytes) -> list[Inbound]:
        if self.start is None:
            raise ProtocolError(
                ErrorCode.NOT_STARTED,
                f"got {len(data)} bytes of audio before 'start'; send it first",
            )
        if self._paused or self._stopped:
            if self._has_reported_audio:
                return []
            self._has_reported_audio = True
            when = "after 'stop'" if self._stopped else "while paused; send 'resume' first"
            raise ProtocolError(
                ErrorCode.UNEXPECTED_MESSAGE,
                f"dropped {len(data)} bytes of audio that came {when}",
            )
        return [AudioData(data)]

    def _text(self, text: str) -> list[Inbound]:
        message = _decode(text, started=self.start is not None)
        if isinstance(message, Start):
            self.start = check_start(message)
            return [self.start]
        self._check_expected(message)
        if isinstance(message, Pause | Resume):
            # Every pause reports its first dropped chunk anew.
            self._paused = isinstance(message, Pause)
            self._has_reported_audio = False
        elif isinstance(message, Stop):
            self._stopped = True
            self._has_reported_audio = False
        return [message]

    def _check_expected(self, message: Inbound) -> None:
        name = _name(message)
        if self.start is None:
            raise unexpected_message(f"got '{name}' before 'start'; send it first")
        # A client may keep its connection alive while it waits for ``summary``.
        if self._stopped and not isinstance(message, KeepAlive):
            raise unexpected_message(f"got '{name}' after 'stop', which ends the stream")
        if self._paused and isinstance(message, Pause | Discarded):
            raise unexpected_message(
                f"got '{name}' while the stream is paused; send 'resume' first"
            )
        if not self._paused and isinstance(message, Resume):
            raise unexpected_message(f"got '{name}', but the stream is not paused")
        if isinstance(message, Mark):
            check_text("name of 'mark'", message.name, ErrorCode.BAD_MESSAGE)
        elif isinstance(message, ConsentTold | SpeakerTold):
            check_told(message)
        elif isinstance(message, Discarded):
            check_span("samples of 'discarded'", message.samples)
        elif isinstance(message, Resume) and message.paused_samples is not None:
            check_span("paused_samples of 'resume'", message.paused_samples)


def _decode(text: str, *, started: bool) -> ClientMessage:
    try:
        name = _typed_decoder.decode(text).type
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise ProtocolError(
            ErrorCode.BAD_MESSAGE, f"expected a JSON object with a 'type': {_explain(error)}"
        ) from None
    decoder = _decoders.get(name)
    if decoder is None:
        raise ProtocolError(
            ErrorCode.UNKNOWN_MESSAGE, f"got type {shown(name)}, expected {', '.join(_decoders)}"
        )
    if name == "start" and started:
        raise unexpected_message("stream already started: got a second 'start'")
    try:
        return decoder.decode(text)
    except (msgspec.DecodeError, RecursionError) as error:
        # A wrong ``start`` ends the connection: guessing a format would give wrong results.
        raise ProtocolError(
            ErrorCode.BAD_START if name == "start" else ErrorCode.BAD_MESSAGE,
            f"invalid '{name}': {_explain(error)}",
        ) from None


def _explain(error: Exception) -> str:
    """Return what is wrong with a text, without repeating much of it."""
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


def _name(message: Inbound) -> str:
    assert isinstance(message, msgspec.Struct)
    return str(message.__struct_config__.tag)


def _is_wanted(result: Result, wants: frozenset[str]) -> bool:
    match result:
        case Point():
            return "points" in wants
        case Segment():
            return "segments" in wants
        case Gap():
            # A gap says why a point or a segment is missing.
            return "points" in wants or "segments" in wants
        case Alert():
            return "alerts" in wants
        case Measures():
            return "measures" in wants
        case StreamOpened() | StreamClosed():
            # For feeds: this client gets 'ready' and 'summary'.
            return False
        case _:
            return True
