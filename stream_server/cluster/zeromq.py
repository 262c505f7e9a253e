"""Messages over ZeroMQ: ``zmq://HOST:PORT`` between machines, ``zmq:///PATH`` on this one.

ZeroMQ reconnects by itself and then delivers what was queued before. Here a connection that is lost
is lost (:mod:`stream_server.cluster`): a peer watches its socket's monitor and closes the socket at
the first disconnect. A process that is killed is noticed at once by its closed socket; a machine
that is cut off, by ZeroMQ's heartbeats.

There is no encryption and no check of who connects: a path belongs into a folder of this user's
alone, a port on a network where only these processes are.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import zmq
import zmq.asyncio
from zmq.utils.monitor import recv_monitor_message

from ser_engine.errors import ConfigError
from stream_server.cluster import Frame, PeerLostError

SCHEME = "zmq"

# Messages that wait for one connection.
_HIGH_WATER_MARK = 4096
_HEARTBEAT_MS = 2000
_HEARTBEAT_TIMEOUT_MS = 6000
_RECONNECT_MS = 50
_MOST_RECONNECT_MS = 1000
# sockaddr_un has room for this many bytes on Linux (unix(7)), 104 on macOS.
_LONGEST_PATH_BYTES = 103


def endpoint_of(url: str) -> str:
    """Return ZeroMQ's name for an address. Raises ConfigError: it is neither."""
    scheme, _, rest = url.partition("://")
    host, _, port = rest.rpartition(":")
    if scheme == SCHEME and rest.startswith("/") and len(rest.encode()) <= _LONGEST_PATH_BYTES:
        return f"ipc://{rest}"
    if scheme == SCHEME and host and "/" not in rest and port.isdecimal() and int(port) < 1 << 16:
        return f"tcp://{rest}"
    raise ConfigError(
        f"got the address {url!r}, expected zmq://HOST:PORT, or zmq:///PATH with a path of at most"
        f" {_LONGEST_PATH_BYTES} bytes"
    )


class ZmqPeer:
    """A :class:`~stream_server.cluster.Peer`.

    Raises:
        ConfigError: the address is none.
    """

    def __init__(self, url: str) -> None:
        self._endpoint = endpoint_of(url)
        self._context = zmq.asyncio.Context()
        self._socket = _bounded(self._context.socket(zmq.DEALER))
        # A message is taken only while somebody is there to get it.
        self._socket.immediate = True
        self._socket.reconnect_ivl = _RECONNECT_MS
        self._socket.reconnect_ivl_max = _MOST_RECONNECT_MS
        self._monitor = self._socket.get_monitor_socket(
            zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_DISCONNECTED
        )
        self._watching: asyncio.Task[None] | None = None
        # What waits for the socket: told at once when the connection is lost.
        self._waiting: set[asyncio.Future[object]] = set()
        self._is_lost = False

    async def connect(self) -> None:
        self._socket.connect(self._endpoint)
        event = 0
        while event != zmq.EVENT_HANDSHAKE_SUCCEEDED:
            event = (await recv_monitor_message(self._monitor))["event"]
        self._watching = asyncio.create_task(self._watch(), name="zmq-monitor")

    async def send(self, frames: Sequence[Frame]) -> None:
        if self._is_lost:
            raise PeerLostError(self._endpoint)
        await self._until_lost(self._socket.send_multipart(frames))
        if self._is_lost:
            raise PeerLostError(self._endpoint)

    async def receive(self) -> list[bytes]:
        if self._is_lost:
            # What came before the end is still in the socket.
            try:
                return await self._socket.recv_multipart(zmq.NOBLOCK)
            except zmq.ZMQError:
                raise PeerLostError(self._endpoint) from None
        message = await self._until_lost(self._socket.recv_multipart())
        return message if message is not None else await self.receive()

    def close(self) -> None:
        if self._watching is not None:
            self._watching.cancel()
        self._lose()
        self._socket.disable_monitor()
        self._context.destroy(linger=0)

    async def _watch(self) -> None:
        await recv_monitor_message(self._monitor)
        self._lose()

    def _lose(self) -> None:
        self._is_lost = True
        for future in self._waiting:
            if not future.done():
                future.set_result(None)

    async def _until_lost(self, future: object) -> list[bytes] | None:
        """Return what the socket gives; None: the connection was lost first."""
        assert isinstance(future, asyncio.Future)
        if future.done():
            result: list[bytes] | None = future.result()
            return result
        self._waiting.add(future)
        try:
            result = await future
        finally:
            self._waiting.discard(future)
        return result


class ZmqHost:
    """A :class:`~stream_server.cluster.Host`.

    The folder of a path is made, for this user alone.

    Raises:
        ConfigError: the address is none.
        OSError: it cannot be had.
    """

    def __init__(self, url: str) -> None:
        endpoint = endpoint_of(url)
        if endpoint.startswith("ipc://"):
            Path(endpoint.removeprefix("ipc://")).parent.mkdir(0o700, parents=True, exist_ok=True)
        self._context = zmq.asyncio.Context()
        self._socket = _bounded(self._context.socket(zmq.ROUTER))
        try:
            self._socket.bind(endpoint)
        except zmq.ZMQError as error:
            self.close()
            raise OSError(error.errno, f"got the address {url}: {error.strerror}") from None

    @property
    def port(self) -> int:
        endpoint = self._socket.getsockopt(zmq.LAST_ENDPOINT)
        assert isinstance(endpoint, bytes), "ZeroMQ returns texts as bytes"
        return int(endpoint.rpartition(b":")[2])

    async def receive(self) -> tuple[bytes, list[bytes]]:
        peer, *frames = await self._socket.recv_multipart()
        return peer, frames

    async def send(self, peer: bytes, frames: Sequence[Frame]) -> None:
        await self._socket.send_multipart([peer, *frames])

    def close(self) -> None:
        self._context.destroy(linger=0)


def _bounded(socket: zmq.asyncio.Socket) -> zmq.asyncio.Socket:
    socket.linger = 0
    socket.set_hwm(_HIGH_WATER_MARK)
    socket.setsockopt(zmq.HEARTBEAT_IVL, _HEARTBEAT_MS)
    socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, _HEARTBEAT_TIMEOUT_MS)
    return socket
