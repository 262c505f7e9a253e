"""Between the processes of one server, and between machines: messages, and what carries them.

A message is a list of frames: the first one is the envelope, encoded by whoever sends it, the
others are arrays as they lie in memory. The one who connects is a *peer* of the one who binds::

    Peer ──▶ connect ──▶ send / receive ──▶ PeerLostError: make another Peer
                              │  ▲
    Host ◀── bind ─────▶ receive / send, by the peer's name

A lost connection is final: nothing that was sent before is delivered after it, so what a process
counts as lost cannot arrive later. Engines and the bus use this interface only; ZeroMQ
(:mod:`.zeromq`) is one implementation.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

Frame = bytes | memoryview


class PeerLostError(Exception):
    """The other side is gone. What it has not answered will not be answered."""


class Peer(Protocol):
    """A connection to a host; one reader and one writer. Belongs to one event loop."""

    async def connect(self) -> None:
        """Return once the other side is there, however long that takes. Once only."""

    async def send(self, frames: Sequence[Frame]) -> None:
        """Send a message; waits while too many are on their way.

        Raises:
            PeerLostError: the connection is lost.
        """

    async def receive(self) -> list[bytes]:
        """Return the next message, in the order they were sent.

        Raises:
            PeerLostError: the connection is lost, and all that came before has been returned.
        """
        ...

    def close(self) -> None:
        """End the connection; what waits to be sent is given up."""


class Host(Protocol):
    """Where peers connect to. Belongs to one event loop."""

    async def receive(self) -> tuple[bytes, list[bytes]]:
        """Return the next message and the name of the peer that sent it, new at each connection."""
        ...

    async def send(self, peer: bytes, frames: Sequence[Frame]) -> None:
        """Send a message. One to a peer that is gone, or that does not read, is dropped."""

    def close(self) -> None:
        """End all connections."""
