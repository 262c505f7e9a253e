"""What the gateway needs of a protocol: messages in, requests out; results in, messages out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

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

__all__ = ["AudioData", "Dialect", "HoldsAudio", "Inbound", "LostSpan", "Say"]


@dataclass(frozen=True, slots=True)
class LostSpan:
    """Audio of one channel that never came, while that of others did.

    Attributes:
        channel: its index.
        start_tick: first sample that is missing, counted from the start of the
            :class:`AudioData` it belongs to.
        end_tick: end, not included.
    """

    channel: int
    start_tick: int
    end_tick: int


@dataclass(frozen=True, slots=True)
class AudioData:
    """Audio of a stream.

    Attributes:
        data: interleaved samples in the stream's format; may end within a sample.
        lost: where a channel has nothing, whatever ``data`` holds there; only with data of whole
            ticks, in order, not overlapping on a channel.
    """

    data: bytes
    lost: tuple[LostSpan, ...] = ()


@dataclass(frozen=True, slots=True)
class Say:
    """What the protocol itself answers, at once: nobody else is asked.

    Attributes:
        messages: WebSocket messages, in order.
    """

    messages: tuple[str | bytes, ...]


Inbound = (
    StreamSpec | AudioData | KeepAlive | Flush | Pause | Resume | Discarded | Mark | Stop | Say
)
"""What a client asks for. A :class:`StreamSpec` begins the stream and comes once; before it only
:class:`Say` may come, and :class:`Stop` from a client that goes without a stream."""


class Dialect(Protocol):
    """One connection's protocol, without I/O.

    Attributes:
        can_resume: a client that is lost may come back and go on, so its stream is kept a while.
        client_closes: the client closes the WebSocket when it has been told the last there is; the
            server does so only if that takes too long.
        begins_with: what has to come first, as messages call it.
    """

    can_resume: bool
    client_closes: bool
    begins_with: str

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


@runtime_checkable
class HoldsAudio(Protocol):
    """A dialect that holds audio back until what belongs before or beside it has come."""

    def release(self) -> list[Inbound]:
        """Return what is held, as nothing more will come; nothing the second time."""
        ...
