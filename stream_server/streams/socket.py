"""One WebSocket and what is spoken on it: bounded messages in, messages out, an end in order."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable

import structlog
from websockets.asyncio.server import ServerConnection

from stream_server.config import LimitsConfig
from stream_server.wire.dialect import Dialect, Inbound, Say
from stream_server.wire.errors import ErrorCode, ProtocolError
from stream_server.wire.messages import ServerMessage, error_message

_BURST_S = 10.0
"""Messages of this time may come at once: telephone platforms send what they kept back."""


class MessageRate:
    """A token bucket. Time is an argument.

    Args:
        per_s: messages a second on average.
        now_s: the time.
    """

    def __init__(self, per_s: float, now_s: float) -> None:
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
                f"got more than {self._per_s:g} messages a second, expected fewer",
            )
        self._left -= count


_log = structlog.get_logger(__name__)

GOODBYE_S = 5.0
"""Longest wait for a client to take the error it is closed with, or to close by itself."""

_COUNTED_TOGETHER = 16
"""Messages after which their rate is looked at: there are fifty a second of every client."""


class Wire:
    """Belongs to the task that makes it: that one reads, and is interrupted when it is to end.

    Args:
        websocket: the connection.
        dialect: what it speaks.
        limits: what the client may do.
        entrance: first part of the path the client came in at, for the log.

    Attributes:
        dialect: the same.
        end: why the connection is to end; None: for no reason outside of it.
    """

    def __init__(
        self,
        websocket: ServerConnection,
        dialect: Dialect,
        limits: LimitsConfig,
        entrance: str = "/",
    ) -> None:
        now_s = asyncio.get_running_loop().time()
        self.dialect = dialect
        self.end: ProtocolError | None = None
        self._websocket = websocket
        self._limits = limits
        self._entrance = entrance
        self._has_logged_bad = False
        self._rate = MessageRate(limits.max_messages_per_s, now_s)
        self._num_messages = 0
        self._heard_of = (0, now_s)  # messages by then, when they last became more
        self._task = asyncio.current_task()
        self._is_receiving = False

    @property
    def close_code(self) -> int | None:
        """With what the WebSocket was closed; None: it is open."""
        return self._websocket.close_code

    async def receive(self) -> list[Inbound]:
        """Return what the client asks for with its next message.

        Raises:
            ProtocolError: the client has to be told of something, or :meth:`interrupt` was called.
            ConnectionClosed: the client is gone.
        """
        return self.dialect.receive(await self._next_message())

    async def send(self, message: ServerMessage) -> None:
        """Tell the client something, in its words. Raises as :meth:`say`."""
        await self.say(self.dialect.send(message))

    async def tell(self, error: ProtocolError) -> None:
        """Tell the client of an error, or the operator where the client has no ear for it.

        Raises as :meth:`say`.
        """
        texts = self.dialect.send(error_message(error))
        if not texts:
            self._log_untold(error)
        await self.say(texts)

    async def say(self, texts: Iterable[str | bytes]) -> None:
        """Send messages.

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
        """Close the WebSocket, or let the client do it where that is the custom."""
        if self.dialect.client_closes:
            with contextlib.suppress(TimeoutError, ProtocolError):
                async with asyncio.timeout(GOODBYE_S):
                    while True:
                        for request in self.dialect.receive(await self._websocket.recv()):
                            if isinstance(request, Say):
                                await self.say(request.messages)
        await self._websocket.close(code, reason)

    def interrupt(self, error: ProtocolError) -> None:
        """Let the reader end with ``error``, after the message it is at."""
        if self.end is None:
            self.end = error
            if self._is_receiving and self._task is not None:
                self._task.cancel()

    def cancel(self) -> None:
        """Let the reader end at once."""
        if self._task is not None:
            self._task.cancel()

    def was_interrupted(self) -> bool:
        """Whether the cancellation that is being handled was this end's; it is then undone."""
        if self.end is None or self._task is None:
            return False
        self._task.uncancel()
        return True

    def check_idle(self) -> None:
        """Interrupt a reader to which nothing came for long. Call it now and then."""
        now_s = asyncio.get_running_loop().time()
        num_messages, since_s = self._heard_of
        if self._num_messages > num_messages or not self._is_receiving:
            self._heard_of = (self._num_messages, now_s)
            return
        silent_s = now_s - since_s
        if silent_s > self._limits.idle_timeout_s:
            self.interrupt(
                ProtocolError(
                    ErrorCode.IDLE,
                    f"got no message for {silent_s:.0f} s, expected one within"
                    f" {self._limits.idle_timeout_s:g} s",
                )
            )

    def _log_untold(self, error: ProtocolError) -> None:
        if error.code is ErrorCode.SHUTTING_DOWN:
            return
        if not error.ends_stream:
            if self._has_logged_bad:
                return  # Too many of them end the connection, and that is said.
            self._has_logged_bad = True
        event = "connection_ended" if error.ends_stream else "message_ignored"
        _log.warning(event, entrance=self._entrance, code=error.code.value, reason=str(error))

    async def _next_message(self) -> str | bytes:
        self._is_receiving = True
        try:
            message = await self._websocket.recv()
        except asyncio.CancelledError:
            if not self.was_interrupted():
                raise
            assert self.end is not None, "there is no interruption without a reason"
            raise self.end from None
        finally:
            self._is_receiving = False
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
