"""Exotel's Stream and Voicebot applets.

https://developer.exotel.com/docs/agentstream/websocket-protocol
"""

from __future__ import annotations

from functools import partial

from stream_server.platforms.media_stream import MediaPlatform, WireEncoding, media_route
from stream_server.platforms.platform import Platform, TelephonySettings

_SLIN = WireEncoding("pcm_s16le")
_MULAW = WireEncoding("mulaw")

EXOTEL = MediaPlatform(
    name="exotel",
    stream_id="stream_sid",
    call_id="call_sid",
    format="media_format",
    rate="sample_rate",
    # Samples at 8, 16 or 24 kHz, about 100 ms a message.
    encodings={
        "audio/x-raw": _SLIN,
        "audio/x-l16": _SLIN,
        "raw/slin": _SLIN,
        "slin": _SLIN,
        "raw": _SLIN,
        # The encoding of the payload, as some versions of ``start`` have it.
        "base64": _SLIN,
        "audio/x-mulaw": _MULAW,
        "mulaw": _MULAW,
    },
    default_encoding="slin",
    # There is one track, and its messages do not name it.
    parameters=lambda message: message["start"].get("custom_parameters"),
    details=("stream_sid", "account_sid"),
)

PLATFORM = Platform({"/exotel": partial(media_route, EXOTEL)}, TelephonySettings)
