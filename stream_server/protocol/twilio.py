"""Twilio Media Streams.

https://www.twilio.com/docs/voice/media-streams/websocket-messages
"""

from __future__ import annotations

from stream_server.protocol.media_platform import INBOUND, MediaPlatform, WireEncoding

__all__ = ["TWILIO"]

TWILIO = MediaPlatform(
    name="twilio",
    stream_id="streamSid",
    call_id="callSid",
    format="mediaFormat",
    rate="sampleRate",
    encodings={"audio/x-mulaw": WireEncoding("mulaw")},
    default_encoding="audio/x-mulaw",
    tracks=(INBOUND,),
    parameters=lambda message: message["start"].get("customParameters"),
    details=("streamSid", "accountSid"),
)
"""Numbers are strings. ``tracks`` of ``start`` says which tracks come. Audio is always µ-law at
8 kHz. ``chunk`` counts the packets of a track: the third message of Twilio's own example is the
first of its track."""
