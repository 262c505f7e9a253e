"""The access token of a platform that signs nothing: in a header, or in the path of its URL."""

from __future__ import annotations

from stream_server.access import Access
from stream_server.ingest.handshake import Handshake

__all__ = ["authorize_platform"]


def authorize_platform(access: Access, handshake: Handshake) -> str:
    """Return the name of the token a platform connects with; "" where none is needed.

    Raises:
        ProtocolError: UNAUTHORIZED.
    """
    is_local = access.is_local(handshake.peer, handshake.headers.get("host"))
    return access.authorize(handshake.header_token or handshake.path_token, is_local) or ""
