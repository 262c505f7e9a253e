"""One AudioHook session, the server's side.

The client opens and closes: ``open`` is answered with ``opened`` when the stream was admitted,
``close`` with ``closed`` after the last result, and then the client closes the WebSocket. Where the
server wants to end it says ``disconnect``, and the client closes. A mistake of the client's ends
the session, as the specification has it; types of message that are not known are let pass, as the
platform has added some.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, auto

from stream_server.protocol.audiohook.durations import ticks_of
from stream_server.protocol.audiohook.envelopes import Envelopes
from stream_server.protocol.audiohook.events import EventWriter
from stream_server.protocol.audiohook.media import choose_media
from stream_server.protocol.audiohook.messages import (
    ClientMessage,
    GapParameters,
    OpenParameters,
    read_duration,
    read_parameters,
)
from stream_server.protocol.audiohook.opening import check_open, is_probe
from stream_server.protocol.client_messages import Discarded, Pause, Resume, Stop, Want
from stream_server.protocol.dialect import AudioData, Inbound, Say
from stream_server.protocol.errors import ErrorCode, ProtocolError
from stream_server.protocol.results import StreamClosed
from stream_server.protocol.server_messages import Error, Heartbeat, Ready, ServerMessage
from stream_server.protocol.stream_spec import StreamSpec

__all__ = ["AudioHookDialect"]

_WANTS: frozenset[Want] = frozenset(("points", "segments", "alerts"))
_REASONS = {
    ErrorCode.UNAUTHORIZED.value: "unauthorized",
    ErrorCode.TOO_LONG.value: "completed",
    ErrorCode.SHUTTING_DOWN.value: "completed",
}
"""Reasons of ``disconnect``; others are ``error``."""
_MAX_INFO_CHARACTERS = 512


class _Phase(Enum):
    NEW = auto()  # ``open`` has not come
    PROBE = auto()  # open, without a stream
    OPENING = auto()  # the stream is asked for
    OPEN = auto()
    CLOSING = auto()  # ``close`` has come, the last results go out
    DISCONNECTING = auto()  # ``disconnect`` was said, ``close`` is to come
    CLOSED = auto()  # ``closed`` was said: it is the client's turn


class AudioHookDialect:
    """See :class:`~stream_server.protocol.dialect.Dialect`.

    Args:
        roles: of the channels ``external`` and ``internal``.
        session_id: of the handshake; "": the first message says it.
        organization_id: the same; "": any.
        ids: others of the handshake, kept with the stream, by what they are called there.
        is_authorized: False: whatever comes first is answered with ``disconnect``.
        event_interval_ms: of the audio, between ``event`` messages; None: none are sent.

    Attributes:
        start: what the stream is; None before ``open``, and in a connection probe.
    """

    can_resume = False
    client_closes = True
    begins_with = "'open'"

    def __init__(
        self,
        roles: tuple[str, str],
        *,
        session_id: str = "",
        organization_id: str = "",
        ids: Mapping[str, str] | None = None,
        is_authorized: bool = True,
        event_interval_ms: int | None = 1000,
    ) -> None:
        self.start: StreamSpec | None = None
        self._roles = roles
        self._organization_id = organization_id
        self._ids = ids or {}
        self._is_authorized = is_authorized
        self._event_interval_ms = event_interval_ms
        self._envelopes = Envelopes(session_id)
        self._phase = _Phase.NEW
        self._is_paused = False
        self._opened: dict[str, object] = {}  # parameters of ``opened``
        self._origin_ns = 0
        self._ticks = 0  # of audio and of gaps so far
        self._events: EventWriter | None = None

    @property
    def _code(self) -> ErrorCode:
        """Of the client's mistakes: all of them end the session."""
        return ErrorCode.BAD_START if self.start is None else ErrorCode.TOO_MANY_ERRORS

    # -- what comes -------------------------------------------------------------------------------

    def receive(self, message: str | bytes) -> list[Inbound]:
        """Take one WebSocket message.

        Raises:
            ProtocolError: the session ends with it.
        """
        if self._phase in (_Phase.DISCONNECTING, _Phase.CLOSED):
            return self._receive_late(message)
        if not self._is_authorized:
            if isinstance(message, str):
                self._envelopes.read_late(message)
            # Why is told to nobody who may be guessing.
            raise ProtocolError(ErrorCode.UNAUTHORIZED, "not authorized")
        if isinstance(message, bytes):
            return self._audio(message)
        return self._handle(self._envelopes.read(message, self._code))

    def _handle(self, message: ClientMessage) -> list[Inbound]:
        match message.type:
            case "open" if self._phase is _Phase.NEW:
                return [self._open(message)]
            case "close":
                return self._close()
            case "ping":
                return [self._say("pong")]
            case "update" if self._phase is _Phase.OPEN:
                return [self._say("updated")]
            case "discarded" if self._phase is _Phase.OPEN and not self._is_paused:
                return self._discarded(self._take_gap(message))
            case "paused" if self._phase is _Phase.OPEN and not self._is_paused:
                self._is_paused = True
                return [Pause()]
            case "resumed" if self._phase is _Phase.OPEN:
                ticks = self._take_gap(message)
                if not self._is_paused:
                    return self._discarded(ticks)
                self._is_paused = False
                return [Resume(paused_samples=ticks)]
        return []

    def _open(self, message: ClientMessage) -> Inbound:
        parameters = read_parameters(message, OpenParameters, self._code)
        if self._organization_id not in ("", parameters.organization_id):
            raise ProtocolError(ErrorCode.UNAUTHORIZED, "not authorized")
        self._opened = {"startPaused": False}
        if parameters.supported_languages:
            # Emotion is not bound to one: whatever is spoken is supported.
            self._opened["supportedLanguages"] = (
                [parameters.language] if parameters.language else []
            )
        if is_probe(parameters):
            self._opened["media"] = [choose_media(parameters.media)] if parameters.media else []
            self._phase = _Phase.PROBE
            return self._say("opened", self._opened)
        self._origin_ns = read_duration("position", message.position, self._code)
        wants = frozenset[Want]() if self._event_interval_ms is None else _WANTS
        self.start, offer = check_open(parameters, self._ids, self._roles, wants)
        self._opened["media"] = [offer]
        self._phase = _Phase.OPENING
        return self.start

    def _close(self) -> list[Inbound]:
        if self._phase is _Phase.CLOSING:
            return []
        if self.start is None:
            self._phase = _Phase.CLOSED
            return [self._say("closed"), Stop()]
        self._phase = _Phase.CLOSING
        return [Stop()]

    def _audio(self, data: bytes) -> list[Inbound]:
        if self._phase is _Phase.NEW:
            raise ProtocolError(
                ErrorCode.NOT_STARTED, f"got {len(data)} bytes of audio, expected 'open' first"
            )
        # People pause to keep something private.
        if self._phase is not _Phase.OPEN or self._is_paused or not data:
            return []
        assert self.start is not None
        bytes_per_tick = self.start.format.bytes_per_tick
        if len(data) % bytes_per_tick:
            # The channels would change places from here on.
            raise ProtocolError(
                ErrorCode.BAD_FORMAT,
                f"got {len(data)} bytes of audio, expected a multiple of {bytes_per_tick}",
            )
        self._ticks += len(data) // bytes_per_tick
        return [AudioData(data)]

    def _take_gap(self, message: ClientMessage) -> int:
        """Return the length of a gap, in samples a channel; audio that is missing before it counts.

        The client's positions are the time of the call. Where its gap begins after what has come,
        there was more audio than was sent.
        """
        assert self.start is not None
        gap = read_parameters(message, GapParameters, self._code)
        rate_hz = self.start.format.sample_rate_hz
        length = ticks_of(read_duration("discarded", gap.discarded, self._code), rate_hz)
        start_ns = read_duration("start", gap.start, self._code) - self._origin_ns
        missing = max(0, ticks_of(max(0, start_ns), rate_hz) - self._ticks)
        self._ticks += missing + length
        return missing + length

    @staticmethod
    def _discarded(ticks: int) -> list[Inbound]:
        return [Discarded(samples=ticks)] if ticks else []

    def _receive_late(self, message: str | bytes) -> list[Inbound]:
        """Answer what comes after ``disconnect``, or after ``closed``, without any demands."""
        late = self._envelopes.read_late(message) if isinstance(message, str) else None
        if late is None or self._phase is _Phase.CLOSED:
            return []
        if late.type == "close":
            self._phase = _Phase.CLOSED
            return [self._say("closed")]
        return [self._say("pong")] if late.type == "ping" else []

    # -- what goes --------------------------------------------------------------------------------

    def send(self, message: ServerMessage) -> list[str | bytes]:
        """Return the message that says ``message``; none where the platform has no words for it."""
        match message:
            case Ready():
                return [self._ready(message)]
            case Error():
                return self._error(message)
            case Heartbeat():
                return []
        texts: list[str | bytes] = []
        if self._events is not None and (entities := self._events.add(message)):
            texts.append(self._envelopes.write("event", {"entities": entities}))
        if isinstance(message, StreamClosed) and self._phase is _Phase.CLOSING:
            self._phase = _Phase.CLOSED
            texts.append(self._envelopes.write("closed", {}))
        return texts

    def _ready(self, ready: Ready) -> str:
        assert self.start is not None
        self._phase = _Phase.OPEN
        if self._event_interval_ms is not None:
            self._events = EventWriter(
                [channel.name for channel in self.start.channels],
                [label.name for label in ready.labels],
                self._origin_ns,
                self._event_interval_ms,
            )
        return self._envelopes.write("opened", self._opened)

    def _error(self, error: Error) -> list[str | bytes]:
        # After ``close`` there is nothing to disconnect any more, only to answer.
        if error.close_code is None or self._phase in (_Phase.DISCONNECTING, _Phase.CLOSED):
            return []
        if self._phase is _Phase.CLOSING:
            self._phase = _Phase.CLOSED
            return [self._envelopes.write("closed", {})]
        self._phase = _Phase.DISCONNECTING
        reason = _REASONS.get(error.code, "error")
        parameters = {"reason": reason}
        if reason != "unauthorized":
            parameters["info"] = error.message[:_MAX_INFO_CHARACTERS]
        return [self._envelopes.write("disconnect", parameters)]

    def _say(self, kind: str, parameters: Mapping[str, object] | None = None) -> Say:
        return Say((self._envelopes.write(kind, parameters or {}),))
