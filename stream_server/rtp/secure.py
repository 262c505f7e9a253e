"""SRTP (RFC 3711) whose keys are in the session description (SDES, RFC 4568); by libsrtp."""

from __future__ import annotations

import base64
import binascii
import re
import secrets
from dataclasses import dataclass, field
from functools import cache
from importlib.util import find_spec

from stream_server.wire.errors import ErrorCode, ProtocolError

SUITES = {
    "AES_CM_128_HMAC_SHA1_80": "SRTP_PROFILE_AES128_CM_SHA1_80",
    "AES_CM_128_HMAC_SHA1_32": "SRTP_PROFILE_AES128_CM_SHA1_32",
}
"""Suites (RFC 4568, section 6.2), and what libsrtp calls them."""
_KEY_BYTES = 30
_MAX_PACKET_BYTES = 1500 - 148
"""The library's buffer, less what it may add; no packet of a call is longer."""
_KEY = re.compile(r"inline:([A-Za-z0-9+/]{40})(\|[0-9^]+)?")


@dataclass(frozen=True, slots=True)
class Crypto:
    """One ``a=crypto``; ``key`` is master key and salt."""

    tag: int
    suite: str
    key: bytes = field(repr=False)

    @property
    def text(self) -> str:
        """As in a session description, without ``a=crypto:``."""
        return f"{self.tag} {self.suite} inline:{base64.b64encode(self.key).decode()}"


def parse_crypto(value: str) -> Crypto | None:
    """Parse ``1 AES_CM_128_HMAC_SHA1_80 inline:KEY|2^20``; None: it cannot be used here."""
    parts = value.split()
    # A fourth part are session parameters, all of which one must know (section 6.3); a second key
    # or a key's name (MKI) would be in the packets.
    if len(parts) != 3 or parts[1] not in SUITES:
        return None
    key = _KEY.fullmatch(parts[2])
    if key is None or not (parts[0].isascii() and parts[0].isdigit() and len(parts[0]) <= 9):
        return None
    try:
        return Crypto(int(parts[0]), parts[1], base64.b64decode(key[1], validate=True))
    except binascii.Error:
        return None


def own_crypto(offered: Crypto) -> Crypto:
    """Return what answers a line: its tag and suite, and a key for what this side sends."""
    return Crypto(offered.tag, offered.suite, secrets.token_bytes(_KEY_BYTES))


@cache
def can_secure() -> bool:
    return find_spec("pylibsrtp") is not None


class Srtp:
    """The keys of one media line."""

    def __init__(self, theirs: Crypto, own: Crypto) -> None:
        # Optional: a server without encrypted calls needs no library for them.
        from pylibsrtp import Error, Policy, Session

        def session(crypto: Crypto, ssrc_type: int) -> Session:
            profile = getattr(Policy, SUITES[crypto.suite])
            return Session(Policy(key=crypto.key, ssrc_type=ssrc_type, srtp_profile=profile))

        try:
            self._inbound = session(theirs, Policy.SSRC_ANY_INBOUND)
            self._outbound = session(own, Policy.SSRC_ANY_OUTBOUND)
        except (Error, ValueError) as error:
            text = f"got a=crypto that libsrtp does not take: {error}"
            raise ProtocolError(ErrorCode.BAD_FORMAT, text) from error
        self._error = Error
        self.theirs, self.own = theirs, own

    def unprotect(self, data: bytes) -> bytes | None:
        """Return a packet of RTP; None: it is not authentic, or came before."""
        return self._opened(data, is_control=False)

    def unprotect_control(self, data: bytes) -> bytes | None:
        """Return a packet of RTCP; None: it is not authentic, or came before."""
        return self._opened(data, is_control=True)

    def protect_control(self, data: bytes) -> bytes:
        """Return RTCP of this side, encrypted."""
        protected: bytes = self._outbound.protect_rtcp(data)
        return protected

    def _opened(self, data: bytes, *, is_control: bool) -> bytes | None:
        if len(data) > _MAX_PACKET_BYTES:
            return None
        session = self._inbound
        try:
            opened: bytes = session.unprotect_rtcp(data) if is_control else session.unprotect(data)
        except self._error:
            return None
        return opened
