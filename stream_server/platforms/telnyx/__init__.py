"""Telnyx media streaming over WebSockets.

https://developers.telnyx.com/docs/voice/programmable-voice/media-streaming
"""

from __future__ import annotations

from stream_server.platforms.authenticators import TokenAuthenticator
from stream_server.platforms.media_stream import (
    BOTH_TRACKS,
    MediaPlatform,
    WireEncoding,
    media_route,
)
from stream_server.platforms.platform import Platform, RouteContext, TelephonySettings
from stream_server.platforms.route import Route

TOKEN_HEADER = "x-telnyx-streaming-auth-token"
"""Carries the ``stream_auth_token`` that a stream was begun with."""

_MULAW = WireEncoding("mulaw")
_ALAW = WireEncoding("alaw")

TELNYX = MediaPlatform(
    name="telnyx",
    stream_id="stream_id",
    call_id="call_control_id",
    format="media_format",
    rate="sample_rate",
    # AMR-WB is not supported: in which of RFC 4867's two forms it would come is not said.
    encodings={
        "pcmu": _MULAW,
        "audio/x-mulaw": _MULAW,
        "pcma": _ALAW,
        "audio/x-alaw": _ALAW,
        # The payload is that of RTP, so L16 should be big-endian (RFC 3551, section 4.5.11); users
        # report little-endian streams as well, so the first samples decide.
        "l16": WireEncoding("pcm_s16le", byte_order="big"),
        # The rate that ``start`` says is that of RTP's clock, which for G.722 is half of the truth
        # (RFC 3551, section 4.5.2); for Opus it is any.
        "g722": WireEncoding("pcm_s16le", codec="g722"),
        "opus": WireEncoding("pcm_s16le", codec="opus"),
    },
    default_encoding="pcmu",
    # ``start`` does not list the tracks. Unless the query of the URL does, both may come.
    tracks=BOTH_TRACKS,
    parameters=lambda message: message["start"].get("custom_parameters"),
    details=("call_session_id", "client_state"),
)
"""The order of messages is not promised; ``chunk`` restores it."""


def _route(settings: TelephonySettings, context: RouteContext) -> Route:
    token = TokenAuthenticator(context.access, TOKEN_HEADER)
    return media_route(TELNYX, settings, context, authenticator=token)


PLATFORM = Platform({"/telnyx": _route}, TelephonySettings)
