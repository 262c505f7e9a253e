"""Ports of telephone platforms, for what does not come by WebSocket, e.g. RTP and AudioSocket."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Protocol, TypeAlias

from stream_server import platforms
from stream_server.access import Access
from stream_server.access.tls import Tls
from stream_server.config import ServerConfig
from stream_server.streams.handshakes import Descriptors
from stream_server.streams.registry import StreamRegistry
from stream_server.wire.errors import ProtocolError


@dataclass(frozen=True, slots=True)
class ListenerContext:
    """What a listener needs of the server.

    Attributes:
        on_refused: called with the listener's name and the error of every refused connection.
        descriptors: of the process: what connections must leave.
        tls: of the port for audio; None: it has none.
    """

    registry: StreamRegistry
    access: Access
    config: ServerConfig
    is_ready: Callable[[], bool]
    on_refused: Callable[[str, ProtocolError], None]
    descriptors: Descriptors
    tls: Tls | None = None


class Listener(Protocol):
    """A port of a platform's own, for what does not come by WebSocket.

    Attributes:
        setting: the name of the setting that is its port.
        is_optional: whether the server goes on without it if the port cannot be had.
    """

    name: str
    setting: str
    is_optional: bool

    @property
    def port(self) -> int:
        """The port that is asked for; once it is listened on, that one."""
        ...

    async def start(self) -> None:
        """Listen; raise OSError if the address cannot be had."""
        ...

    async def aclose(self) -> None:
        """Stop accepting, end every call in order, and close; before or after a start, too."""
        ...


Listen: TypeAlias = Callable[[ListenerContext], Listener | None]
"""Makes the listener of a platform, as ``listen`` of its ``server.py``; None: it is turned off."""


def make_listeners(context: ListenerContext) -> list[Listener]:
    """Return the listeners of all platforms whose settings want one."""
    # By name, as the platforms themselves: a folder and a line add one. Its settings and dialect
    # are read by clients and commands, which have neither streams nor asyncio.
    listens: list[Listen] = [
        import_module(f"{platforms.__name__}.{name}.server").listen
        for name, platform in platforms.PLATFORMS.items()
        if platform.has_ports
    ]
    return [listener for listen in listens if (listener := listen(context)) is not None]
