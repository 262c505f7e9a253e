"""The way in of this project's own clients: ``/``."""

from __future__ import annotations

from collections.abc import Callable

from stream_server.access import Access
from stream_server.ingest.entrances.entrance import Admission, Refusal, plain_refusal
from stream_server.ingest.handshake import Handshake
from stream_server.protocol.encoding import ResultEncoder
from stream_server.protocol.errors import ProtocolError
from stream_server.protocol.native import NativeDialect

__all__ = ["NativeEntrance"]


class NativeEntrance:
    """See :class:`~stream_server.ingest.entrances.entrance.Entrance`.

    Args:
        access: who may connect.
        check_capacity: takes a token's name; raises ProtocolError where there is no room for a
            stream of it.
    """

    subprotocols: tuple[str, ...] = ()

    def __init__(self, access: Access, check_capacity: Callable[[str], None]) -> None:
        self._access = access
        self._check_capacity = check_capacity
        self._encoder = ResultEncoder()

    def admit(self, handshake: Handshake) -> Admission:
        """Let a client in; without a query it may prove later who it is, with ``start``."""
        dialect = NativeDialect(handshake.query, encoder=self._encoder)
        header = handshake.header_token
        other = handshake.cookie_token

        def authorize(first: str) -> str:
            token = header or first or other
            return self._access.authorize_client(token, handshake.peer, handshake.host) or ""

        if dialect.start is not None:
            self._check_capacity(authorize(""))
        elif header is not None:
            authorize("")
        is_known = dialect.start is not None or header is not None
        return Admission(dialect, authorize, is_known=is_known)

    def refuse(self, error: ProtocolError) -> Refusal:
        """Return the error message as JSON."""
        return plain_refusal(error)
