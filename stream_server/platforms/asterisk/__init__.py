"""Asterisk: the WebSocket channel driver, a route, and AudioSocket, a TCP port of its own.

Asterisk's ``chan_websocket`` connects, sends ``MEDIA_START`` as text, in words or as JSON, and then
the audio of one channel in binary messages. Sources: the page WebSocket of Asterisk's channel
drivers and ``channels/chan_websocket.c``.

Nothing is sent back: Asterisk plays binary messages to the channel, and takes text for commands.
Closing the WebSocket, also after an error, hangs up the channel behind it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, cast

import msgspec

from ser_engine.config import Range, check_fields
from stream_server.platforms.media_stream import (
    ListeningDialect,
    fitting_metadata,
    fitting_text,
    key_mark,
)
from stream_server.platforms.platform import (
    Platform,
    PlatformRoute,
    RouteContext,
    TelephonySettings,
    check_networks,
    check_team,
)
from stream_server.platforms.route import Route, json_refusal
from stream_server.wire.dialect import AudioData, Inbound
from stream_server.wire.errors import ErrorCode, ProtocolError, shown
from stream_server.wire.messages import ChannelSpec, Start
from stream_server.wire.start import StreamSpec, check_start

SUBPROTOCOL = "media"

FORMATS: dict[str, tuple[str, int]] = {
    "ulaw": ("mulaw", 8_000),
    "alaw": ("alaw", 8_000),
    "slin": ("pcm_s16le", 8_000),
    "slin12": ("pcm_s16le", 12_000),
    "slin16": ("pcm_s16le", 16_000),
    "slin24": ("pcm_s16le", 24_000),
    "slin32": ("pcm_s16le", 32_000),
    "slin44": ("pcm_s16le", 44_100),
    "slin48": ("pcm_s16le", 48_000),
    "g722": ("g722", 16_000),
    "opus": ("opus", 16_000),
}
"""Asterisk's names of formats that can be analysed: encoding and rate. It sends ``slin`` in its
machine's byte order, which is little-endian on x86 and ARM. A binary message is a frame of the
channel, so of Opus a packet."""

QUERY_KEYS = ("role", "name")
"""The channel's role, and the stream's name."""

_START = "MEDIA_START"
_KEY_PRESSED = "DTMF_END"
_METADATA = ("connection_id", "channel", "channel_id")
_MAX_WORDS = 32
"""Fields of an event that are parsed; MEDIA_START has six."""


@dataclass(frozen=True, slots=True)
class AudioSocketConfig:
    """Asterisk AudioSocket: plain TCP without authentication."""

    port: Annotated[int, Range(-1, 65_535)] = 9092
    """Port to listen on. -1: none; 0: any free one. If another program has the default port, the
    server continues without AudioSocket and logs it."""
    allow: tuple[str, ...] = ("127.0.0.0/8", "::1/128")
    """Addresses and networks that may connect."""
    team: str = ""
    """Team that its calls belong to; "": none, and only who sees all teams sees them."""
    channels: Annotated[int, Range(1, 2)] = 2
    """Connections of one call, paired by UUID, each a channel with one of ``telephony.roles``; a
    channel without a connection is a gap."""

    def __post_init__(self) -> None:
        check_fields(self, "telephony.audiosocket")
        check_team("telephony.audiosocket.team", self.team)
        check_networks("telephony.audiosocket.allow", self.allow)


@dataclass(frozen=True)
class AsteriskSettings(TelephonySettings):
    """Settings of Asterisk."""

    audiosocket: AudioSocketConfig = field(default_factory=AudioSocketConfig)


class ChanWebSocketDialect(ListeningDialect):
    """One connection: one channel.

    A pressed key becomes a mark; other events are ignored.

    Args:
        role: of the channel, unless the query names one.

    Raises:
        ProtocolError: the query has an unknown parameter.
    """

    begins_with = "MEDIA_START"

    def __init__(self, role: str, query: Mapping[str, str] | None = None) -> None:
        super().__init__()
        query = query or {}
        for key in query:
            if key not in QUERY_KEYS:
                raise ProtocolError(
                    ErrorCode.BAD_START,
                    f"got {shown(key)} in the query, expected {' and '.join(QUERY_KEYS)}",
                )
        self._role = query.get("role", role)
        self._name = query.get("name", "")

    def receive(self, message: str | bytes) -> list[Inbound]:
        """Take one WebSocket message.

        Raises:
            ProtocolError: audio comes before ``MEDIA_START``, or that has a format that cannot be
                analysed.
        """
        if isinstance(message, bytes):
            if self.start is None:
                raise ProtocolError(
                    ErrorCode.NOT_STARTED,
                    f"got {len(message)} bytes of audio before {_START}",
                )
            return [AudioData(message)]
        event, fields = _parse(message)
        if event == _KEY_PRESSED and self.start is not None:
            return [key_mark(fields)]
        # Events about playback come to a monitor as well, which plays nothing.
        if event != _START:
            return []
        if self.start is not None:
            raise ProtocolError(
                ErrorCode.UNEXPECTED_MESSAGE, f"stream already started: got a second {_START}"
            )
        self.start = self._spec(fields)
        return [self.start]

    def _spec(self, fields: Mapping[str, Any]) -> StreamSpec:
        name = fields.get("format")
        known = FORMATS.get(name) if isinstance(name, str) else None
        if known is None:
            got = shown(name) if isinstance(name, str) else "no"
            raise ProtocolError(
                ErrorCode.BAD_FORMAT,
                f"got {got} format, expected one of {', '.join(FORMATS)}; give the channel a codec"
                " of these, e.g. c(ulaw)",
            )
        encoding, rate_hz = known
        variables = fields.get("channel_variables")
        said = {"platform": "asterisk-websocket", **{key: fields.get(key) for key in _METADATA}}
        if isinstance(variables, Mapping):
            # The dialplan's variables must not replace what Asterisk itself says.
            said |= {key: value for key, value in variables.items() if key not in said}
        metadata = fitting_metadata(said)
        start = Start(
            encoding=encoding,
            sample_rate=rate_hz,
            channels=(ChannelSpec(role=self._role),),
            # channel_id names the channel in all of Asterisk, connection_id in this driver only.
            name=fitting_text(self._name)
            or metadata.get("channel_id")
            or metadata.get("connection_id", ""),
            metadata=metadata,
            wants=(),
        )
        return check_start(start)


def _parse(text: str) -> tuple[str, Mapping[str, Any]]:
    """Return an event's name and fields; "" for text that is not an event."""
    if text.lstrip()[:1] == "{":
        try:
            decoded = msgspec.json.decode(text)
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            return "", {}
        fields = cast(Mapping[str, Any], decoded)
        event = fields.get("event")
        return (event, fields) if isinstance(event, str) else ("", {})
    # "MEDIA_START connection_id:... channel:..."; values hold no spaces, and may hold colons.
    event, *words = text.split()[: 1 + _MAX_WORDS] or [""]
    pairs = (word.partition(":") for word in words)
    return event, {key: value for key, separator, value in pairs if separator}


def _route(settings: AsteriskSettings, context: RouteContext) -> Route:
    # A channel is one side of a call. Asterisk logs a refused handshake, so its text is JSON with
    # the remedy in it.
    return PlatformRoute(
        context,
        lambda handshake: ChanWebSocketDialect(settings.roles[0], handshake.query),
        subprotocols=(SUBPROTOCOL,),
        refuse=json_refusal,
    )


PLATFORM = Platform({"/asterisk": _route}, AsteriskSettings, has_ports=True)
