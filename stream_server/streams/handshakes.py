"""What a WebSocket costs beside its stream: descriptors, handshakes that do not come, pings.

**File descriptors** are kept for calls, and for their files. Each connection, file and library
takes one, and where there are none left everything fails: a call cannot be recorded, a module
cannot be imported. POSIX gives a new descriptor the lowest free number (open(2)), so the number of
a new connection's socket says how many are in use at least::

    0 ──────── HTTP, calls ────────┬──── calls ────┬── files ──┐
                            for_http        for_calls        limit
"""

from __future__ import annotations

import asyncio
import resource
from collections.abc import Callable
from typing import Any

from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.protocol import Event

from stream_server.streams.socket import MessageConnection, MessageRate
from stream_server.wire.errors import ErrorCode, ProtocolError

_MOST = 65_536
"""Enough for everything; some systems allow a thousand million, and programs that go through all of
them take minutes."""
BACKLOG = 64
"""Connections that may wait to be accepted at a port. The event loop accepts all of them before
anything here can refuse one, so what is reserved has to be more than that."""
_FOR_FILES = 2 * BACKLOG
_FOR_CALLS = 2 * BACKLOG


def raise_limit() -> int:
    """Raise this process's limit as far as it may; return it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MOST if hard == resource.RLIM_INFINITY else min(hard, _MOST)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        except (OSError, ValueError):
            # macOS names no limit and allows fewer.
            return soft
        return wanted
    return _MOST if soft == resource.RLIM_INFINITY else soft


class Descriptors:
    """Whether a new connection leaves enough descriptors for what goes before it."""

    def __init__(self, limit: int) -> None:
        for_files = min(_FOR_FILES, limit // 3)
        self.for_calls = limit - for_files
        self.for_http = self.for_calls - min(_FOR_CALLS, limit // 4)

    def over_for_http(self, descriptor: int) -> int:
        """Return how many of those kept for calls are taken once a page or feed has this socket."""
        return max(descriptor - self.for_http + 1, 0)

    def over_for_calls(self, descriptor: int) -> int:
        """Return how many of those kept for files are taken once a call has this socket."""
        return max(descriptor - self.for_calls + 1, 0)


MAX_HANDSHAKES = 256
"""Connections at a time that have not sent their handshake. It takes honest clients milliseconds,
so the oldest give way."""
PINGS_PER_S = 20.0
"""Ping and pong frames (RFC 6455, section 5.5.2) a second of one connection; a burst of ten
seconds' worth is taken. Clients send one in some seconds."""

_CONTROL = (Opcode.PING, Opcode.PONG)


class Handshakes:
    """Connections whose handshake has not come yet.

    Args:
        on_refused: called with an error for each that gives way.
    """

    def __init__(
        self, descriptors: Descriptors, on_refused: Callable[[ProtocolError], None]
    ) -> None:
        self._descriptors = descriptors
        self._on_refused = on_refused
        self._waiting: dict[GuardedConnection, None] = {}  # oldest first

    def __len__(self) -> int:
        return len(self._waiting)

    def make(self, *args: Any, **options: Any) -> GuardedConnection:
        """Return a connection; for ``create_connection`` of ``websockets``."""
        return GuardedConnection(self, *args, **options)

    def opened(self, connection: GuardedConnection) -> None:
        self._waiting[connection] = None
        descriptor = int(connection.transport.get_extra_info("socket").fileno())
        num_over = max(
            self._descriptors.over_for_calls(descriptor), len(self._waiting) - MAX_HANDSHAKES
        )
        # The new one itself, if there is no other.
        for oldest in list(self._waiting)[:num_over]:
            self.done(oldest)
            self._on_refused(
                ProtocolError(ErrorCode.NOT_STARTED, "got no handshake, and others wait")
            )
            oldest.transport.abort()

    def done(self, connection: GuardedConnection) -> None:
        """Forget a connection: its handshake has come, or it is closed."""
        self._waiting.pop(connection, None)


class GuardedConnection(MessageConnection):
    """A connection whose handshake is watched, and whose pings are counted.

    Attributes:
        on_flood: called with the error once there are too many pings; None: it is closed.
    """

    def __init__(self, handshakes: Handshakes, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.on_flood: Callable[[ProtocolError], None] | None = None
        self._handshakes = handshakes
        self._pings = MessageRate(PINGS_PER_S, self.loop.time(), what="pings")

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._handshakes.opened(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._handshakes.done(self)
        super().connection_lost(exc)

    def process_event(self, event: Event) -> None:
        if isinstance(event, Request):
            self._handshakes.done(self)
        elif isinstance(event, Frame) and event.opcode in _CONTROL:
            try:
                self._pings.take(1, self.loop.time())
            except ProtocolError as error:
                # One that does not stop is not told again.
                on_flood, self.on_flood = self.on_flood, None
                if on_flood is None:
                    self.transport.abort()
                else:
                    self._pings = MessageRate(PINGS_PER_S, self.loop.time(), what="pings")
                    on_flood(error)
        super().process_event(event)
