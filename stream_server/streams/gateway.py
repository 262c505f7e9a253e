"""The WebSocket server: which handshakes it accepts, and how connections end with it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from typing import NamedTuple
from weakref import WeakKeyDictionary

import structlog
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.frames import CloseCode
from websockets.http11 import Request, Response
from websockets.typing import Subprotocol

from stream_server.access import Access, Arrival, Session
from stream_server.access.tls import HANDSHAKE_S, Tls
from stream_server.config import ServerConfig
from stream_server.platforms.route import Admission, Handshake, NativeRoute, Refusal, Route
from stream_server.streams.connection import Connection
from stream_server.streams.handshakes import BACKLOG, Descriptors, GuardedConnection, Handshakes
from stream_server.streams.registry import StreamRegistry
from stream_server.wire.errors import ErrorCode, ProtocolError, shown

_log = structlog.get_logger(__name__)

# Connections that may be open without a stream. As many more are reserved for authenticated
# clients, so that strangers cannot take all places.
_MAX_UNSTARTED = 256
# Strangers from one address, so that they cannot keep out those from others.
_MAX_UNSTARTED_PER_ADDRESS = 64
# A message this many times too long closes the connection unread, without an error message.
_HARD_LIMIT = 4
_PING_INTERVAL_S = 20.0
UNKNOWN_ROUTE = "unknown"
"""Where a client came in that asked for no known path: paths are strangers' texts."""


class _Admitted(NamedTuple):
    """A handshake that was let through, until its connection is handled."""

    handshake: Handshake
    address: str
    admission: Admission
    session: Session | None


