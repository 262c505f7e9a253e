"""``X-Twilio-Signature``.

https://www.twilio.com/docs/usage/security#validating-requests

An HMAC of the URL, with Twilio's auth token. Of a WebSocket that is the ``wss`` URL; what a query
says comes as it is, or as the parameters of a form would: sorted, names and values in one.

Twilio Media Streams.

https://www.twilio.com/docs/voice/media-streams/websocket-messages
"""

from __future__ import annotations

import base64
import hmac
from collections.abc import Iterable
from typing import Literal
from urllib.parse import parse_qsl

from stream_server.platforms.media_stream import INBOUND, MediaPlatform, WireEncoding

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


TWILIO_SIGNATURE = "x-twilio-signature"
"""Header, in lower case."""
TWILIO_SIGNATURE_SETTINGS = "x-twilio-webhooks-signature-settings"
"""Header that names another algorithm than SHA-1: ``key=...,algorithm=HMAC_SHA256``."""


def is_signed_by_twilio(
    auth_token: str, urls: Iterable[str], signature: str, settings: str = ""
) -> bool:
    """Return whether a signature is right; it takes the same time wherever it is wrong.

    Args:
        auth_token: of the account, or its shared key.
        urls: any of which may be the one that was signed.
        signature: of the header.
        settings: of :data:`TWILIO_SIGNATURE_SETTINGS`, "" without one.
    """
    digest = _digest(settings)
    given = signature.encode(errors="replace")
    is_right = False
    for url in urls:
        for text in _signed_texts(url):
            mac = hmac.new(auth_token.encode(), text.encode(errors="replace"), digest).digest()
            is_right |= hmac.compare_digest(base64.b64encode(mac), given)
    return is_right


def _signed_texts(url: str) -> tuple[str, ...]:
    path, _, query = url.partition("?")
    if not query:
        return (url,)
    pairs = sorted(set(parse_qsl(query, keep_blank_values=True)))
    return (url, path + "".join(name + value for name, value in pairs))


def _digest(settings: str) -> Literal["sha1", "sha256"]:
    for part in settings.split(","):
        name, _, value = part.partition("=")
        if name.strip() == "algorithm" and value.strip().upper() == "HMAC_SHA256":
            return "sha256"
    return "sha1"
