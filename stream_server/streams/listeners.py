"""Ports of telephone platforms, for what does not come by WebSocket, e.g. RTP and AudioSocket.

What is said of a port that cannot be opened is here, too.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from typing import Protocol, TypeAlias

import structlog

from stream_server import platforms
from stream_server.access import Access
from stream_server.access.tls import Tls
from stream_server.config import ServerConfig
from stream_server.streams.handshakes import Descriptors
from stream_server.streams.registry import StreamRegistry
from stream_server.wire.errors import ProtocolError

_log = structlog.get_logger(__name__)


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


async def open_listener(listener: Listener, host: str) -> bool:
    """Let a listener listen; return whether it does: an optional one may not, and logs why.

    Args:
        host: that errors name.

    Raises:
        OSError: the port cannot be had.
    """
    try:
        with named_port(listener.setting, host, listener.port):
            await listener.start()
    except OSError as error:
        _log.warning(f"{listener.name}_not_listening", reason=str(error))
        if not listener.is_optional:
            raise
        return False
    _log.info(f"{listener.name}_listening", port=listener.port)
    return True


@contextlib.contextmanager
def named_port(setting: str, host: str, port: int, option: str | None = None) -> Iterator[None]:
    """Name the setting and the remedy in the error of a port that cannot be opened.

    Args:
        option: the command line's option for another port; None: the server can run without it.

    Raises:
        OSError: instead of the one caught.
    """
    try:
        yield
    except OSError as error:
        # asyncio's own text repeats the address; the resolver's numbers are not the system's.
        known = error.errno is not None and error.errno > 0
        reason = os.strerror(error.errno or 0) if known else error.strerror or str(error)
        if error.errno != errno.EADDRINUSE:
            remedy = "expected an address of this machine and a port this user may have"
        elif option is not None:
            remedy = f"stop the program that has it, or choose another one with {option}"
        else:
            remedy = (
                "stop the program that has it, choose another one, or set it to -1 to do without"
            )
        raise OSError(f"got {setting} {port} at {host}: {reason.lower()}; {remedy}") from error