class Gateway:
    """Accepts connections and hands each to a :class:`Connection`.

    Args:
        on_refused: called with route and error of every refused connection.
        routes: beside the native one, by the first part of their paths.
        descriptors: of the process; None: there are always enough.
        tls: of the port; None: it has none.
        shares_port: other processes listen on the port, too; the system shares connections out.
    """

    def __init__(
        self,
        *,
        registry: StreamRegistry,
        access: Access,
        config: ServerConfig,
        is_ready: Callable[[], bool],
        on_refused: Callable[[str, ProtocolError], None],
        routes: Mapping[str, Route] | None = None,
        descriptors: Descriptors | None = None,
        tls: Tls | None = None,
        shares_port: bool = False,
    ) -> None:
        self._tls = tls
        self._shares_port = shares_port
        self._registry = registry
        self._access = access
        self._config = config
        self._is_ready = is_ready
        self._on_refused = on_refused
        self._handshakes = Handshakes(
            descriptors or Descriptors(1 << 30), lambda error: on_refused(UNKNOWN_ROUTE, error)
        )
        self._server: Server | None = None
        self._connections: dict[ServerConnection, Connection] = {}
        # Weak: a client may disconnect between the halves of its handshake, which is not reported.
        self._admitted: WeakKeyDictionary[ServerConnection, _Admitted] = WeakKeyDictionary()
        self._native = NativeRoute(access, registry.check_capacity)
        self._routes: dict[str, Route] = {"/": self._native, **(routes or {})}
        self._subprotocols = {
            name for route in self._routes.values() for name in route.subprotocols
        }
        self._draining = False

    @property
    def roots(self) -> frozenset[str]:
        """The first parts of the paths that clients connect to."""
        return frozenset(self._routes)

    @property
    def port(self) -> int:
        assert self._server is not None
        port: int = next(iter(self._server.sockets)).getsockname()[1]
        return port

    async def start(self) -> None:
        """Listen. Raises OSError: the address cannot be had."""
        limits = self._config.limits
        self._server = await serve(
            self._handle,
            self._config.listen.host,
            self._config.listen.port,
            # websockets declares a class here and calls it.
            create_connection=self._handshakes.make,  # type: ignore[arg-type]
            ssl=None if self._tls is None else self._tls.context,
            ssl_handshake_timeout=None if self._tls is None else HANDSHAKE_S,
            open_timeout=limits.start_timeout_s,
            backlog=BACKLOG,
            reuse_port=self._shares_port or None,
            process_request=self._admit,
            process_response=self._greet,
            select_subprotocol=self._select_subprotocol,
            max_size=limits.max_message_bytes * _HARD_LIMIT,
            # permessage-deflate (RFC 7692) hardly shrinks speech, and costs more than all the rest.
            compression=None,
            ping_interval=_PING_INTERVAL_S,
            # No pong is required: a client that sends audio and does not read is alive, and one
            # that sends nothing runs into the idle timeout.
            ping_timeout=None,
            server_header=None,
        )

    async def aclose(self) -> None:
        self._draining = True
        if self._server is None:
            return
        self._server.close(close_connections=False)
        await asyncio.gather(*(each.end(_goodbye()) for each in list(self._connections.values())))
        await self._registry.aclose()
        await self._server.wait_closed()

    async def end_outdated(self) -> None:
        """End the connections of those whose token has ended, or who logged out."""
        error = ProtocolError(ErrorCode.UNAUTHORIZED, "the token or login is no longer valid")
        outdated = [
            each
            for each in self._connections.values()
            if each.who is not None and not self._access.is_current(each.who, each.session)
        ]
        await asyncio.gather(*(each.end(error) for each in outdated))

    async def _admit(self, connection: ServerConnection, request: Request) -> Response | None:
        route: Route = self._native
        root = UNKNOWN_ROUTE
        try:
            handshake = Handshake.of(request, _peer(connection), is_secure=self._tls is not None)
            self._access.check_vouched(request.headers.get_all)
            route = self._route(handshake)
            root = handshake.root
            self._check(handshake)
            admission = route.admit(handshake)
            arrival = handshake.arrival(self._access)
            self._check_room(admission, arrival)
            session = self._access.session(handshake.session or "")
            self._admitted[connection] = _Admitted(handshake, arrival.address, admission, session)
        except ProtocolError as error:
            self._on_refused(root, error)
            if error.code is ErrorCode.UNAUTHORIZED:
                # The same delay however the check failed, so that time does not tell how.
                await asyncio.sleep(self._config.access.refusal_delay_ms / 1000)
            return _response(connection, route.refuse(error))
        return None

    def _greet(self, connection: ServerConnection, request: Request, response: Response) -> None:
        """Add the route's headers to the response that opens the WebSocket."""
        admitted = self._admitted.get(connection)
        if admitted is None:
            return
        response.headers.update(admitted.admission.headers)
        if response.status_code != HTTPStatus.SWITCHING_PROTOCOLS:
            # A browser that was pointed at this port, or a probe: websockets refuses it by itself.
            error = ProtocolError(ErrorCode.BAD_START, "got a request that opens no WebSocket")
            self._on_refused(admitted.handshake.root, error)

    def _route(self, handshake: Handshake) -> Route:
        route = self._routes.get(handshake.root)
        if route is None or (handshake.root == "/" and handshake.path != "/"):
            paths = "', '".join(sorted(self._routes))
            raise ProtocolError(
                ErrorCode.UNKNOWN_PATH,
                # Only the first part: what follows may be a token.
                f"got the path {shown(handshake.root)}, expected one of '{paths}'",
            )
        return route

    def _check(self, handshake: Handshake) -> None:
        headers = handshake.headers
        self._access.check_origin(headers.get("origin"), headers.get("host"))
        if self._draining:
            raise _goodbye()
        if not self._is_ready():
            raise ProtocolError(ErrorCode.NOT_READY, "the model is being loaded", retry_after_s=2.0)

    def _check_room(self, admission: Admission, arrival: Arrival) -> None:
        """Refuse a connection if too many have not begun a stream."""
        strangers = [each for each in self._connections.values() if each.who is None]
        from_there = sum(each.address == arrival.address for each in strangers)
        is_stranger = not (admission.is_known or arrival.is_local)
        if is_stranger and from_there >= _MAX_UNSTARTED_PER_ADDRESS:
            raise ProtocolError(
                ErrorCode.SERVER_FULL,
                f"{from_there} connections from this address wait without a stream (the limit)",
                retry_after_s=self._config.limits.start_timeout_s,
            )
        room = _MAX_UNSTARTED * (2 if admission.is_known else 1)
        if len(self._connections) >= len(self._registry) + room:
            raise ProtocolError(
                ErrorCode.SERVER_FULL,
                f"{room} connections wait without a stream (the limit)",
                retry_after_s=self._config.limits.start_timeout_s,
            )

    async def _handle(self, websocket: ServerConnection) -> None:
        if self._draining:
            # Admitted just before aclose(), which therefore did not end it.
            await websocket.close(CloseCode.GOING_AWAY, ErrorCode.SHUTTING_DOWN.value)
            return
        assert isinstance(websocket, GuardedConnection), "it was made by self._handshakes"
        handshake, address, admission, session = self._admitted.pop(websocket)
        connection = Connection(
            websocket=websocket,
            admission=admission,
            registry=self._registry,
            limits=self._config.limits,
            heartbeat_s=self._config.streams.heartbeat_ms / 1000,
            on_refused=self._on_refused,
            refusal_delay_s=self._config.access.refusal_delay_ms / 1000,
            route=handshake.root,
            path_team=handshake.team,
            address=address,
            session=session,
        )
        self._connections[websocket] = connection
        try:
            await connection.run()
        finally:
            del self._connections[websocket]

    def _select_subprotocol(
        self, connection: ServerConnection, offered: Sequence[Subprotocol]
    ) -> Subprotocol | None:
        """Return the first known one that a client offers, or None (RFC 6455, section 4.2.2)."""
        return next((name for name in offered if name in self._subprotocols), None)


def _goodbye() -> ProtocolError:
    return ProtocolError(ErrorCode.SHUTTING_DOWN, "the server is being stopped")


def _peer(connection: ServerConnection) -> str:
    try:
        return str((connection.remote_address or ("",))[0])
    except OSError:
        return ""  # It has disconnected.


def _response(connection: ServerConnection, refusal: Refusal) -> Response:
    response = connection.respond(HTTPStatus(refusal.status), refusal.body)
    for name, value in refusal.headers.items():
        # Assigning to a header of ``websockets`` adds a second one.
        response.headers.pop(name, None)
        response.headers[name] = value
    return response
