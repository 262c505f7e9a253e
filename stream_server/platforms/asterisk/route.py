"""The way in of Asterisk's WebSocket channel driver: ``/asterisk``."""

from __future__ import annotations

from collections.abc import Callable

from stream_server.access import Access
from stream_server.platforms.asterisk.dialect import SUBPROTOCOL, ChanWebSocketDialect
from stream_server.platforms.authenticators import Token
from stream_server.platforms.route import Admission, Handshake, Refusal, plain_refusal
from stream_server.wire.errors import ProtocolError


class AsteriskEntrance:
    """See :class:`~stream_server.platforms.route.Entrance`.

    Args:
        role: of a channel whose URL names none.
        access: who may connect.
        check_capacity: takes a token's name; raises ProtocolError where there is no room for a
            stream of it.
    """

    subprotocols: tuple[str, ...] = (SUBPROTOCOL,)

    def __init__(self, role: str, access: Access, check_capacity: Callable[[str], None]) -> None:
        self._role = role
        self._token = Token(access)
        self._check_capacity = check_capacity

    def admit(self, handshake: Handshake) -> Admission:
        """Let a channel in: a refused handshake is what Asterisk tells its operator of."""
        token_name = self._token.check(handshake)
        dialect = ChanWebSocketDialect(self._role, handshake.query)
        self._check_capacity(token_name)
        return Admission(dialect, lambda _: token_name, is_known=True)

    def refuse(self, error: ProtocolError) -> Refusal:
        """Return the error message as JSON."""
        return plain_refusal(error)
