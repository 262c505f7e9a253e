"""Connections of the HTTP port: how many there may be, and when a silent one has to go.

A connection costs a descriptor, whether or not anything is asked for over it::

    opened ──▶ waits for a request ──▶ request, with its body ──▶ answered ──▶ kept for the next
               HEAD_TIMEOUT_S          at least MIN_BODY_RATE      KEEPALIVE_S

The whole head of a request has to come within one of these times, however it trickles. A body may
take long, but not stand still. What is answered for long (feeds, WebSockets) looks after itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

import structlog
from aiohttp import web

from stream_server.access.tls import HANDSHAKE_S, Tls
from stream_server.streams.handshakes import BACKLOG, Descriptors

_log = structlog.get_logger(__name__)

HEAD_TIMEOUT_S = 10.0
"""From a connection's begin, or the first byte of its next request, to the end of the head."""
KEEPALIVE_S = 75.0
"""How long a connection is kept for the next request; longer than proxies keep theirs idle."""
BODY_TIMEOUT_S = 30.0
"""Longest time without a byte of a request's body; after as long its rate counts, too."""
MIN_BODY_RATE = 1000
"""Bytes of a body a second, on average."""
_SWEEP_INTERVAL_S = 1.0
_TIMED_OUT = b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"


@dataclass(slots=True, eq=False)
class _State:
    since_s: float | None  # waits since then for the head of a request; None: no byte of it came
    idle_s: float  # when it was opened, or its last request was answered
    heard_s: float  # when the last byte came
    num_bytes: int = 0  # that came since the head was complete
    request: web.BaseRequest | None = None  # being answered
    begun_s: float = 0.0  # when that was complete


class HttpConnections:
    """Knows every connection of the port.

    Where there is no room for another one, the one that has been idle longest gives way, if there
    is one; connections with a request never do.

    ``on_refused`` is called with a reason for each that is closed for the sake of others.
    """

    def __init__(
        self,
        max_connections: int,
        descriptors: Descriptors,
        on_refused: Callable[[str], None],
        now_s: Callable[[], float] | None = None,
    ) -> None:
        self._max_connections = max_connections
        self._descriptors = descriptors
        self._on_refused = on_refused
        self._now_s = now_s or (lambda: asyncio.get_running_loop().time())
        self._states: dict[_Connection, _State] = {}

    def __len__(self) -> int:
        """Return how many connections are open."""
        return len(self._states)

    def make(self, server: web.Server) -> _Connection:
        """Return the protocol of a new connection of a server."""
        return _Connection(server, self)

    async def run(self) -> None:
        """Close what has been silent for too long, for ever."""
        while True:
            await asyncio.sleep(_SWEEP_INTERVAL_S)
            self.sweep()

    def sweep(self) -> None:
        """Close what has been silent for too long."""
        now_s = self._now_s()
        for connection, state in list(self._states.items()):
            if state.request is not None:
                if self._is_stuck(connection, state, now_s):
                    self._on_refused("timeout")
                    connection.abort()
            elif state.since_s is not None and now_s - state.since_s > HEAD_TIMEOUT_S:
                self._on_refused("timeout")
                connection.time_out()

    @staticmethod
    def _is_stuck(connection: _Connection, state: _State, now_s: float) -> bool:
        """Whether a request's body does not come although it could."""
        assert state.request is not None
        # While reading is paused the server is the slow one.
        if state.request.content.is_eof() or not connection.is_reading():
            return False
        took_s = now_s - state.begun_s
        is_slow = took_s > BODY_TIMEOUT_S and state.num_bytes < took_s * MIN_BODY_RATE
        return is_slow or now_s - state.heard_s > BODY_TIMEOUT_S

    # What connections and requests tell

    def opened(self, connection: _Connection) -> None:
        """Take a connection in, or close it."""
        now_s = self._now_s()
        num_over = max(
            len(self._states) + 1 - self._max_connections,
            self._descriptors.over_for_http(connection.descriptor),
        )
        if num_over > 0:
            idle = [one for one, state in self._states.items() if state.request is None]
            idle.sort(key=lambda one: self._states[one].idle_s)
            for one in idle[:num_over]:
                self._give_way(one)
            if not idle:
                self._give_way(connection)
                return
        self._states[connection] = _State(since_s=now_s, idle_s=now_s, heard_s=now_s)

    def _give_way(self, connection: _Connection) -> None:
        # Its socket is closed in the loop's next turn; until then it must not be counted.
        self._states.pop(connection, None)
        self._on_refused("too_many_connections")
        connection.abort()

    def closed(self, connection: _Connection) -> None:
        """Forget a connection."""
        self._states.pop(connection, None)

    def heard(self, connection: _Connection, num_bytes: int) -> None:
        """Note that bytes came."""
        state = self._states.get(connection)
        if state is None:
            return
        state.heard_s = self._now_s()
        state.num_bytes += num_bytes
        if state.request is None and state.since_s is None:
            state.since_s = state.heard_s

    def begin(self, request: web.BaseRequest) -> None:
        """Note that the head of a request is complete."""
        state = self._states.get(request.protocol)  # type: ignore[call-overload]
        if state is not None:
            state.request, state.begun_s, state.num_bytes = request, self._now_s(), 0

    def end(self, request: web.BaseRequest) -> None:
        """Note that a request is answered."""
        state = self._states.get(request.protocol)  # type: ignore[call-overload]
        if state is not None:
            state.request, state.since_s, state.idle_s = None, None, self._now_s()


