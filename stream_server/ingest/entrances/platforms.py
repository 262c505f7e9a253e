"""The ways in of telephone platforms that stream calls to a WebSocket and want nothing back."""

from __future__ import annotations

import math
from collections.abc import Callable

from stream_server.access import Access
from stream_server.ingest.entrances.entrance import Admission, Entrance, Refusal
from stream_server.ingest.entrances.proofs import (
    PlivoSignature,
    Proof,
    Token,
    TwilioSignature,
    VonageToken,
)
from stream_server.ingest.handshake import Handshake
from stream_server.protocol.dialect import Dialect
from stream_server.protocol.errors import ErrorCode, ProtocolError, shown
from stream_server.protocol.exotel import EXOTEL
from stream_server.protocol.media_platform import BOTH_TRACKS, INBOUND, OUTBOUND, MediaPlatform
from stream_server.protocol.media_stream import MediaStreamDialect
from stream_server.protocol.plivo import PLIVO
from stream_server.protocol.telnyx import TELNYX
from stream_server.protocol.twilio import TWILIO
from stream_server.protocol.vonage import VonageDialect
from stream_server.telephony_config import TelephonyConfig

__all__ = ["PlatformEntrance", "make_platform_entrances"]

_TRACKS = {"inbound": (INBOUND,), "outbound": (OUTBOUND,), "both": BOTH_TRACKS}


class PlatformEntrance:
    """See :class:`~stream_server.ingest.entrances.entrance.Entrance`.

    Args:
        make_dialect: returns what the client speaks.
        proof: how it proves who it is.
        check_capacity: takes a token's name; raises ProtocolError where there is no room for a
            stream of it.
        subprotocols: it may ask for.
    """

    def __init__(
        self,
        make_dialect: Callable[[Handshake], Dialect],
        proof: Proof,
        check_capacity: Callable[[str], None],
        subprotocols: tuple[str, ...] = (),
    ) -> None:
        self.subprotocols = subprotocols
        self._make_dialect = make_dialect
        self._proof = proof
        self._check_capacity = check_capacity

    def admit(self, handshake: Handshake) -> Admission:
        """Let a client in that proves who it is, if there is room for its call."""
        name = self._proof.check(handshake)
        self._check_capacity(name)
        return Admission(self._make_dialect(handshake), lambda _: name, is_known=True)

    def refuse(self, error: ProtocolError) -> Refusal:
        """Return the error as text: platforms show it to their users, if anything."""
        status = error.kind.http_status
        headers = {"Content-Type": "text/plain; charset=utf-8"}
        if error.retry_after_s is not None:
            headers["Retry-After"] = str(math.ceil(error.retry_after_s))
        if error.code is ErrorCode.UNAUTHORIZED:
            if self._proof.is_signature:
                status = 403
            else:
                headers["WWW-Authenticate"] = "Basic"
        return Refusal(status, f"{error}\n", headers)


def make_platform_entrances(
    config: TelephonyConfig, access: Access, check_capacity: Callable[[str], None]
) -> dict[str, Entrance]:
    """Return the entrances of Twilio and its kin, by the first part of their paths."""
    token = Token(access)
    url = config.public_url
    twilio = plivo = vonage = None
    if config.twilio_auth_token:
        twilio = TwilioSignature(config.twilio_auth_token, url)
    if config.plivo_auth_token:
        plivo = PlivoSignature(config.plivo_auth_token, url)
    if config.vonage_signature_secret:
        vonage = VonageToken(config.vonage_signature_secret)

    def media_stream(platform: MediaPlatform) -> Callable[[Handshake], Dialect]:
        def make(handshake: Handshake) -> Dialect:
            return MediaStreamDialect(
                platform,
                roles=config.roles,
                max_jitter_ms=config.max_jitter_ms,
                tracks=_tracks(handshake),
            )

        return make

    def entrance(
        make_dialect: Callable[[Handshake], Dialect],
        proof: Proof | None = None,
        *subprotocols: str,
    ) -> PlatformEntrance:
        return PlatformEntrance(make_dialect, proof or token, check_capacity, subprotocols)

    return {
        "/twilio": entrance(media_stream(TWILIO), twilio, "audio.twilio.com"),
        "/telnyx": entrance(media_stream(TELNYX)),
        "/plivo": entrance(media_stream(PLIVO), plivo),
        "/exotel": entrance(media_stream(EXOTEL)),
        "/vonage": entrance(lambda _: VonageDialect(roles=config.roles), vonage),
    }


def _tracks(handshake: Handshake) -> tuple[str, ...] | None:
    """Return the tracks that ``?tracks=`` of the URL says; None without it.

    Other parameters are the platform's or its user's, and none of this server's business.
    """
    named = dict(handshake.query_pairs).get("tracks")
    if named is None:
        return None
    if named not in _TRACKS:
        raise ProtocolError(
            ErrorCode.BAD_START,
            f"got tracks={shown(named)} in the query, expected {', '.join(_TRACKS)}",
        )
    return _TRACKS[named]
