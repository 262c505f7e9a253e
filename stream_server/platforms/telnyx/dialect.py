"""Telnyx media streaming over WebSockets.

https://developers.telnyx.com/docs/voice/programmable-voice/media-streaming
"""

from __future__ import annotations

from stream_server.platforms.media_stream import BOTH_TRACKS, MediaPlatform, WireEncoding

_MULAW = WireEncoding("mulaw")
_ALAW = WireEncoding("alaw")

TELNYX = MediaPlatform(
    name="telnyx",
    stream_id="stream_id",
    call_id="call_control_id",
    format="media_format",
    rate="sample_rate",
    encodings={
        "pcmu": _MULAW,
        "audio/x-mulaw": _MULAW,
        "pcma": _ALAW,
        "audio/x-alaw": _ALAW,
        "l16": WireEncoding("pcm_s16le", byte_order="big"),
    },
    default_encoding="pcmu",
    tracks=BOTH_TRACKS,
    parameters=lambda message: message["start"].get("custom_parameters"),
    details=("call_session_id", "client_state"),
)
"""The order of messages is not promised; ``chunk`` gives it back. ``start`` does not say which
tracks come: two are made room for, unless the query of the URL says which. The payload is that of
RTP, so L16 should be big-endian (RFC 3551), which not everybody has found it to be. G.722, Opus and
AMR-WB are not understood."""
