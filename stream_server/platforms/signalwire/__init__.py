"""SignalWire's ``<Stream>``, which has the messages of Twilio's.

https://developer.signalwire.com/compatibility-api/cxml/voice/stream

The documentation names the codecs that may be asked for (``PCMU``, ``L16@16000h``, ``L16@24000h``)
and shows ``start`` with µ-law only, so how ``mediaFormat`` names L16 is not known for certain: the
names that its relatives use are understood, and that of the codec itself. Its own adapter for
OpenAI passes L16 on as little-endian samples; the first second of audio decides.
"""

from __future__ import annotations

from functools import partial

from stream_server.platforms.media_stream import MediaPlatform, WireEncoding, media_route
from stream_server.platforms.platform import Platform, TelephonySettings

_MULAW = WireEncoding("mulaw")
_ALAW = WireEncoding("alaw")
_L16 = WireEncoding("pcm_s16le", byte_order="little")

SIGNALWIRE = MediaPlatform(
    name="signalwire",
    encodings={
        "audio/x-mulaw": _MULAW,
        "pcmu": _MULAW,
        "audio/x-alaw": _ALAW,
        "pcma": _ALAW,
        "audio/x-l16": _L16,
        "audio/l16": _L16,
        "l16": _L16,
        "l16@16000h": _L16,
        "l16@24000h": _L16,
    },
)

PLATFORM = Platform({"/signalwire": partial(media_route, SIGNALWIRE)}, TelephonySettings)
