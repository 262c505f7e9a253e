"""``X-Plivo-Signature-V3``.

https://www.plivo.com/docs/voice/concepts/signature-validation

An HMAC of the URL, its query sorted, and of a number used once.

Plivo audio streaming.

https://www.plivo.com/docs/voice-agents/audio-streaming/concepts/audio-streaming-reference
"""

from __future__ import annotations

import base64
import hmac
import re
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import parse_qs, unquote

import msgspec

from stream_server.platforms.media_stream import INBOUND, MediaPlatform, WireEncoding

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


PLIVO_SIGNATURES = ("x-plivo-signature-v3", "x-plivo-signature-ma-v3")
"""Headers, in lower case: of the account or subaccount, and of the main account."""
PLIVO_NONCE = "x-plivo-signature-v3-nonce"


def is_signed_by_plivo(
    auth_token: str, urls: Iterable[str], nonce: str, signatures: Iterable[str]
) -> bool:
    """Return whether one of several signatures is right, in the same time wherever it is not.

    Args:
        auth_token: of the account.
        urls: any of which may be the one that was signed.
        nonce: of its header.
        signatures: of their headers; each may hold several, with commas.
    """
    given = [
        each.strip().encode(errors="replace") for header in signatures for each in header.split(",")
    ]
    is_right = False
    for url in urls:
        text = f"{_sorted_query(url)}.{nonce}".encode(errors="replace")
        mac = base64.b64encode(hmac.new(auth_token.encode(), text, "sha256").digest())
        for signature in given:
            is_right |= hmac.compare_digest(mac, signature)
    return is_right


def _sorted_query(url: str) -> str:
    path, _, query = url.partition("?")
    fields = parse_qs(query, keep_blank_values=True)
    pairs = [f"{name}={value}" for name in sorted(fields) for value in sorted(fields[name])]
    return f"{path}?{'&'.join(pairs)}" if pairs else path
