"""How a telephone platform proves, before its WebSocket is open, that it is one.

Where a platform signs its requests and its secret is in the settings, the signature must be right,
from wherever the request comes. Elsewhere it is an access token, which clients on this machine
need not have.

Numbers that are used once: whoever shows one again has overheard it.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Protocol

from stream_server.access import Access
from stream_server.platforms.plivo.dialect import PLIVO_NONCE, PLIVO_SIGNATURES, is_signed_by_plivo
from stream_server.platforms.route import Handshake
from stream_server.platforms.signed_urls import signed_urls
from stream_server.platforms.twilio.dialect import (
    TWILIO_SIGNATURE,
    TWILIO_SIGNATURE_SETTINGS,
    is_signed_by_twilio,
)
from stream_server.platforms.vonage.token import verified_claims
from stream_server.wire.errors import ErrorCode, ProtocolError


class SeenNumbers:
    """Remembers what was shown last.

    Only numbers of good signatures belong here; others would push those out.

    Args:
        capacity: how many are remembered; the oldest goes first.
    """

    def __init__(self, capacity: int = 10_000) -> None:
        self._capacity = capacity
        self._seen: OrderedDict[str, None] = OrderedDict()

    def is_new(self, number: str) -> bool:
        """Return whether ``number`` was not shown before, and remember it."""
        if number in self._seen:
            return False
        self._seen[number] = None
        if len(self._seen) > self._capacity:
            self._seen.popitem(last=False)
        return True


TELNYX_TOKEN = "x-telnyx-streaming-auth-token"
"""Header of what a stream was begun with as ``stream_auth_token``."""

_MAX_NONCE_LENGTH = 256


class Proof(Protocol):
    """One way to prove who connects.

    Attributes:
        is_signature: a refusal is HTTP 403, not 401: asking again with a password is of no use.
    """

    is_signature: bool

    def check(self, handshake: Handshake) -> str:
        """Return the name of who connects, "" for nobody in particular.

        Raises:
            ProtocolError: ``UNAUTHORIZED``.
        """
        ...


class Token:
    """An access token of the settings: in a header, as a password, or in the path.

    Args:
        access: who may connect.
    """

    is_signature = False

    def __init__(self, access: Access) -> None:
        self._access = access

    def check(self, handshake: Handshake) -> str:
        """Return the token's name."""
        in_path = (handshake.path_token or "").rstrip("/") or None
        token = handshake.header_token or handshake.headers.get(TELNYX_TOKEN) or in_path
        try:
            return self._access.authorize_client(token, handshake.peer, handshake.host) or ""
        except ProtocolError as error:
            raise ProtocolError(
                error.code,
                f"{error}, in Authorization (Bearer, or as the password of Basic) or as the rest"
                " of the path",
            ) from None


class TwilioSignature:
    """Twilio's signature of the URL.

    Args:
        auth_token: of the account.
        public_url: what Twilio connects to; "": this server.
    """

    is_signature = True

    def __init__(self, auth_token: str, public_url: str) -> None:
        self._auth_token = auth_token
        self._public_url = public_url

    def check(self, handshake: Handshake) -> str:
        """Return "": the signature says which account it is, and there is one."""
        signature = handshake.headers.get(TWILIO_SIGNATURE)
        if signature is None:
            raise _unauthorized(f"no {TWILIO_SIGNATURE}")
        urls = _urls(handshake, self._public_url, ("wss", "ws"))
        settings = handshake.headers.get(TWILIO_SIGNATURE_SETTINGS, "")
        if not is_signed_by_twilio(self._auth_token, urls, signature, settings):
            raise _unauthorized(f"a wrong {TWILIO_SIGNATURE}")
        return ""


class PlivoSignature:
    """Plivo's signature of the URL and a number.

    Args:
        auth_token: of the account.
        public_url: what Plivo connects to; "": this server.
    """

    is_signature = True

    def __init__(self, auth_token: str, public_url: str) -> None:
        self._auth_token = auth_token
        self._public_url = public_url
        self._seen = SeenNumbers()

    def check(self, handshake: Handshake) -> str:
        """Return "", as for Twilio."""
        headers = handshake.headers
        signatures = [headers[name] for name in PLIVO_SIGNATURES if name in headers]
        nonce = headers.get(PLIVO_NONCE, "")
        if not signatures or not 0 < len(nonce) <= _MAX_NONCE_LENGTH:
            raise _unauthorized(f"no {PLIVO_SIGNATURES[0]} with its nonce")
        # Plivo's own software checks it over the https URL, its documentation over "the full URI".
        urls = _urls(handshake, self._public_url, ("wss", "https", "ws", "http"))
        if not is_signed_by_plivo(self._auth_token, urls, nonce, signatures):
            raise _unauthorized(f"a wrong {PLIVO_SIGNATURES[0]}")
        if not self._seen.is_new(nonce):
            raise _unauthorized(f"a {PLIVO_NONCE} for the second time")
        return ""


class VonageToken:
    """Vonage's signed token.

    Args:
        secret: the account's signature secret.
        now_s: seconds since 1970.
    """

    is_signature = True

    def __init__(self, secret: str, now_s: Callable[[], float] = time.time) -> None:
        self._secret = secret
        self._now_s = now_s
        self._seen = SeenNumbers()

    def check(self, handshake: Handshake) -> str:
        """Return "", as for Twilio."""
        token = handshake.header_token
        if token is None:
            raise _unauthorized("no signed token in Authorization")
        claims = verified_claims(token, self._secret, self._now_s())
        if claims is None:
            raise _unauthorized("a token in Authorization that is not signed, or not of now")
        number = claims.get("jti")
        if isinstance(number, str) and not self._seen.is_new(number[:_MAX_NONCE_LENGTH]):
            raise _unauthorized("a signed token for the second time")
        return ""


def _urls(handshake: Handshake, public_url: str, schemes: tuple[str, ...]) -> list[str]:
    return signed_urls(public_url, handshake.headers.get("host", ""), handshake.target, schemes)


def _unauthorized(got: str) -> ProtocolError:
    return ProtocolError(
        ErrorCode.UNAUTHORIZED,
        f"got {got}, expected the platform's; check its secret and public_url in the settings"
        " of telephony",
    )
