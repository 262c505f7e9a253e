"""The WebSocket server that audio comes in at: who may connect, and how it all ends.

What a client says of itself before the WebSocket is open.

How many messages a connection may send.

What anybody can bring about is logged now and then only: a flood must not fill the disk.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from weakref import WeakKeyDictionary

import structlog
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.frames import CloseCode
from websockets.http11 import Request, Response
from websockets.typing import Subprotocol

from stream_server.access import Access
from stream_server.config import ServerConfig
from stream_server.platforms.route import Admission, Entrance, Handshake, NativeEntrance, Refusal
from stream_server.streams.connection import Connection
from stream_server.streams.registry import StreamRegistry
from stream_server.wire.errors import ErrorCode, ProtocolError, shown

_MAX_KINDS = 64
"""Kinds that are told apart; what more there are count as one."""


class SparseLog:
    """Says when a line of a kind may be written.

    Args:
        interval_s: least time between two lines of a kind.
        now_s: the time, from any origin.
    """

    def __init__(
        self, interval_s: float = 10.0, now_s: Callable[[], float] = time.monotonic
    ) -> None:
        self._interval_s = interval_s
        self._now_s = now_s
        self._kinds: dict[str, tuple[float, int]] = {}  # when the next may come, left out so far

    def take(self, kind: str) -> int | None:
        """Return how many lines were left out since the last one; None: leave this out, too.

        Args:
            kind: of the line.
        """
        if kind not in self._kinds and len(self._kinds) >= _MAX_KINDS:
            kind = ""
        now_s = self._now_s()
        due_s, left_out = self._kinds.get(kind, (now_s, 0))
        if now_s < due_s:
            self._kinds[kind] = due_s, left_out + 1
            return None
        self._kinds[kind] = now_s + self._interval_s, 0
        return left_out


_log = structlog.get_logger(__name__)

_MAX_UNSTARTED = 256
"""Connections that may be open beside the streams: those that have not begun one yet. As many more
may be where the client has proved who it is: nobody else takes their places."""
_HARD_LIMIT = 4
"""A message this many times too long is not even read to its end, and gets no error message."""
_PING_INTERVAL_S = 20.0


class Gateway:
    """Accepts connections and hands each to a :class:`Connection`.

    Args:
        registry: where streams are begun.
        access: who may connect.
        config: addresses and limits.
        is_ready: whether streams can be scored already.
        on_refused: told of the code of every connection that is refused.
        entrances: ways in beside the native one, by the first part of their paths.
    """

    def __init__(
        self,
        registry: StreamRegistry,
        access: Access,
        config: ServerConfig,
        *,
        is_ready: Callable[[], bool],
        on_refused: Callable[[ErrorCode], None],
        entrances: Mapping[str, Entrance] | None = None,
    ) -> None:
        self._registry = registry
        self._access = access
        self._config = config
        self._is_ready = is_ready
        self._on_refused = on_refused
        self._server: Server | None = None
        self._connections: dict[ServerConnection, Connection] = {}
        # A client may go between the two halves of the handshake, and nobody says so.
        self._admitted: WeakKeyDictionary[ServerConnection, tuple[str, Admission]] = (
            WeakKeyDictionary()
        )
        self._native = NativeEntrance(access, registry.check_capacity)
        self._entrances: dict[str, Entrance] = {"/": self._native, **(entrances or {})}
        self._subprotocols = {
            name for entrance in self._entrances.values() for name in entrance.subprotocols
        }
        self._draining = False

    @property
    def port(self) -> int:
        """The port that is listened on."""
        assert self._server is not None
        port: int = next(iter(self._server.sockets)).getsockname()[1]
        return port

    async def start(self) -> None:
        """Listen.

        Raises:
            OSError: the address cannot be had.
        """
        limits = self._config.limits
        self._server = await serve(
            self._handle,
            self._config.listen.host,
            self._config.listen.port,
            process_request=self._admit,
            process_response=self._greet,
            select_subprotocol=self._select_subprotocol,
            max_size=limits.max_message_bytes * _HARD_LIMIT,
            # Compressed speech is hardly smaller, and costs more than all the rest.
            compression=None,
            ping_interval=_PING_INTERVAL_S,
            # A client that sends audio and does not read at the moment is alive, and one that sends
            # nothing is found out by the idle timeout.
            ping_timeout=None,
            server_header=None,
        )

    async def aclose(self) -> None:
        """Stop accepting, send every stream its last results, and close."""
        self._draining = True
        if self._server is None:
            return
        self._server.close(close_connections=False)
        await asyncio.gather(*(each.end(_goodbye()) for each in list(self._connections.values())))
        await self._registry.aclose()
        await self._server.wait_closed()

    async def _admit(self, connection: ServerConnection, request: Request) -> Response | None:
        """Refuse a handshake, or let it through."""
        entrance: Entrance = self._native
        try:
            handshake = Handshake.of(request, _peer(connection))
            entrance = self._entrance(handshake)
            self._check(handshake)
            admission = entrance.admit(handshake)
            self._check_room(admission)
            self._admitted[connection] = handshake.root, admission
        except ProtocolError as error:
            self._on_refused(error.code)
            if error.code is ErrorCode.UNAUTHORIZED:
                # However the check failed, it takes the same time to be told.
                await asyncio.sleep(self._config.access.refusal_delay_ms / 1000)
            return _response(connection, entrance.refuse(error))
        return None

    def _greet(self, connection: ServerConnection, request: Request, response: Response) -> None:
        """Add what the entrance wants to say to the answer that opens the WebSocket."""
        admitted = self._admitted.get(connection)
        if admitted is not None:
            response.headers.update(admitted[1].headers)

    def _entrance(self, handshake: Handshake) -> Entrance:
        entrance = self._entrances.get(handshake.root)
        if entrance is None or (handshake.root == "/" and handshake.path != "/"):
            paths = "', '".join(sorted(self._entrances))
            raise ProtocolError(
                ErrorCode.UNKNOWN_PATH,
                # What follows may be a token meant for another path.
                f"got the path {shown(handshake.root)}, expected one of '{paths}'",
            )
        return entrance

    def _check(self, handshake: Handshake) -> None:
        headers = handshake.headers
        self._access.check_origin(headers.get("origin"), headers.get("host"))
        if self._draining:
            raise _goodbye()
        if not self._is_ready():
            raise ProtocolError(ErrorCode.NOT_READY, "the model is being loaded", retry_after_s=2.0)

    def _check_room(self, admission: Admission) -> None:
        """Refuse a connection where too many have not begun a stream."""
        room = _MAX_UNSTARTED * (2 if admission.is_known else 1)
        if len(self._connections) >= len(self._registry) + room:
            raise ProtocolError(
                ErrorCode.SERVER_FULL,
                f"{room} connections have not begun a stream",
                retry_after_s=self._config.limits.start_timeout_s,
            )

    async def _handle(self, websocket: ServerConnection) -> None:
        if self._draining:
            # Admitted just before, so it was not among those that were told.
            await websocket.close(CloseCode.GOING_AWAY, ErrorCode.SHUTTING_DOWN.value)
            return
        root, admission = self._admitted.pop(websocket)
        connection = Connection(
            websocket,
            admission.dialect,
            self._registry,
            self._config.limits,
            self._config.streams.heartbeat_ms / 1000,
            admission.authorize,
            self._on_refused,
            admission.close_frame,
            self._config.access.refusal_delay_ms / 1000,
            root,
        )
        self._connections[websocket] = connection
        try:
            await connection.run()
        finally:
            del self._connections[websocket]

    def _select_subprotocol(
        self, connection: ServerConnection, offered: Sequence[Subprotocol]
    ) -> Subprotocol | None:
        """Return the first that is known of those a client asks for; others go without one."""
        return next((name for name in offered if name in self._subprotocols), None)


def _goodbye() -> ProtocolError:
    return ProtocolError(ErrorCode.SHUTTING_DOWN, "the server is being stopped")


def _peer(connection: ServerConnection) -> str:
    try:
        return str((connection.remote_address or ("",))[0])
    except OSError:
        return ""  # It has hung up.


def _response(connection: ServerConnection, refusal: Refusal) -> Response:
    response = connection.respond(HTTPStatus(refusal.status), refusal.body)
    for name, value in refusal.headers.items():
        # Without this a header that is there already would come twice.
        response.headers.pop(name, None)
        response.headers[name] = value
    return response
