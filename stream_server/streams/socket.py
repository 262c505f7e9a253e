"""A client's WebSocket as its dialect sees it: bounded messages in, messages out, an orderly end.

A reader waits for one of two things, the next message or the end of the connection. Both come
through one queue that a task of the socket's own fills, so the reader's wait is never cancelled.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable

import structlog
from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed

from stream_server.config import LimitsConfig
from stream_server.wire.dialect import Dialect, Inbound, Say
from stream_server.wire.errors import ErrorCode, ProtocolError
from stream_server.wire.messages import ServerMessage, error_message

_log = structlog.get_logger(__name__)

GOODBYE_S = 5.0
"""Longest wait for a client to read its last error, or to close by itself."""

# Messages of this time may come at once: telephone platforms send what they kept back.
_BURST_S = 10.0
# Messages between two checks of their rate: every client sends some fifty a second.
_COUNTED_TOGETHER = 16


class MessageRate:
    """A token bucket. Time is an argument.

    Args:
        per_s: messages a second on average.
        now_s: the time.
        what: is counted, in the plural.
    """

    def __init__(self, per_s: float, now_s: float, what: str = "messages") -> None:
        self._what = what
        self._per_s = per_s
        self._left = per_s * _BURST_S
        self._then_s = now_s

    def take(self, count: int, now_s: float) -> None:
        """Count messages.

        Raises:
            ProtocolError: they are too many.
        """
        refilled = self._left + (now_s - self._then_s) * self._per_s
        self._left = min(refilled, self._per_s * _BURST_S)
        self._then_s = now_s
        if self._left < count:
            raise ProtocolError(
                ErrorCode.TOO_MANY_MESSAGES,
                f"got more than {self._per_s:g} {self._what} a second, expected fewer",
            )
        self._left -= count


class ClientSocket:
    """An open WebSocket and its dialect; receives between ``async with`` and its end.

    Args:
        websocket: the connection.
        dialect: its protocol.
        limits: what the client may do.
        route: first part of the path the client came in at, for the log.

    Attributes:
        dialect: the same.
        end: why the connection is to end; None if the client decides.
    """

    def __init__(
        self,
        websocket: ServerConnection,
        dialect: Dialect,
        limits: LimitsConfig,
        route: str = "/",
    ) -> None:
        now_s = asyncio.get_running_loop().time()
        self.dialect = dialect
        self.end: ProtocolError | None = None
        self._websocket = websocket
        self._limits = limits
        self._route = route
        self._has_logged_bad = False
        self._rate = MessageRate(limits.max_messages_per_s, now_s)
        self._num_messages = 0
        self._last_active = (0, now_s)  # number of messages, when it was last seen to grow
        # A message, the loss of the connection, or None: look at ``end``. One entry only, so that a
        # reader that is busy holds the client back by TCP, and not by this server's memory.
        # Measured: 9 us of CPU a message, where asyncio.wait() with a task a message takes 35.
        self._inbox: asyncio.Queue[str | bytes | ConnectionClosed | None] = asyncio.Queue(maxsize=1)
        self._receiver: asyncio.Task[None] | None = None
        self._is_waiting = False

    async def __aenter__(self) -> ClientSocket:
        self._receiver = asyncio.create_task(self._receive_all(), name="receiver")
        return self

    async def __aexit__(self, *exception: object) -> None:
        assert self._receiver is not None
        self._receiver.cancel()
        await asyncio.wait([self._receiver])

    @property
    def close_code(self) -> int | None:
        """The close code of the WebSocket; None while it is open."""
        return self._websocket.close_code

    async def receive(self) -> list[Inbound]:
        """Return the requests of the client's next message.

        Raises:
            ProtocolError: the message is refused, or :meth:`request_end` was called.
            ConnectionClosed: the client is gone.
        """
        return self.dialect.receive(await self._next_message())

    async def send(self, message: ServerMessage) -> None:
        """Send a message in the client's dialect. Raises as :meth:`send_texts`."""
        await self.send_texts(self.dialect.send(message))

    async def send_error(self, error: ProtocolError) -> None:
        """Send an error, or log it where the dialect has no message for it.

        Raises as :meth:`send_texts`.
        """
        texts = self.dialect.send(error_message(error))
        if not texts:
            self._log_unsent(error)
        await self.send_texts(texts)

    async def send_texts(self, texts: Iterable[str | bytes]) -> None:
        """Send WebSocket messages.

        Raises:
            ProtocolError: the client does not read: SLOW_CONSUMER.
            ConnectionClosed: the client is gone.
        """
        for text in texts:
            try:
                async with asyncio.timeout(self._limits.idle_timeout_s):
                    await self._websocket.send(text)
            except TimeoutError:
                raise ProtocolError(
                    ErrorCode.SLOW_CONSUMER,
                    f"results were not read for {self._limits.idle_timeout_s:g} s",
                ) from None

    async def close(self, code: int, reason: str = "") -> None:
        """Close the WebSocket, or let the client do it where its protocol says so."""
        if self.dialect.client_closes:
            with contextlib.suppress(TimeoutError, ProtocolError):
                async with asyncio.timeout(GOODBYE_S):
                    while True:
                        # ``end`` is no reason to stop: the client is about to close.
                        message = await self._take()
                        requests = [] if message is None else self.dialect.receive(message)
                        for request in requests:
                            if isinstance(request, Say):
                                await self.send_texts(request.messages)
        await self._websocket.close(code, reason)

    def request_end(self, error: ProtocolError) -> None:
        """Let :meth:`receive` raise ``error``, after the message that is being handled."""
        if self.end is not None:
            return
        self.end = error
        # With a message in the inbox no reader waits, and the next one looks at ``end``.
        if self._inbox.empty():
            self._inbox.put_nowait(None)

    def check_idle(self) -> None:
        """Request the end if nothing came for ``idle_timeout_s``. To be called now and then."""
        now_s = asyncio.get_running_loop().time()
        num_messages, since_s = self._last_active
        # While the reader is busy, the client may be held back; that is not its silence.
        if self._num_messages > num_messages or not self._is_waiting:
            self._last_active = (self._num_messages, now_s)
            return
        silent_s = now_s - since_s
        if silent_s > self._limits.idle_timeout_s:
            self.request_end(
                ProtocolError(
                    ErrorCode.IDLE,
                    f"got no message for {silent_s:.0f} s, expected one within"
                    f" {self._limits.idle_timeout_s:g} s",
                )
            )

    def _log_unsent(self, error: ProtocolError) -> None:
        if error.code is ErrorCode.SHUTTING_DOWN:
            return
        if not error.ends_stream:
            if self._has_logged_bad:
                return  # Too many of them end the connection, and that is logged.
            self._has_logged_bad = True
        event = "connection_ended" if error.ends_stream else "message_ignored"
        _log.warning(event, route=self._route, code=error.code.value, reason=str(error))

    async def _receive_all(self) -> None:
        try:
            while True:
                await self._inbox.put(await self._websocket.recv())
        except ConnectionClosed as error:
            await self._inbox.put(error)

    async def _take(self) -> str | bytes | None:
        self._is_waiting = True
        try:
            message = await self._inbox.get()
        finally:
            self._is_waiting = False
        if isinstance(message, ConnectionClosed):
            # Nothing follows it: every later reader must find it again.
            self._inbox.put_nowait(message)
            raise message
        return message

    async def _next_message(self) -> str | bytes:
        message = None
        while message is None:
            if self.end is not None:
                raise self.end
            message = await self._take()
        self._num_messages += 1
        if self._num_messages % _COUNTED_TOGETHER == 0:
            self._rate.take(_COUNTED_TOGETHER, asyncio.get_running_loop().time())
        if len(message) > self._limits.max_message_bytes:
            raise ProtocolError(
                ErrorCode.MESSAGE_TOO_BIG,
                f"got a message of {len(message)} bytes, expected at most"
                f" {self._limits.max_message_bytes}",
            )
        return message
