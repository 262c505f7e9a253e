"""Exotel's Stream and Voicebot applets.

https://developer.exotel.com/docs/agentstream/websocket-protocol
"""

from __future__ import annotations

from stream_server.platforms.media_stream import INBOUND, MediaPlatform, WireEncoding

_SLIN = WireEncoding("pcm_s16le")
_MULAW = WireEncoding("mulaw")

EXOTEL = MediaPlatform(
    name="exotel",
    stream_id="stream_sid",
    call_id="call_sid",
    format="media_format",
    rate="sample_rate",
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
    tracks=(INBOUND,),
    parameters=lambda message: message["start"].get("custom_parameters"),
    details=("stream_sid", "account_sid"),
)
"""16-bit little-endian samples at 8, 16 or 24 kHz, about 100 ms a message, one track without a
name."""
