"""Plivo audio streaming.

https://www.plivo.com/docs/voice-agents/audio-streaming/concepts/audio-streaming-reference
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

import msgspec

from stream_server.protocol.media_platform import INBOUND, MediaPlatform, WireEncoding

__all__ = ["PLIVO", "extra_headers"]

_MAX_HEADERS_CHARACTERS = 4096
"""Of ``extra_headers`` that are looked at; Plivo sends 512 at most."""
_BETWEEN_HEADERS = re.compile(r"[;,]")


def extra_headers(text: object) -> dict[str, object]:
    """Return what ``extraHeaders`` of the XML said: ``a=1;b=2``, with commas, or a JSON object."""
    if not isinstance(text, str):
        return {}
    if text.startswith("{"):
        try:
            return msgspec.json.decode(text, type=dict[str, object])
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            return {}
    pairs = (part.partition("=") for part in _BETWEEN_HEADERS.split(text[:_MAX_HEADERS_CHARACTERS]))
    return {
        name.strip(): unquote(value.strip()) for name, equals, value in pairs if equals and name
    }


def _parameters(message: Mapping[str, Any]) -> Mapping[str, object]:
    return extra_headers(message.get("extra_headers"))


_L16 = WireEncoding("pcm_s16le", byte_order="little")

PLIVO = MediaPlatform(
    name="plivo",
    stream_id="streamId",
    call_id="callId",
    format="mediaFormat",
    rate="sampleRate",
    encodings={
        "audio/x-mulaw": WireEncoding("mulaw"),
        "audio/mulaw": WireEncoding("mulaw"),
        "audio/x-l16": _L16,
        "audio/l16": _L16,
    },
    default_encoding="audio/x-mulaw",
    tracks=(INBOUND,),
    parameters=_parameters,
    details=("streamId", "accountId"),
)
"""There is no ``connected``. Timestamps are Unix time. The end is a close, rarely a ``stop``. The
order of bytes of L16 is not written down anywhere."""
