"""All ways in beside the native one.

The ways in of telephone platforms that stream calls to a WebSocket and want nothing back.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from stream_server.access import Access
from stream_server.config import ServerConfig, TelephonyConfig
from stream_server.platforms.asterisk.route import AsteriskEntrance
from stream_server.platforms.audiohook.route import AudioHookEntrance
from stream_server.platforms.authenticators import (
    PlivoSignature,
    Proof,
    Token,
    TwilioSignature,
    VonageToken,
)
from stream_server.platforms.deepgram.route import DeepgramEntrance
from stream_server.platforms.exotel.dialect import EXOTEL
from stream_server.platforms.freeswitch.route import FreeSwitchEntrance
from stream_server.platforms.media_stream import (
    BOTH_TRACKS,
    INBOUND,
    OUTBOUND,
    MediaPlatform,
    MediaStreamDialect,
)
from stream_server.platforms.plivo.dialect import PLIVO
from stream_server.platforms.route import Admission, Entrance, Handshake, Refusal
from stream_server.platforms.telnyx.dialect import TELNYX
from stream_server.platforms.twilio.dialect import TWILIO
from stream_server.platforms.vonage.dialect import VonageDialect
from stream_server.wire.dialect import Dialect
from stream_server.wire.errors import ErrorCode, ProtocolError, shown

_TRACKS = {"inbound": (INBOUND,), "outbound": (OUTBOUND,), "both": BOTH_TRACKS}


class PlatformEntrance:
    """See :class:`~stream_server.platforms.route.Entrance`.

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


def make_entrances(
    config: ServerConfig, access: Access, check_capacity: Callable[[str], None]
) -> dict[str, Entrance]:
    """Return the ways in of other people's clients, by the first part of their paths.

    Args:
        config: the server's settings.
        access: who may connect.
        check_capacity: takes a token's name, "" for nobody in particular; raises ProtocolError
            where there is no room for another stream.
    """
    roles = config.telephony.roles
    return {
        **make_platform_entrances(config.telephony, access, check_capacity),
        "/audiohook": AudioHookEntrance(config.telephony, access),
        "/asterisk": AsteriskEntrance(roles[0], access, check_capacity),
        "/freeswitch": FreeSwitchEntrance(roles, access, check_capacity),
        "/v1": DeepgramEntrance(access, check_capacity, roles),
    }
