"""What the gateway needs of a protocol: messages in, requests out; results in, messages out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from stream_server.protocol.client_messages import (
    Discarded,
    Flush,
    KeepAlive,
    Mark,
    Pause,
    Resume,
    Stop,
)
from stream_server.protocol.server_messages import ServerMessage
from stream_server.protocol.stream_spec import StreamSpec

__all__ = ["AudioData", "Dialect", "Inbound"]


@dataclass(frozen=True, slots=True)
class AudioData:
    """Audio of a stream.

    Attributes:
        data: interleaved samples in the stream's format; may end within a sample.
    """

    data: bytes


Inbound = StreamSpec | AudioData | KeepAlive | Flush | Pause | Resume | Discarded | Mark | Stop
"""What a client asks for. A :class:`StreamSpec` begins the stream and comes once, first."""


class Dialect(Protocol):
    """One connection's protocol, without I/O."""

    @property
    def start(self) -> StreamSpec | None:
        """What the stream is, as soon as that is known: perhaps before the first message."""
        ...

    def receive(self, message: str | bytes) -> list[Inbound]:
        """Take one WebSocket message.

        Raises:
            ProtocolError: the client has to be told of something. Where its code does not end the
                stream, the dialect is as it was before the message.
        """
        ...

    def send(self, message: ServerMessage) -> list[str | bytes]:
        """Return the WebSocket messages that say ``message``; none where there are no words."""
        ...
