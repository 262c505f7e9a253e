"""The TCP server that Asterisk's AudioSocket connects to.

AudioSocket has no authentication, so the settings list the addresses that may connect. Nothing but
a hangup frame is ever sent: :mod:`stream_server.platforms.asterisk.audiosocket` says why.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
from collections.abc import Callable

import structlog

from ser_engine.schema import CloseReason
from stream_server.config import ServerConfig
from stream_server.platforms.asterisk import AsteriskSettings, AudioSocketConfig
from stream_server.platforms.asterisk.audiosocket import (
    HANGUP,
    AudioSocketLeg,
    CallerAudio,
    Identified,
    KeyPressed,
    LegFailed,
    LegOver,
)
from stream_server.platforms.asterisk.call import AudioSocketCall
from stream_server.platforms.media_stream import DTMF_MARK
from stream_server.rtp.ports import is_within
from stream_server.streams.connection import reason_of
from stream_server.streams.listeners import ListenerContext
from stream_server.streams.socket import MessageRate
from stream_server.wire.errors import ErrorCode, ProtocolError

_log = structlog.get_logger(__name__)

_READ_BYTES = 65_536
"""Read at most at a time: four seconds at 8 kHz."""
_GOODBYE_S = 2.0
"""Longest wait for a client to close after a hangup frame. Asterisk does so at once; if the server
closed first, Asterisk would take it for an error and hang the caller up."""
_MAX_CONNECTIONS_MORE = 256
"""Connections that may be open beside those of running streams."""


class AudioSocketServer:
    """A :class:`~stream_server.streams.listeners.Listener` that pairs connections of one call."""

    name = "audiosocket"
    setting = "telephony.audiosocket.port"

    def __init__(self, context: ListenerContext) -> None:
        self._registry = context.registry
        self._config = config = context.config
        self._is_ready = context.is_ready
        self._on_refused = context.on_refused
        self._descriptors = context.descriptors
        audiosocket = config.telephony.of(AsteriskSettings).audiosocket
        self._wanted_port = audiosocket.port
        # The default port may be taken by a second server on this machine; that is no error of a
        # user who has no Asterisk.
        self.is_optional = audiosocket.port == AudioSocketConfig().port
        allow = audiosocket.allow
        self._networks = [ipaddress.ip_network(network, strict=False) for network in allow]
        self._server: asyncio.Server | None = None
        self._calls: dict[str, AudioSocketCall] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._unidentified: dict[_Connection, None] = {}  # no UUID has come; oldest first
        self._draining = False

    @property
    def port(self) -> int:
        if self._server is None:
            return self._wanted_port
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def start(self) -> None:
        """Listen. Raises OSError: the address cannot be had."""
        # It has neither TLS nor tokens: nobody beyond this machine even reaches it before the
        # settings name an address there.
        is_local = all(network.is_loopback for network in self._networks)
        self._server = await asyncio.start_server(
            self._accept,
            "localhost" if is_local else self._config.listen.host,
            self._wanted_port,
            # asyncio stops reading at twice this, so TCP holds a fast client back.
            limit=_READ_BYTES,
        )

    async def aclose(self) -> None:
        self._draining = True
        if self._server is None:
            return
        self._server.close()
        goodbye = ProtocolError(ErrorCode.SHUTTING_DOWN, "the server is being stopped")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(3 * self._config.limits.drain_timeout_s):
                await asyncio.gather(*(call.end(goodbye) for call in list(self._calls.values())))
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=2 * _GOODBYE_S)
            for task in late:
                task.cancel()
            if late:
                await asyncio.wait(late)
        await self._server.wait_closed()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # Refused without a task, so that refusals cost little.
        connection = _Connection(reader, writer, self._config, self._refused, self._join)
        try:
            self._admit(writer)
        except ProtocolError as error:
            connection.refuse(error)
            return
        task = asyncio.get_running_loop().create_task(connection.run(), name="audiosocket")
        self._tasks.add(task)
        self._unidentified[connection] = None

        def forget(task: asyncio.Task[None]) -> None:
            self._tasks.discard(task)
            self._unidentified.pop(connection, None)

        task.add_done_callback(forget)

    def _admit(self, writer: asyncio.StreamWriter) -> None:
        peer = writer.get_extra_info("peername") or ("",)  # None: it has hung up
        if not is_within(str(peer[0]), self._networks):
            raise ProtocolError(
                ErrorCode.UNAUTHORIZED,
                "the address may not connect; add it to the setting telephony.audiosocket.allow",
            )
        if self._draining:
            raise ProtocolError(ErrorCode.SHUTTING_DOWN, "the server is being stopped")
        if not self._is_ready():
            raise ProtocolError(ErrorCode.NOT_READY, "the model is being loaded")
        # One channel each: two for every stream at most.
        num_over = len(self._tasks) - 2 * len(self._registry) - _MAX_CONNECTIONS_MORE + 1
        message = f"{_MAX_CONNECTIONS_MORE} connections have not begun a stream"
        socket = writer.get_extra_info("socket")
        over_descriptors = self._descriptors.over_for_calls(socket.fileno())
        if over_descriptors > num_over:
            num_over = over_descriptors
            message = "the server has no more descriptors for calls; raise its limit (ulimit -n)"
        # Asterisk sends the UUID at once: who has not for longest makes room for a call.
        for _ in range(num_over):
            error = ProtocolError(ErrorCode.SERVER_FULL, message)
            oldest = next(iter(self._unidentified), None)
            if oldest is None:
                raise error
            del self._unidentified[oldest]
            oldest.refuse(error)

    def _join(self, call_id: str, connection: _Connection) -> tuple[AudioSocketCall, int]:
        """Return the call a connection belongs to, and its channel there.

        Raises:
            ProtocolError: the call has all its connections, or there is no room for another.
        """
        self._unidentified.pop(connection, None)
        call = self._calls.get(call_id)
        if call is None:
            self._registry.check_capacity("")
            call = AudioSocketCall(call_id, self._registry, self._config, self._forget)
            self._calls[call_id] = call
        return call, call.join(connection)

    def _refused(self, error: ProtocolError) -> None:
        self._on_refused(self.name, error)

    def _forget(self, call: AudioSocketCall) -> None:
        if self._calls.get(call.call_id) is call:
            del self._calls[call.call_id]


def listen(context: ListenerContext) -> AudioSocketServer | None:
    """See :data:`~stream_server.streams.listeners.Listen`."""
    is_off = context.config.telephony.of(AsteriskSettings).audiosocket.port < 0
    return None if is_off else AudioSocketServer(context)


class _Connection:
    """One connection: one side of a call, from its UUID to its end."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        config: ServerConfig,
        on_refused: Callable[[ProtocolError], None],
        join: Callable[[str, _Connection], tuple[AudioSocketCall, int]],
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._limits = config.limits
        self._on_refused = on_refused
        self._join = join
        self._leg = AudioSocketLeg()
        self._loop = asyncio.get_running_loop()
        self._rate = MessageRate(self._limits.max_messages_per_s, self._loop.time())
        self._call: AudioSocketCall | None = None
        self._channel = 0
        self._has_audio = False
        self._error: ProtocolError | None = None
        self._is_over = False
        self._reason: CloseReason = "client_lost"
        self._abort: asyncio.TimerHandle | None = None
        self._due_s = self._loop.time() + self._limits.start_timeout_s  # the next frame

    async def run(self) -> None:
        try:
            await self._serve()
        except OSError:
            pass  # The connection is lost.
        except Exception:
            _log.exception("audiosocket_failed")
            self._reason = "internal"
        finally:
            if self._abort is not None:
                self._abort.cancel()
            self._writer.close()
            await self._leave()

    def refuse(self, error: ProtocolError) -> None:
        self._on_refused(error)
        self._writer.write(HANGUP)
        self._writer.close()

    def hang_up(self, error: ProtocolError) -> None:
        """Send a hangup frame, and abort if the client does not close; its data is dropped."""
        if self._error is not None:
            return
        self._error = error
        with contextlib.suppress(OSError):
            self._writer.write(HANGUP)
            self._writer.write_eof()
        self._abort = self._loop.call_later(_GOODBYE_S, self._writer.transport.abort)

    async def _serve(self) -> None:
        while not self._is_over and (data := await self._read()):
            if self._error is not None:
                continue  # Until the client closes, after the hangup frame.
            try:
                await self._receive(data)
            except ProtocolError as error:
                await self._fail(error)
        if self._error is None and not self._is_over and self._leg.is_whole:
            # Closing between two frames is how Asterisk ends a call.
            self._reason = "stopped"

    async def _read(self) -> bytes:
        """Return what has come; b"" at the end."""
        if self._abort is not None:
            return await self._reader.read(_READ_BYTES)
        try:
            async with asyncio.timeout_at(self._due_s):
                return await self._reader.read(_READ_BYTES)
        except TimeoutError:
            await self._fail(self._silence())
            return await self._reader.read(_READ_BYTES)

    def _silence(self) -> ProtocolError:
        limits = self._limits
        if self._call is None:
            return ProtocolError(
                ErrorCode.NOT_STARTED, f"got no UUID within {limits.start_timeout_s:g} s"
            )
        return ProtocolError(ErrorCode.IDLE, f"got no frame for {limits.idle_timeout_s:g} s")

    async def _receive(self, data: bytes) -> None:
        now_s = self._loop.time()
        num_frames = self._leg.num_frames
        events = self._leg.receive(data)
        # After parsing: how many frames a read holds is known only then.
        self._rate.take(self._leg.num_frames - num_frames, now_s)
        for event in events:
            match event:
                case Identified():
                    self._call, self._channel = self._join(event.call_id, self)
                case CallerAudio():
                    assert self._call is not None, "the leg is identified first"
                    await self._call.put(self._channel, event.rate_hz, event.data, now_s)
                    self._has_audio = True
                case KeyPressed(key=key):
                    assert self._call is not None, "the leg is identified first"
                    await self._call.mark(DTMF_MARK, key)
                case LegOver():
                    self._is_over = True
                    self._reason = event.reason
                case LegFailed():
                    raise event.error
        # Part of a frame is no sign of life: a client could trickle bytes for ever.
        if self._call is not None and self._leg.num_frames > num_frames:
            self._due_s = self._loop.time() + self._limits.idle_timeout_s

    async def _fail(self, error: ProtocolError) -> None:
        """End the connection for a reason of its own; the call continues without it."""
        self._reason = reason_of(error)
        if not self._has_audio:
            self._on_refused(error)
        else:
            _log.warning("audiosocket_ended", code=error.code.value, reason=str(error))
        self.hang_up(error)
        await self._leave()

    async def _leave(self) -> None:
        call, self._call = self._call, None
        if call is not None:
            await call.leave(self._channel, self._reason)
