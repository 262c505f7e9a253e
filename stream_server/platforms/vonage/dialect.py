"""The server's side of Vonage's WebSockets; it only listens.

https://developer.vonage.com/en/voice/voice-api/concepts/websockets

The first message is text and says the format, beside the ``headers`` of the NCCO in flat; binary
messages are 20 ms of 16-bit little-endian samples, one channel; further text tells of events. The
end is a close. There is nothing to tell one packet from the next by, and no need for it: what
WebSocket carries comes in order, and Vonage says nothing of what it lost itself.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from stream_server.platforms.media_stream import DTMF_MARK, call_spec, roles_of
from stream_server.wire.audio_format import AudioFormat
from stream_server.wire.dialect import (
    AudioData,
    BadMessages,
    Inbound,
    bad_message,
    kind_of,
    parse_json_object,
    unexpected_message,
)
from stream_server.wire.errors import ErrorCode, ProtocolError, shown
from stream_server.wire.messages import Mark, ServerMessage
from stream_server.wire.start import StreamSpec

_CONTENT_TYPE = re.compile(r"audio/l16\s*(?:;\s*rate\s*=\s*([0-9]{1,6})\s*)?", re.IGNORECASE)
_DEFAULT_RATE_HZ = 16_000
_NOT_HEADERS = ("event", "content-type")
_NAMES = ("uuid", "call_uuid", "conversation_uuid", "name")
"""Headers that may name the call, the best first: Vonage itself does not."""


class VonageDialect:
    """One connection of Vonage.

    Args:
        roles: of the settings; the first is that of whom the WebSocket hears.

    Attributes:
        start: what the stream is, as soon as that is known.
    """

    can_resume = False
    client_closes = False
    begins_with = "'websocket:connected'"

    def __init__(self, *, roles: Sequence[str]) -> None:
        self.start: StreamSpec | None = None
        self._roles = roles
        self._bad = BadMessages()

    def receive(self, message: str | bytes) -> list[Inbound]:
        """Take one WebSocket message.

        Raises:
            ProtocolError: see :class:`stream_server.wire.dialect.Dialect`. ``BAD_MESSAGE`` and
                ``UNEXPECTED_MESSAGE`` leave the stream as it was; too many of them are
                ``TOO_MANY_ERRORS``. A first message that cannot be served is ``BAD_START`` or
                ``BAD_FORMAT``.
        """
        if isinstance(message, bytes):
            return self._bad.counted(self._audio, message)
        return self._bad.counted(self._text, message)

    def send(self, message: ServerMessage) -> list[str | bytes]:
        """Return nothing: Vonage would play bytes to the caller, and knows no such text."""
        return []

    def _audio(self, data: bytes) -> list[Inbound]:
        if self.start is None:
            raise unexpected_message("audio", "'websocket:connected' first")
        return [AudioData(data)]

    def _text(self, text: str) -> list[Inbound]:
        message = parse_json_object(text)
        match message.get("event"):
            case "websocket:connected":
                return [self._connected(message)]
            case "websocket:dtmf":
                if self.start is None:
                    raise unexpected_message("websocket:dtmf", "'websocket:connected' first")
                return [Mark(name=DTMF_MARK)]
            case str():
                return []
            case event:
                raise bad_message(f"a message whose event is {kind_of(event)}", "a name")

    def _connected(self, message: dict[str, Any]) -> StreamSpec:
        if self.start is not None:
            raise unexpected_message("websocket:connected", "it once")
        headers = {name: value for name, value in message.items() if name not in _NOT_HEADERS}
        names = (headers.get(name) for name in _NAMES)
        inbound, _ = roles_of(headers, self._roles)
        self.start = call_spec(
            AudioFormat("pcm_s16le", _rate_hz(message.get("content-type"))),
            [inbound],
            name=next((name for name in names if isinstance(name, str)), ""),
            details={"platform": "vonage", **headers},
        )
        return self.start


def _rate_hz(content_type: object) -> int:
    if content_type is None:
        return _DEFAULT_RATE_HZ
    matched = _CONTENT_TYPE.fullmatch(content_type) if isinstance(content_type, str) else None
    if matched is None:
        got = shown(content_type) if isinstance(content_type, str) else kind_of(content_type)
        raise ProtocolError(
            ErrorCode.BAD_FORMAT, f"got content-type {got}, expected 'audio/l16;rate=16000'"
        )
    return _DEFAULT_RATE_HZ if matched[1] is None else int(matched[1])
