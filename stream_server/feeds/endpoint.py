"""``GET /feed``: results over WebSocket, or as server-sent events (SSE).

A subscriber is sent results at its own pace: its mailbox is its own, so a slow one delays no other,
and one that takes nothing at all is closed after :data:`SEND_TIMEOUT_S`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable
from dataclasses import replace
from typing import Literal

import msgspec
from aiohttp import WSCloseCode, hdrs, web

from stream_server.access import Scope
from stream_server.feeds import parse_query
from stream_server.feeds.source import Feed, FeedSource
from stream_server.http import WHO, needs
from stream_server.http.login import note
from stream_server.wire.errors import ERRORS, ErrorCode, ProtocolError
from stream_server.wire.feed_messages import Dropped, FeedMessage, Snapshot

KEEPALIVE_S = 15.0
"""Longest silence on a connection: many proxies close one that was silent for a minute (nginx:
``proxy_read_timeout``, 60 s)."""

SEND_TIMEOUT_S = 30.0
"""Longest wait for a subscriber to take what was sent: its TCP window is full all that time."""

_RECONNECT_MS = 2000
_SSE_HEADERS = {
    hdrs.CONTENT_TYPE: "text/event-stream",
    hdrs.CACHE_CONTROL: "no-cache",
    # nginx, and proxies that follow it, otherwise collect events until a buffer is full.
    "X-Accel-Buffering": "no",
}
_MAX_INBOUND_BYTES = 4096
"""Subscribers send nothing but pongs and close; other messages are read and ignored."""

_encode = msgspec.json.Encoder().encode

Kind = Literal["websocket", "sse"]


def encode_event(message: FeedMessage) -> bytes:
    """Return a message as one server-sent event; results carry ``stream:seq`` as their id."""
    data = b"data: " + _encode(message) + b"\n\n"
    if isinstance(message, Snapshot | Dropped):
        return data
    return f"id: {message.stream_id}:{message.seq}\n".encode() + data


class FeedEndpoint:
    """The handler of ``/feed``."""

    def __init__(self, source: FeedSource, *, max_subscribers: int) -> None:
        self._source = source
        self._max_subscribers = max_subscribers
        self._num_subscribers = 0

    def add_to(self, app: web.Application) -> None:
        """Serve ``/feed``; the application has to check access itself."""
        # No HEAD: aiohttp would run the handler, and subscribe.
        app.router.add_get("/feed", needs(Scope.READ, self.handle), allow_head=False)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer one subscriber.

        Raises:
            ProtocolError: the query is wrong, the stream is not known, there are too many.
        """
        # Whether the request has the headers of RFC 6455, 4.2.1.
        is_websocket = web.WebSocketResponse().can_prepare(request).ok
        kind: Kind = "websocket" if is_websocket else "sse"
        async with self._subscribed(request, kind) as feed:
            return await (self._websocket if is_websocket else self._sse)(request, feed)

    @contextlib.asynccontextmanager
    async def _subscribed(self, request: web.Request, kind: Kind) -> AsyncIterator[Feed]:
        query = replace(
            parse_query(request.query, request.headers.get("Last-Event-ID")),
            teams=request[WHO].visible_teams,
        )
        if self._num_subscribers >= self._max_subscribers:
            raise ProtocolError(
                ErrorCode.TOO_MANY_SUBSCRIBERS,
                f"subscriber limit ({self._max_subscribers}) reached",
                retry_after_s=5.0,
            )
        self._num_subscribers += 1
        try:
            feed = await self._source.open(query, name=kind)
            note(request, request[WHO], "feed", target=query.stream_id or "")
            try:
                yield feed
            finally:
                feed.close()
        finally:
            self._num_subscribers -= 1

    async def _websocket(self, request: web.Request, feed: Feed) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(
            heartbeat=KEEPALIVE_S, compress=False, max_msg_size=_MAX_INBOUND_BYTES
        )
        await socket.prepare(request)
        reader = asyncio.create_task(_read(socket), name="feed reader")
        writer = asyncio.create_task(_write(socket, feed), name="feed writer")
        try:
            await asyncio.wait((reader, writer), return_when=asyncio.FIRST_COMPLETED)
            if writer.done():
                with contextlib.suppress(TimeoutError, ConnectionError):
                    await _in_time(socket.close(code=writer.result()))
        finally:
            reader.cancel()
            writer.cancel()
            await asyncio.gather(reader, writer, return_exceptions=True)
        return socket

    async def _sse(self, request: web.Request, feed: Feed) -> web.StreamResponse:
        messages = feed.messages()
        first = await anext(messages)
        if feed.stream_ended:
            # An EventSource reconnects after every end of a response; 204 tells it to stop (HTML
            # Standard, 9.2). So the stored rest is sent first, and the next attempt, which finds
            # nothing more, is answered with 204.
            stored = await anext(messages, None)
            if stored is None:
                return web.Response(status=204)
            first = first + stored
        response = web.StreamResponse(headers=_SSE_HEADERS)
        await response.prepare(request)
        pending = asyncio.create_task(_next(messages))
        try:
            # A comment, so that something passes through every proxy at once.
            retry = f": connected\nretry: {_RECONNECT_MS}\n\n".encode()
            await _in_time(response.write(retry + _events(first)))
            while True:
                done, _ = await asyncio.wait((pending,), timeout=KEEPALIVE_S)
                if not done:
                    # A line that begins with a colon is a comment, which EventSource ignores.
                    await _in_time(response.write(b": keepalive\n\n"))
                    continue
                batch = pending.result()
                if batch is None:
                    break
                await _in_time(response.write(_events(batch)))
                pending = asyncio.create_task(_next(messages))
        except TimeoutError:
            # Not write_eof(): that would wait for the same full window.
            if request.transport is not None:
                request.transport.abort()
        except ConnectionError:
            pass
        finally:
            pending.cancel()
            await asyncio.gather(pending, return_exceptions=True)
        return response


async def _next(messages: AsyncIterator[list[FeedMessage]]) -> list[FeedMessage] | None:
    """Return the next messages; None: the feed has ended."""
    return await anext(messages, None)


def _events(messages: list[FeedMessage]) -> bytes:
    return b"".join(map(encode_event, messages))


async def _read(socket: web.WebSocketResponse) -> None:
    """Return when the subscriber goes; reading also answers its pings."""
    async for _ in socket:
        pass


async def _write(socket: web.WebSocketResponse, feed: Feed) -> int:
    """Send messages as they come; return the code to close with."""
    try:
        async for messages in feed.messages():
            for message in messages:
                await _in_time(socket.send_str(_encode(message).decode()))
    except TimeoutError:
        return ERRORS[ErrorCode.SLOW_CONSUMER].close_code or WSCloseCode.POLICY_VIOLATION
    except ConnectionError:
        return WSCloseCode.ABNORMAL_CLOSURE
    return WSCloseCode.OK if feed.stream_ended else WSCloseCode.GOING_AWAY


async def _in_time(sending: Awaitable[object]) -> None:
    async with asyncio.timeout(SEND_TIMEOUT_S):
        await sending
