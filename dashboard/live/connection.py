"""One page's WebSocket: at most four messages a second, and none while the page is hidden.

::

    visible    ████████████░░░░░░░░░░░░████████████
    sent       s c c  c c              s c c   c        s: state anew, c: what changed
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from typing import Any

import msgspec
from aiohttp import WSCloseCode, WSMsgType, web

from dashboard.errors import ApiError
from stream_server.wire.errors import ERRORS, ErrorCode, ProtocolError
from stream_server.wire.messages import Error, error_message

# Shortest time between two messages to a page.
INTERVAL_S = 0.25
KEEPALIVE_S = 15.0
# A page that is looked at hears something at least this often. A browser's script cannot see the
# pings of WebSocket, and a connection may be dead for minutes before it closes.
ALIVE_S = 5.0
_ALIVE = '{"type":"alive"}'
# Longest wait for a page to take what was sent.
SEND_TIMEOUT_S = 30.0

_MAX_INBOUND_BYTES = 4096


class _Visible(msgspec.Struct, frozen=True):
    visible: bool


_decode = msgspec.json.Decoder(_Visible).decode


class LiveConnection:
    """A WebSocket to a page; ``request`` is its handshake."""

    def __init__(self, request: web.Request) -> None:
        self._request = request
        # Uncompressed: what is encoded once for all pages would be compressed for each.
        self._socket = web.WebSocketResponse(
            heartbeat=KEEPALIVE_S, compress=False, max_msg_size=_MAX_INBOUND_BYTES
        )
        self._next_s = 0.0
        self._sent_s = 0.0
        self._looks = asyncio.Event()
        self._looks_away = asyncio.Event()
        self._looks.set()

    async def run(self, show: Show) -> web.WebSocketResponse:
        """Serve the page until it leaves or ``show`` returns.

        ``show`` is started again each time the page becomes visible.
        """
        await self._socket.prepare(self._request)
        reader = asyncio.create_task(self._read(), name="live reader")
        writer = asyncio.create_task(self._write(show), name="live writer")
        beat = asyncio.create_task(self._beat(), name="live beat")
        try:
            await asyncio.wait((reader, writer), return_when=asyncio.FIRST_COMPLETED)
            # The reader ends when the page closes; there is nobody left to close then.
            if writer.done():
                with contextlib.suppress(TimeoutError, ConnectionError):
                    async with asyncio.timeout(SEND_TIMEOUT_S):
                        await self._socket.close(code=writer.result())
        finally:
            for task in (reader, writer, beat):
                task.cancel()
            await asyncio.gather(reader, writer, beat, return_exceptions=True)
        return self._socket

    async def send(self, text: str) -> None:
        """Send a message.

        Raises:
            TimeoutError: the page did not take it in time.
            ConnectionError: it has gone.
        """
        # send_str waits while the socket's buffer is full: a page that does not read is dropped.
        async with asyncio.timeout(SEND_TIMEOUT_S):
            await self._socket.send_str(text)
        self._sent_s = asyncio.get_running_loop().time()
        self._next_s = self._sent_s + INTERVAL_S

    async def until_due(self) -> None:
        """Wait until the next message is due."""
        wait_s = self._next_s - asyncio.get_running_loop().time()
        if wait_s > 0:
            await asyncio.sleep(wait_s)

    async def _beat(self) -> None:
        loop = asyncio.get_running_loop()
        self._sent_s = loop.time()
        with contextlib.suppress(ConnectionError):  # The reader sees that the page has gone.
            while True:
                await asyncio.sleep(max(0.0, self._sent_s + ALIVE_S - loop.time()))
                if loop.time() < self._sent_s + ALIVE_S:
                    continue
                if self._looks.is_set():
                    await self._socket.send_str(_ALIVE)
                self._sent_s = loop.time()

    async def _read(self) -> None:
        async for message in self._socket:
            if message.type is not WSMsgType.TEXT:
                continue
            try:
                is_visible = _decode(message.data).visible
            except msgspec.MsgspecError:
                continue  # a message of a later version
            (self._looks if is_visible else self._looks_away).set()
            (self._looks_away if is_visible else self._looks).clear()

    async def _write(self, show: Show) -> int:
        """Return the code to close with."""
        try:
            while True:
                await self._looks.wait()
                code = await _unless(self._looks_away, show(self))
                if code is not None:
                    return code
        except (ProtocolError, ApiError) as error:
            return await self._refuse(error)
        except TimeoutError:
            return ERRORS[ErrorCode.SLOW_CONSUMER].close_code or WSCloseCode.POLICY_VIOLATION
        except ConnectionError:
            # RFC 6455, 7.4.1: 1006 is never sent; the close that follows finds no peer.
            return WSCloseCode.ABNORMAL_CLOSURE

    async def _refuse(self, error: ProtocolError | ApiError) -> int:
        body: Error = error.body if isinstance(error, ApiError) else error_message(error)
        with contextlib.suppress(TimeoutError, ConnectionError):
            await self.send(msgspec.json.encode(body).decode())
        return body.close_code or WSCloseCode.INTERNAL_ERROR


Show = Callable[[LiveConnection], Coroutine[Any, Any, int]]
"""Sends state, then changes, while the page is visible; returns the code to close with."""


async def _unless(event: asyncio.Event, work: Coroutine[Any, Any, int]) -> int | None:
    """Return what ``work`` returns, None if ``event`` is set first and it is cancelled."""
    working = asyncio.ensure_future(work)
    waiting = asyncio.ensure_future(event.wait())
    try:
        await asyncio.wait((working, waiting), return_when=asyncio.FIRST_COMPLETED)
        return working.result() if working.done() else None
    finally:
        for task in (working, waiting):
            task.cancel()
        await asyncio.gather(working, waiting, return_exceptions=True)
