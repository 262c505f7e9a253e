"""The WebSocket server that audio comes in at: who may connect, and how it all ends."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from http import HTTPStatus
from urllib.parse import parse_qsl, urlsplit

import structlog
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.frames import CloseCode
from websockets.http11 import Request, Response

from stream_server.access import Access, bearer_token, cookie_token, is_loopback
from stream_server.config import ServerConfig
from stream_server.ingest.connection import Connection
from stream_server.live.registry import StreamRegistry
from stream_server.protocol.encoding import ResultEncoder, encode_message
from stream_server.protocol.errors import ErrorCode, ProtocolError, shown
from stream_server.protocol.native import NativeDialect
from stream_server.protocol.server_messages import error_message

__all__ = ["Gateway"]

_log = structlog.get_logger(__name__)

_MAX_UNSTARTED = 256
"""Connections that may be open beside the streams: those that have not begun one yet."""
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
    """

    def __init__(
        self,
        registry: StreamRegistry,
        access: Access,
        config: ServerConfig,
        *,
        is_ready: Callable[[], bool],
        on_refused: Callable[[ErrorCode], None],
    ) -> None:
        self._registry = registry
        self._access = access
        self._config = config
        self._is_ready = is_ready
        self._on_refused = on_refused
        self._server: Server | None = None
        self._connections: dict[ServerConnection, Connection] = {}
        self._encoder = ResultEncoder()
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

    def _admit(self, connection: ServerConnection, request: Request) -> Response | None:
        """Refuse a handshake, or let it through."""
        try:
            self._check(connection, request)
        except ProtocolError as error:
            self._on_refused(error.code)
            return _refusal(connection, error)
        return None

    def _check(self, connection: ServerConnection, request: Request) -> None:
        path, query = _target(request)
        if path != "/":
            raise ProtocolError(ErrorCode.UNKNOWN_PATH, f"got the path '{path[:60]}', expected '/'")
        headers = request.headers
        self._access.check_origin(headers.get("Origin"), headers.get("Host"))
        if self._draining:
            raise _goodbye()
        if not self._is_ready():
            raise ProtocolError(ErrorCode.NOT_READY, "the model is being loaded", retry_after_s=2.0)
        if len(self._connections) >= len(self._registry) + _MAX_UNSTARTED:
            raise ProtocolError(
                ErrorCode.SERVER_FULL,
                f"{_MAX_UNSTARTED} connections have not begun a stream",
                retry_after_s=self._config.limits.start_timeout_s,
            )
        token = bearer_token(headers.get("Authorization"))
        if query:
            NativeDialect(query)
            cookie = cookie_token(headers.get("Cookie"))
            self._registry.check_capacity(self._authorize(connection, token or cookie, ""))
        elif token is not None:
            self._authorize(connection, token, "")

    def _authorize(self, connection: ServerConnection, header: str | None, first: str) -> str:
        """Return the name of the token that a header or the first message carries, if any."""
        try:
            host = (connection.remote_address or ("",))[0]
        except OSError:
            host = ""  # It has hung up.
        return self._access.authorize(header or first or None, is_loopback(host)) or ""

    async def _handle(self, websocket: ServerConnection) -> None:
        if self._draining:
            # Admitted just before, so it was not among those that were told.
            await websocket.close(CloseCode.GOING_AWAY, ErrorCode.SHUTTING_DOWN.value)
            return
        request = websocket.request
        assert request is not None
        _, query = _target(request)
        header = bearer_token(request.headers.get("Authorization"))
        cookie = cookie_token(request.headers.get("Cookie"))
        connection = Connection(
            websocket,
            NativeDialect(query, encoder=self._encoder),
            self._registry,
            self._config.limits,
            self._config.streams.heartbeat_ms / 1000,
            lambda first: self._authorize(websocket, header, first or cookie or ""),
            self._on_refused,
        )
        self._connections[websocket] = connection
        try:
            await connection.run()
        finally:
            del self._connections[websocket]


def _goodbye() -> ProtocolError:
    return ProtocolError(ErrorCode.SHUTTING_DOWN, "the server is being stopped")


def _target(request: Request) -> tuple[str, dict[str, str]]:
    """Return path and query.

    Raises:
        ProtocolError: it is no target of a request, or says something twice.
    """
    try:
        parts = urlsplit(request.path)
    except ValueError:
        raise ProtocolError(
            ErrorCode.UNKNOWN_PATH, "got a target that is no path, expected '/'"
        ) from None
    pairs = parse_qsl(parts.query, keep_blank_values=True)
    query = dict(pairs)
    if len(query) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ProtocolError(
            ErrorCode.BAD_START, f"got {shown(twice)} more than once in the query, expected it once"
        )
    return parts.path, query


def _refusal(connection: ServerConnection, error: ProtocolError) -> Response:
    body = encode_message(error_message(error))
    response = connection.respond(HTTPStatus(error.kind.http_status), body + "\n")
    del response.headers["Content-Type"]
    response.headers["Content-Type"] = "application/json"
    if error.retry_after_s is not None:
        response.headers["Retry-After"] = str(math.ceil(error.retry_after_s))
    if error.code is ErrorCode.UNAUTHORIZED:
        response.headers["WWW-Authenticate"] = "Bearer"
    return response