class _Connection(web.RequestHandler):
    """aiohttp's connection, which tells what happens on it."""

    __slots__ = ("_connections",)

    def __init__(self, server: web.Server, connections: HttpConnections) -> None:
        super().__init__(
            server,
            loop=asyncio.get_running_loop(),
            # aiohttp takes None for no log, and does not declare it.
            access_log=None,  # type: ignore[arg-type]
            keepalive_timeout=KEEPALIVE_S,
        )
        self._connections = connections

    @property
    def descriptor(self) -> int:
        """Number of its socket."""
        assert self.transport is not None
        return int(self.transport.get_extra_info("socket").fileno())

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._connections.opened(self)

    def data_received(self, data: bytes) -> None:
        self._connections.heard(self, len(data))
        super().data_received(data)

    def connection_lost(self, exc: BaseException | None) -> None:
        self._connections.closed(self)
        super().connection_lost(exc)

    def is_reading(self) -> bool:
        """Whether bytes are taken from the client."""
        return self.transport is not None and self.transport.is_reading()

    def time_out(self) -> None:
        """Say that the request took too long (RFC 9110, section 15.5.9), and close."""
        if self.transport is not None:
            self.transport.write(_TIMED_OUT)
            self.transport.close()

    def abort(self) -> None:
        """Close at once."""
        if self.transport is not None:
            self.transport.abort()


class BoundedSite(web.TCPSite):
    """A port whose connections are bounded."""

    __slots__ = ("_connections", "_tls", "_where")

    def __init__(
        self,
        runner: web.AppRunner,
        host: str,
        port: int,
        connections: HttpConnections,
        tls: Tls | None = None,
    ) -> None:
        super().__init__(runner, host, port, backlog=BACKLOG)
        self._connections = connections
        self._tls = tls
        self._where = host, port

    async def start(self) -> None:
        """Listen.

        Raises:
            OSError: the address cannot be had.
        """
        await web.BaseSite.start(self)
        server = self._runner.server
        assert server is not None
        host, port = self._where
        self._server = await asyncio.get_running_loop().create_server(
            lambda: self._connections.make(server),
            host,
            port,
            backlog=self._backlog,
            ssl=None if self._tls is None else self._tls.context,
            ssl_handshake_timeout=None if self._tls is None else HANDSHAKE_S,
        )
