"""``GET /api/v1/live``, a WebSocket: the wall, or one stream, as it happens."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from functools import partial

import msgspec
from aiohttp import WSCloseCode, web

from dashboard.api.listing import Listing
from dashboard.backend import Backend
from dashboard.errors import ApiError
from dashboard.live.connection import LiveConnection
from dashboard.live.tiles import LiveResults, LiveSnapshot, StreamItem, StreamStatus
from dashboard.live.wall import Wall
from stream_server.access.policy import Who
from stream_server.feeds import FeedQuery
from stream_server.feeds.source import Feed
from stream_server.wire.feed_messages import Dropped, FeedMessage, Snapshot
from stream_server.wire.results import Result

_STATUS_INTERVAL_S = 1.0
_encode = msgspec.json.Encoder().encode


class LiveEndpoint:
    """Serves pages.

    Attributes:
        keeps: whether results are stored, so that a page can catch up from there.
    """

    def __init__(self, wall: Wall, listing: Listing, backend: Backend, *, max_viewers: int) -> None:
        self._wall = wall
        self._listing = listing
        self._backend = backend
        self.keeps = backend.store is not None
        self._max_viewers = max_viewers
        self._num_viewers = 0
        self._views: set[_StreamView] = set()

    async def handle(
        self, request: web.Request, who: Who, stream_id: str | None, after_seq: int | None
    ) -> web.StreamResponse:
        """Serve one page until it leaves: a stream, or the wall if ``stream_id`` is None.

        It gets the streams that ``who`` sees. What the page has of the stream, up to ``after_seq``,
        is not sent again.

        Raises:
            ApiError: the stream is unknown, there are too many pages, or it is no handshake.
        """
        if not web.WebSocketResponse().can_prepare(request).ok:
            raise ApiError("bad_request", "this path takes WebSocket handshakes only")
        if self._num_viewers >= self._max_viewers:
            raise ApiError(
                "too_many_viewers",
                f"viewer limit ({self._max_viewers}) reached",
                retry_after_s=5.0,
            )
        # Counted from here on, with nothing awaited since the check.
        self._num_viewers += 1
        try:
            if stream_id is None:
                return await LiveConnection(request).run(partial(self._show_wall, who))
            view = _StreamView(
                listing=self._listing,
                backend=self._backend,
                who=who,
                stream_id=stream_id,
                keeps=self.keeps,
                last_seq=after_seq,
            )
            self._views.add(view)
            try:
                return await LiveConnection(request).run(view.show)
            finally:
                self._views.discard(view)
        finally:
            self._num_viewers -= 1

    def named(self, stream_id: str) -> None:
        """Have the pages of a stream told what its speakers are called now."""
        for view in self._views:
            if view.stream_id == stream_id:
                view.knows_names = False

    async def _show_wall(self, who: Who, connection: LiveConnection) -> int:
        viewer = self._wall.join(who)
        with contextlib.closing(viewer):
            await connection.until_due()
            await connection.send(viewer.snapshot())
            while True:
                await viewer.wake.wait()
                if self._wall.has_ended:
                    return WSCloseCode.GOING_AWAY
                # Changes are collected while waiting, so the message holds the latest of each.
                await connection.until_due()
                changes = viewer.changes()
                if changes is not None:
                    await connection.send(changes)


@dataclass(slots=True, kw_only=True, eq=False)
class _StreamView:
    """One stream for one page: without holes or repetitions, if there is a store to read from.

    Attributes:
        knows_names: whether the page has what the speakers are called; else its next message says.
        last_seq: the page has everything up to here; None: nothing. Kept while the page is hidden.
    """

    listing: Listing
    backend: Backend
    who: Who
    stream_id: str
    keeps: bool
    last_seq: int | None
    status_due_s: float = 0.0
    knows_names: bool = True

    async def show(self, connection: LiveConnection) -> int:
        """Send what the page does not have, then what comes; return the code to close with."""
        while True:
            feed = await self.backend.feed.open(self._query(), name="dashboard")
            with contextlib.closing(feed):
                if (code := await self._follow(feed, connection)) is not None:
                    return code

    def _query(self) -> FeedQuery:
        if self.last_seq is not None:
            return FeedQuery(
                stream_id=self.stream_id,
                after={self.stream_id: self.last_seq},
                frames=True,
                last_measures=True,
                teams=self.who.visible_teams,
            )
        return FeedQuery(
            stream_id=self.stream_id,
            from_sample=0 if self.keeps else None,
            frames=True,
            last_measures=True,
            teams=self.who.visible_teams,
        )

    async def _follow(self, feed: Feed, connection: LiveConnection) -> int | None:
        """Return the code to close with; None: the feed lost results that the store has."""
        await connection.until_due()
        # The first message describes the stream, so that a page can lay itself out.
        stream = await self.listing.one(self.stream_id, self.who)
        if stream is None:
            raise ApiError("not_found", "the stream was deleted")
        if self.last_seq is not None:
            # No snapshot, which would have them, is sent to a page that comes back.
            self.knows_names = False
        async with contextlib.aclosing(feed.stored()) as pages:
            async for page in pages:
                # At once, not four times a second: nothing waits behind stored results.
                await self._send(page, connection, stream)
        # A stream without results yet: the page is to show its channels all the same.
        if self.last_seq is None:
            self.last_seq = -1
            await connection.send(_encode(LiveSnapshot(stream=stream, results=[])).decode())
        async with contextlib.aclosing(feed.live()) as batches:
            async for batch in batches:
                await connection.until_due()
                messages = [*batch, *feed.take_waiting()]
                # The page was too slow for the mailbox; a new feed reads the missing ones back.
                if self.keeps and any(isinstance(one, Dropped) for one in messages):
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
        last_seq = max((one.seq for one in results), default=-1)
        status = self._new_status()
        message: LiveSnapshot | LiveResults
        if self.last_seq is None:
            message = LiveSnapshot(stream=stream, results=results, status=status)
        else:
            speakers = await self._new_names()
            message = LiveResults(
                results=results, dropped=dropped, status=status, speakers=speakers
            )
        await connection.send(_encode(message).decode())
        self.last_seq = max(-1 if self.last_seq is None else self.last_seq, last_seq)

    async def _new_names(self) -> dict[str, dict[str, str]] | None:
        if self.knows_names:
            return None
        # Before it is read: another name may come meanwhile.
        self.knows_names = True
        stream = await self.listing.one(self.stream_id, self.who)
        return None if stream is None else stream.speakers

    def _new_status(self) -> StreamStatus | None:
        now_s = asyncio.get_running_loop().time()
        if now_s < self.status_due_s:
            return None
        self.status_due_s = now_s + _STATUS_INTERVAL_S
        return self.backend.stream_status(self.stream_id)
