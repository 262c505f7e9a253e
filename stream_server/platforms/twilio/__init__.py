"""Twilio Media Streams, and the ``X-Twilio-Signature`` of their handshakes.

https://www.twilio.com/docs/voice/media-streams/websocket-messages
https://www.twilio.com/docs/usage/security#validating-requests
"""

from __future__ import annotations

import base64
import hmac
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import parse_qsl

from stream_server.access import SIGNED, Who
from stream_server.platforms.authenticators import signed_urls, unauthorized
from stream_server.platforms.media_stream import MediaPlatform, WireEncoding, media_route
from stream_server.platforms.platform import Platform, RouteContext, TelephonySettings
from stream_server.platforms.route import Handshake, Route

SIGNATURE_HEADER = "x-twilio-signature"
ALGORITHM_HEADER = "x-twilio-webhooks-signature-settings"
"""Names another algorithm than SHA-1: ``key=...,algorithm=HMAC_SHA256``."""

TWILIO = MediaPlatform(
    name="twilio",
    # Always mu-law at 8 kHz. Numbers are strings.
    encodings={"audio/x-mulaw": WireEncoding("mulaw")},
)


@dataclass(frozen=True)
class TwilioSettings(TelephonySettings):
    """Settings of Twilio."""

    twilio_auth_token: str = field(default="", repr=False)
    """Twilio's auth token, with which its requests must be signed; "": Twilio needs an access token
    instead (on loopback none)."""


class TwilioSignature:
    """Twilio's signature of the URL."""

    is_signature = True

    def __init__(self, auth_token: str, public_url: str) -> None:
        self._auth_token = auth_token
        self._public_url = public_url

    def authenticate(self, handshake: Handshake) -> Who:
        headers = handshake.headers
        signature = headers.get(SIGNATURE_HEADER)
        if signature is None:
            raise unauthorized(f"no {SIGNATURE_HEADER}")
        urls = signed_urls(
            self._public_url, headers.get("host", ""), handshake.target, ("wss", "ws")
        )
        algorithm = headers.get(ALGORITHM_HEADER, "")
        if not is_signed(self._auth_token, urls, signature, algorithm):
            raise unauthorized(f"a wrong {SIGNATURE_HEADER}")
        return SIGNED


def is_signed(
    auth_token: str, urls: Iterable[str], signature: str, algorithm_header: str = ""
) -> bool:
    """Return whether a signature is valid for one of several URLs, in constant time."""
    digest = _digest(algorithm_header)
    given = signature.encode(errors="replace")
    is_valid = False
    for url in urls:
        for text in _signed_texts(url):
            mac = hmac.new(auth_token.encode(), text.encode(errors="replace"), digest).digest()
            # No early exit: which URL or character is wrong must not show in the time taken.
            is_valid |= hmac.compare_digest(base64.b64encode(mac), given)
    return is_valid


def _signed_texts(url: str) -> tuple[str, ...]:
    path, _, query = url.partition("?")
    if not query:
        return (url,)
    # Twilio signs the URL of a WebSocket as it is, or its query like a POSTed form: sorted,
    # names and values joined without separators.
    pairs = sorted(set(parse_qsl(query, keep_blank_values=True)))
    return (url, path + "".join(name + value for name, value in pairs))


def _digest(algorithm_header: str) -> Literal["sha1", "sha256"]:
    for part in algorithm_header.split(","):
        name, _, value = part.partition("=")
        if name.strip() == "algorithm" and value.strip().upper() == "HMAC_SHA256":
            return "sha256"
    return "sha1"


def _route(settings: TwilioSettings, context: RouteContext) -> Route:
    signature = None
    if settings.twilio_auth_token:
        signature = TwilioSignature(settings.twilio_auth_token, settings.public_url)
    return media_route(
        TWILIO, settings, context, authenticator=signature, subprotocols=("audio.twilio.com",)
    )


PLATFORM = Platform({"/twilio": _route}, TwilioSettings)
