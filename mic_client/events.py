"""What a client says itself, among the messages of the server."""

from __future__ import annotations

from stream_server.protocol.message_base import Message
from stream_server.protocol.server_messages import ServerMessage

__all__ = ["ClientEvent", "ConnectionLost"]


class ConnectionLost(Message, tag="connection_lost", frozen=True, kw_only=True):
    """The connection is gone, or could not be had; it is tried again. ``ready`` follows then.

    Attributes:
        reason: why, for people.
        attempt: how many tries have failed in a row, this one included.
        retry_in_s: when the next one is made, s.
    """

    reason: str
    attempt: int
    retry_in_s: float


ClientEvent = ServerMessage | ConnectionLost
"""What iterating over a client yields."""
