"""The way in of FreeSWITCH's mod_audio_stream and mod_audio_fork: ``/freeswitch``."""

from __future__ import annotations

from collections.abc import Callable

from stream_server.access import Access
from stream_server.platforms.authenticators import Token
from stream_server.platforms.freeswitch.dialect import SUBPROTOCOLS, FreeSwitchDialect
from stream_server.platforms.route import Admission, Handshake, Refusal, plain_refusal
from stream_server.wire.errors import ProtocolError
from stream_server.wire.feed_messages import ResultEncoder


class FreeSwitchEntrance:
    """See :class:`~stream_server.platforms.route.Entrance`.

    Args:
        roles: of caller and callee.
        access: who may connect.
        check_capacity: takes a token's name; raises ProtocolError where there is no room for a
            stream of it.
    """

    subprotocols: tuple[str, ...] = SUBPROTOCOLS

    def __init__(
        self, roles: tuple[str, str], access: Access, check_capacity: Callable[[str], None]
    ) -> None:
        self._roles = roles
        self._token = Token(access)
        self._check_capacity = check_capacity
        self._encoder = ResultEncoder()

    def admit(self, handshake: Handshake) -> Admission:
        """Let a call in: a refused handshake is what FreeSWITCH tells its operator of."""
        token_name = self._token.check(handshake)
        offered = handshake.headers.get("sec-websocket-protocol", "")
        dialect = FreeSwitchDialect(
            self._roles,
            handshake.query,
            encoder=self._encoder,
            wrapped=any(name.strip() in SUBPROTOCOLS for name in offered.split(",")),
        )
        self._check_capacity(token_name)
        return Admission(dialect, lambda _: token_name, is_known=True)

    def refuse(self, error: ProtocolError) -> Refusal:
        """Return the error message as JSON."""
        return plain_refusal(error)
