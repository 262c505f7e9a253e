"""Asterisk: the WebSocket channel driver, a route, and AudioSocket, a TCP port of its own."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from ser_engine.config import Range, check_fields
from stream_server.platforms.asterisk.chan_websocket import SUBPROTOCOL, ChanWebSocketDialect
from stream_server.platforms.platform import (
    Listener,
    ListenerContext,
    Platform,
    PlatformRoute,
    RouteContext,
    TelephonySettings,
    check_networks,
    check_team,
)
from stream_server.platforms.route import Route, json_refusal


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


def _route(settings: AsteriskSettings, context: RouteContext) -> Route:
    # A channel is one side of a call. Asterisk logs a refused handshake, so its text is JSON with
    # the remedy in it.
    return PlatformRoute(
        context,
        lambda handshake: ChanWebSocketDialect(settings.roles[0], handshake.query),
        subprotocols=(SUBPROTOCOL,),
        refuse=json_refusal,
    )


def _listen(settings: AsteriskSettings, context: ListenerContext) -> Listener | None:
    # Needs asyncio and the streams: not for a client, which reads the settings, too.
    from stream_server.platforms.asterisk.server import AudioSocketServer

    return None if settings.audiosocket.port < 0 else AudioSocketServer(context)


PLATFORM = Platform({"/asterisk": _route}, AsteriskSettings, _listen)
