"""JSON Web Tokens signed with a shared secret (RFC 7519, HS256), as Vonage sends them.

https://developer.vonage.com/en/getting-started/concepts/webhooks#signed-webhooks
"""

from __future__ import annotations

import base64
import binascii
import hmac
from typing import Any

import msgspec

LEEWAY_S = 60.0
"""By how much two clocks may disagree."""
MAX_AGE_S = 300.0
"""Age at which a token is refused that does not say itself when it expires."""

_decoder = msgspec.json.Decoder(dict[str, Any])


def verified_claims(token: str, secret: str, now_s: float) -> dict[str, Any] | None:
    """Return what a token claims; None: it is not signed with ``secret``, or not of this moment.

    A token that says neither when it was made nor when it expires is of no moment.

    Args:
        token: three parts with dots between them.
        secret: that it is signed with.
        now_s: seconds since 1970.
    """
    signed, _, signature = token.rpartition(".")
    encoded_header, _, encoded_claims = signed.partition(".")
    header, claims = _json(encoded_header), _json(encoded_claims)
    # Never the algorithm the token asks for: "none" is one of them.
    if header is None or claims is None or header.get("alg") != "HS256":
        return None
    mac = hmac.new(secret.encode(), signed.encode(errors="replace"), "sha256").digest()
    given = _decoded(signature)
    if given is None or not hmac.compare_digest(mac, given):
        return None
    return claims if _is_current(claims, now_s) else None


def _is_current(claims: dict[str, Any], now_s: float) -> bool:
    times = {name: claims.get(name) for name in ("iat", "nbf", "exp")}
    for value in times.values():
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
            return False
    made_s, from_s, until_s = times["iat"], times["nbf"], times["exp"]
    if made_s is not None and made_s > now_s + LEEWAY_S:
        return False
    if from_s is not None and from_s > now_s + LEEWAY_S:
        return False
    if until_s is not None:
        return bool(now_s < until_s + LEEWAY_S)
    return made_s is not None and bool(now_s < made_s + MAX_AGE_S + LEEWAY_S)


def _json(encoded: str) -> dict[str, Any] | None:
    data = _decoded(encoded)
    try:
        return None if data is None else _decoder.decode(data)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return None


def _decoded(encoded: str) -> bytes | None:
    """Return the bytes of Base64 for URLs without its padding."""
    try:
        data = encoded.encode("ascii") + b"=" * (-len(encoded) % 4)
        return base64.b64decode(data, altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        return None
