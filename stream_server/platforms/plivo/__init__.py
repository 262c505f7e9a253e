"""Plivo audio streaming, and the ``X-Plivo-Signature-V3`` of its handshakes.

https://www.plivo.com/docs/voice-agents/audio-streaming/concepts/audio-streaming-reference
https://www.plivo.com/docs/voice/concepts/signature-validation
"""

from __future__ import annotations

import base64
import hmac
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from urllib.parse import parse_qs, unquote

import msgspec

from stream_server.access import SIGNED, Who
from stream_server.platforms.authenticators import (
    MAX_NONCE_LENGTH,
    SeenNonces,
    signed_urls,
    unauthorized,
)
from stream_server.platforms.media_stream import MediaPlatform, WireEncoding, media_route
from stream_server.platforms.platform import Platform, RouteContext, TelephonySettings
from stream_server.platforms.route import Handshake, Route

SIGNATURE_HEADERS = ("x-plivo-signature-v3", "x-plivo-signature-ma-v3")
"""Of the account or subaccount, and of the main account."""
NONCE_HEADER = "x-plivo-signature-v3-nonce"

_MAX_HEADERS_CHARACTERS = 4096
"""Of ``extra_headers`` that are parsed; Plivo sends 512 at most."""
_BETWEEN_HEADERS = re.compile(r"[;,]")


@dataclass(frozen=True)
class PlivoSettings(TelephonySettings):
    """Settings of Plivo."""

    plivo_auth_token: str = field(default="", repr=False)
    """Plivo's auth token, with which its requests must be signed; "": Plivo needs an access token
    instead."""


def extra_headers(text: object) -> dict[str, object]:
    """Parse ``extraHeaders`` of the XML: ``a=1;b=2``, with commas, or a JSON object."""
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


# Its byte order is not documented, so the first samples decide.
_L16 = WireEncoding("pcm_s16le", byte_order="little")

PLIVO = MediaPlatform(
    name="plivo",
    stream_id="streamId",
    call_id="callId",
    encodings={
        "audio/x-mulaw": WireEncoding("mulaw"),
        "audio/mulaw": WireEncoding("mulaw"),
        "audio/x-l16": _L16,
        "audio/l16": _L16,
    },
    parameters=lambda message: extra_headers(message.get("extra_headers")),
    details=("streamId", "accountId"),
)
"""There is no ``connected``. Timestamps are Unix time. A close ends the call, rarely a ``stop``."""


class PlivoSignature:
    """Plivo's signature of the URL and a nonce.

    Args:
        public_url: what Plivo connects to; "": this server.
    """

    is_signature = True

    def __init__(self, auth_token: str, public_url: str) -> None:
        self._auth_token = auth_token
        self._public_url = public_url
        self._seen = SeenNonces()

    def authenticate(self, handshake: Handshake) -> Who:
        headers = handshake.headers
        signatures = [headers[name] for name in SIGNATURE_HEADERS if name in headers]
        nonce = headers.get(NONCE_HEADER, "")
        if not signatures or not 0 < len(nonce) <= MAX_NONCE_LENGTH:
            raise unauthorized(f"no {SIGNATURE_HEADERS[0]} with its nonce")
        # Plivo's own code checks it over the https URL, its documentation says "the full URI".
        schemes = ("wss", "https", "ws", "http")
        urls = signed_urls(self._public_url, headers.get("host", ""), handshake.target, schemes)
        if not is_signed(self._auth_token, urls, nonce, signatures):
            raise unauthorized(f"a wrong {SIGNATURE_HEADERS[0]}")
        if not self._seen.is_new(nonce):
            raise unauthorized(f"a {NONCE_HEADER} that was used already")
        return SIGNED


def is_signed(auth_token: str, urls: Iterable[str], nonce: str, signatures: Iterable[str]) -> bool:
    """Return whether one of the signatures is valid for one of the URLs, in constant time.

    A header may hold several signatures, with commas.
    """
    given = [
        each.strip().encode(errors="replace") for header in signatures for each in header.split(",")
    ]
    is_valid = False
    for url in urls:
        text = f"{_sorted_query(url)}.{nonce}".encode(errors="replace")
        mac = base64.b64encode(hmac.new(auth_token.encode(), text, "sha256").digest())
        for signature in given:
            # No early exit: which one is wrong must not show in the time taken.
            is_valid |= hmac.compare_digest(mac, signature)
    return is_valid


def _sorted_query(url: str) -> str:
    path, _, query = url.partition("?")
    fields = parse_qs(query, keep_blank_values=True)
    pairs = [f"{name}={value}" for name in sorted(fields) for value in sorted(fields[name])]
    return f"{path}?{'&'.join(pairs)}" if pairs else path


def _route(settings: PlivoSettings, context: RouteContext) -> Route:
    signature = None
    if settings.plivo_auth_token:
        signature = PlivoSignature(settings.plivo_auth_token, settings.public_url)
    return media_route(PLIVO, settings, context, authenticator=signature)


PLATFORM = Platform({"/plivo": _route}, PlivoSettings)
