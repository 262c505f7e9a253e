"""The WebSocket that pages are shown live data through.

``GET /api/v1/live``: the wall, or one stream, as it happens.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

import msgspec
from aiohttp import WSCloseCode, web

from dashboard.api.routes import Call, Param, Route
from dashboard.errors import ApiError
from dashboard.live.connection import LiveConnection
from dashboard.live.tiles import LiveResults, LiveSnapshot, StreamItem, StreamStatus
from dashboard.live.wall import Wall
from stream_server.feeds.query import FeedQuery
from stream_server.feeds.source import Feed, FeedSource
from stream_server.wire.feed_messages import Dropped, FeedMessage, Snapshot
from stream_server.wire.results import Result

_encode = msgspec.json.Encoder().encode

_STATUS_INTERVAL_S = 1.0

Describe = Callable[[str], Awaitable[StreamItem | None]]
Status = Callable[[str], StreamStatus | None]


class LiveEndpoint:
    """The handler of ``/api/v1/live``.

    Args:
        wall: all live streams.
        source: makes subscriptions to one.
        describe: returns a stream as it is listed; None: there is none of that name.
        status: returns how a stream is doing; None: it is not live.
        keeps: whether what is published is kept.
        max_viewers: connections at a time.
    """

    def __init__(
        self,
        wall: Wall,
        source: FeedSource,
        describe: Describe,
        status: Status,
        *,
        keeps: bool,
        max_viewers: int,
    ) -> None:
        self._wall = wall
        self._source = source
        self._describe = describe
        self._status = status
        self.keeps = keeps
        self._max_viewers = max_viewers
        self._num_viewers = 0

    async def handle(
        self, request: web.Request, stream_id: str | None, after_seq: int | None
    ) -> web.StreamResponse:
        """Serve one page.

        Args:
            request: a WebSocket handshake.
            stream_id: the stream to show; None: the wall.
            after_seq: what the page has of the stream already; None: nothing.

        Raises:
            ApiError: there is no such stream, there are too many pages, or it is no handshake.
        """
        if not web.WebSocketResponse().can_prepare(request).ok:
            raise ApiError("bad_request", "got a plain request, expected a WebSocket handshake")
        if self._num_viewers >= self._max_viewers:
            raise ApiError(
                "too_many_viewers",
                f"got a page beyond the {self._max_viewers} there are, expected fewer",
                retry_after_s=5.0,
            )
        self._num_viewers += 1
        try:
            if stream_id is None:
                return await LiveConnection(request).run(self._show_wall)
            if await self._describe(stream_id) is None:
                raise ApiError("not_found", "got a stream that is not known, expected one that is")
            view = _StreamView(self._source, self._describe, self._status, stream_id, self.keeps)
            view.last_seq = after_seq
            return await LiveConnection(request).run(view.show)
        finally:
            self._num_viewers -= 1

    async def _show_wall(self, connection: LiveConnection) -> int:
        viewer = self._wall.join()
        with contextlib.closing(viewer):
            await connection.until_due()
            await connection.send(viewer.snapshot())
            while True:
                await viewer.wake.wait()
                if self._wall.has_ended:
                    return WSCloseCode.GOING_AWAY
                await connection.until_due()
                changes = viewer.changes()
                if changes is not None:
                    await connection.send(changes)


class _StreamView:
    """One stream for one page, without hole or double for as long as there is a store.

    Attributes:
        last_seq: the page has everything up to here; None: nothing.
    """

    def __init__(
        self,
        source: FeedSource,
        describe: Describe,
        status: Status,
        stream_id: str,
        keeps: bool,
    ) -> None:
        self._source = source
        self._describe = describe
        self._status = status
        self._stream_id = stream_id
        self._keeps = keeps
        self._status_due_s = 0.0
        self.last_seq: int | None = None

    async def show(self, connection: LiveConnection) -> int:
        """Send what the page does not have, then what comes."""
        while True:
            feed = await self._source.open(self._query(), name="dashboard")
            with contextlib.closing(feed):
                if (code := await self._follow(feed, connection)) is not None:
                    return code

    def _query(self) -> FeedQuery:
        """Ask for what comes after what was sent."""
        if self.last_seq is not None:
            return FeedQuery(
                stream_id=self._stream_id, after={self._stream_id: self.last_seq}, frames=True
            )
        return FeedQuery(
            stream_id=self._stream_id, from_sample=0 if self._keeps else None, frames=True
        )

    async def _follow(self, feed: Feed, connection: LiveConnection) -> int | None:
        """Return the code to close with; None: results were lost here that the store has."""
        await connection.until_due()
        # Before the first page, so that the page can show what it is about.
        stream = await self._describe(self._stream_id)
        if stream is None:
            raise ApiError("not_found", "got a stream that was deleted, expected one that is kept")
        async with contextlib.aclosing(feed.stored()) as pages:
            async for page in pages:
                # Pages follow each other as fast as they are taken: nothing waits behind them.
                await self._send(page, connection, stream)
        if self.last_seq is None:
            self.last_seq = -1
            await connection.send(_encode(LiveSnapshot(stream=stream, results=[])).decode())
        async with contextlib.aclosing(feed.live()) as batches:
            async for batch in batches:
                await connection.until_due()
                messages = [*batch, *feed.take_waiting()]
                if self._keeps and any(isinstance(one, Dropped) for one in messages):
                    return None
                await self._send(messages, connection, stream)
        return WSCloseCode.OK if feed.stream_ended else WSCloseCode.GOING_AWAY

    async def _send(
        self, messages: list[FeedMessage], connection: LiveConnection, stream: StreamItem
    ) -> None:
        results: list[Result] = []
        dropped = 0
        for one in messages:
            match one:
                case Snapshot():
                    results += one.results
                case Dropped():
                    dropped += one.results
                case _:
                    results.append(one)
        if not results and not dropped:
            return
        status = self._new_status()
        message: LiveSnapshot | LiveResults
        if self.last_seq is None:
            message = LiveSnapshot(stream=stream, results=results, status=status)
        else:
            message = LiveResults(results=results, dropped=dropped, status=status)
        await connection.send(_encode(message).decode())
        self.last_seq = max([self.last_seq or -1, *(one.seq for one in results)])

    def _new_status(self) -> StreamStatus | None:
        now_s = asyncio.get_running_loop().time()
        if now_s < self._status_due_s:
            return None
        self._status_due_s = now_s + _STATUS_INTERVAL_S
        return self._status(self._stream_id)


class LiveRoutes:
    """Handlers.

    Args:
        endpoint: serves pages.
    """

    def __init__(self, endpoint: LiveEndpoint) -> None:
        self._endpoint = endpoint

    def routes(self) -> list[Route]:
        """Return the routes of this module."""
        return [
            Route(
                "GET",
                "/live",
                "Live data for a page, over WebSocket: the wall, or one stream.",
                self.live,
                params=(
                    Param("stream", "string", "show this stream; default: the wall"),
                    Param(
                        "after_seq",
                        "integer",
                        "with stream: the last seq the page has",
                        None,
                        -1,
                        10**15,
                    ),
                ),
                content="websocket",
                status=101,
                errors=("not_found", "too_many_viewers", "store_away"),
            )
        ]

    async def live(self, call: Call) -> web.StreamResponse:
        """Answer a handshake."""
        query = call.query
        return await self._endpoint.handle(call.request, query["stream"], query["after_seq"])
