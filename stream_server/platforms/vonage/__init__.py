"""Vonage's WebSockets, and the signed token of their handshakes.

https://developer.vonage.com/en/voice/voice-api/concepts/websockets
https://developer.vonage.com/en/getting-started/concepts/webhooks#signed-webhooks

The first message is text: the format, beside the ``headers`` of the NCCO. Binary messages are 20 ms
of 16-bit little-endian samples, one channel; further text reports events. A close ends the call.
Packets carry neither numbers nor times, and need none: WebSocket keeps the order, and Vonage does
not say what it lost itself.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from stream_server.access import SIGNED, Who
from stream_server.platforms.authenticators import MAX_NONCE_LENGTH, SeenNonces, unauthorized
from stream_server.platforms.media_stream import ListeningDialect, call_spec, key_mark, roles_of
from stream_server.platforms.platform import (
    Platform,
    PlatformRoute,
    RouteContext,
    TelephonySettings,
)
from stream_server.platforms.route import Handshake, Route
from stream_server.wire.audio_format import AudioFormat
from stream_server.wire.dialect import (
    AudioData,
    Inbound,
    json_field,
    parse_json_object,
    text_of_control,
    unexpected_message,
)
from stream_server.wire.errors import ErrorCode, ProtocolError, shown
from stream_server.wire.start import StreamSpec

_CONTENT_TYPE = re.compile(r"audio/l16\s*(?:;\s*rate\s*=\s*([0-9]{1,6})\s*)?", re.IGNORECASE)
_DEFAULT_RATE_HZ = 16_000
_NOT_HEADERS = ("event", "content-type")
_NAMES = ("uuid", "call_uuid", "conversation_uuid", "name")
"""Headers that may name the call, the best first: Vonage itself does not."""

LEEWAY_S = 60.0
"""By how much two clocks may disagree."""
MAX_AGE_S = 300.0
"""Age at which a token without ``exp`` is refused."""


@dataclass(frozen=True)
class VonageSettings(TelephonySettings):
    """Settings of Vonage."""

    vonage_signature_secret: str = field(default="", repr=False)
    """Vonage's signature secret, with which its tokens must be signed; "": Vonage needs an access
    token instead."""


class VonageToken:
    """Vonage's signed token (JSON Web Token, RFC 7519, HS256) as a Bearer token."""

    is_signature = True

    def __init__(self, secret: str, now_s: Callable[[], float] = time.time) -> None:
        self._secret = secret
        self._now_s = now_s
        self._seen = SeenNonces()

    def authenticate(self, handshake: Handshake) -> Who:
        token = handshake.header_token
        if token is None:
            raise unauthorized("no signed token in Authorization")
        claims = verified_claims(token, self._secret, self._now_s())
        if claims is None:
            raise unauthorized("an unsigned, wrongly signed or outdated token in Authorization")
        nonce = claims.get("jti")
        # RFC 7519, section 4.1.7: the id prevents replay.
        if isinstance(nonce, str) and not self._seen.is_new(nonce[:MAX_NONCE_LENGTH]):
            raise unauthorized("a signed token that was used already")
        return SIGNED


def verified_claims(token: str, secret: str, now_s: float) -> dict[str, Any] | None:
    """Return the claims of a token; None if its signature is wrong or it is not valid now.

    A token with neither ``iat`` nor ``exp`` never expires, and is refused.
    """
    # Imported here: commands read the settings of this module without the server's packages.
    import jwt

    try:
        claims: dict[str, Any] = jwt.decode(
            token,
            secret,
            # Never the algorithm that the token names: "none" is one of them (RFC 8725, 3.1).
            algorithms=["HS256"],
            # Which Vonage application it is does not matter, and PyJWT's clock cannot be set.
            options={
                "verify_exp": False,
                "verify_nbf": False,
                "verify_iat": False,
                "verify_aud": False,
                "verify_iss": False,
                "verify_sub": False,
                "verify_jti": False,
            },
        )
    except (jwt.PyJWTError, UnicodeError, RecursionError):
        return None
    return claims if _is_current(claims, now_s) else None


def _is_current(claims: dict[str, Any], now_s: float) -> bool:
    times = {name: claims.get(name) for name in ("iat", "nbf", "exp")}
    for value in times.values():
        # A NumericDate is any JSON number (RFC 7519, section 2); bool is an int only in Python.
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
            return False
    issued_s, not_before_s, expires_s = times["iat"], times["nbf"], times["exp"]
    # Comparisons that NaN, which Python's JSON accepts, fails.
    if issued_s is not None and not issued_s <= now_s + LEEWAY_S:
        return False
    if not_before_s is not None and not not_before_s <= now_s + LEEWAY_S:
        return False
    if expires_s is not None:
        return bool(now_s < expires_s + LEEWAY_S)
    return issued_s is not None and bool(now_s < issued_s + MAX_AGE_S + LEEWAY_S)


class VonageDialect(ListeningDialect):
    """One connection of Vonage, which plays bytes to the caller and has no text for results."""

    begins_with = "'websocket:connected'"

    def __init__(self, *, roles: Sequence[str]) -> None:
        super().__init__()
        self._roles = roles

    def receive(self, message: str | bytes) -> list[Inbound]:
        """Take one WebSocket message.

        Raises:
            ProtocolError: see :class:`stream_server.wire.dialect.Dialect`.
        """
        message = text_of_control(message)
        if isinstance(message, bytes):
            return self._bad.counted(self._audio, message)
        return self._bad.counted(self._text, message)

    def _audio(self, data: bytes) -> list[Inbound]:
        if self.start is None:
            raise unexpected_message("got audio before 'websocket:connected'")
        return [AudioData(data)]

    def _text(self, text: str) -> list[Inbound]:
        message = parse_json_object(text)
        match json_field(message, "event", str):
            case "websocket:connected":
                return [self._connected(message)]
            case "websocket:dtmf":
                if self.start is None:
                    raise unexpected_message("got 'websocket:dtmf' before 'websocket:connected'")
                return [key_mark(message)]
            case _:
                return []

    def _connected(self, message: dict[str, Any]) -> StreamSpec:
        if self.start is not None:
            raise unexpected_message("stream already started: got a second 'websocket:connected'")
        headers = {name: value for name, value in message.items() if name not in _NOT_HEADERS}
        names = (headers.get(name) for name in _NAMES)
        inbound, _ = roles_of(headers, self._roles)
        self.start = call_spec(
            AudioFormat("pcm_s16le", _rate_hz(message.get("content-type"))),
            [inbound],
            name=next((name for name in names if isinstance(name, str)), ""),
            details={"platform": "vonage", **headers},
        )
        return self.start


def _rate_hz(content_type: object) -> int:
    if content_type is None:
        return _DEFAULT_RATE_HZ
    matched = _CONTENT_TYPE.fullmatch(content_type) if isinstance(content_type, str) else None
    if matched is None:
        got = f"got {shown(content_type)}, " if isinstance(content_type, str) else ""
        raise ProtocolError(
            ErrorCode.BAD_FORMAT, f"invalid content-type: {got}expected 'audio/l16;rate=16000'"
        )
    return _DEFAULT_RATE_HZ if matched[1] is None else int(matched[1])


def _route(settings: VonageSettings, context: RouteContext) -> Route:
    signature = None
    if settings.vonage_signature_secret:
        signature = VonageToken(settings.vonage_signature_secret)
    return PlatformRoute(
        context, lambda _: VonageDialect(roles=settings.roles), authenticator=signature
    )


PLATFORM = Platform({"/vonage": _route}, VonageSettings)
