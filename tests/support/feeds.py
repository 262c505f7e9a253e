"""A bus with feeds on it, served on loopback."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from stream_server.access import Access, AccessConfig, ListenConfig
from stream_server.bus import Bus
from stream_server.feeds.endpoint import FeedEndpoint
from stream_server.feeds.source import FeedSource, History
from stream_server.http import make_app
from stream_server.metrics import Metrics
from stream_server.streams.live_streams import LiveStreams
from stream_server.wire.results import Result, StreamOpened

__all__ = ["FakeHistory", "FeedServer", "serve_feed"]


class FakeHistory(History):
    """Results kept in a list, as the store keeps them: interim ones are left out.

    Attributes:
        kept: what is written.
        unwritten: what :meth:`settle` writes.
        gate: results are not handed out before it is set.
    """

    def __init__(self, kept: Sequence[Result] = (), unwritten: Sequence[Result] = ()) -> None:
        self.kept = list(kept)
        self.unwritten = list(unwritten)
        self.gate = asyncio.Event()
        self.gate.set()

    async def settle(self) -> None:
        self.kept += self.unwritten
        self.unwritten = []

    async def opened(self, stream_id: str) -> StreamOpened | None:
        for result in self.kept:
            if result.stream_id == stream_id and isinstance(result, StreamOpened):
                return result
        return None

    async def results(
        self, stream_id: str, *, from_sample: int, after_seq: int, last_measures: bool = False
    ) -> AsyncIterator[Sequence[Result]]:
        await self.gate.wait()
        chosen = [
            result
            for result in self.kept
            if result.stream_id == stream_id
            and result.seq > after_seq
            and getattr(result, "end_sample", from_sample + 1) > from_sample
            and getattr(result, "final", True)
        ]
        for start in range(0, len(chosen), 3):
            yield chosen[start : start + 3]


@dataclass(frozen=True, slots=True)
class FeedServer:
    """What a test publishes to and connects to."""

    bus: Bus
    live: LiveStreams
    metrics: Metrics
    source: FeedSource
    client: TestClient[web.Request, web.Application]

    def publish(self, *results: Result) -> None:
        for result in results:
            self.bus.publish(result)

    def url(self, query: str = "") -> str:
        return str(self.client.make_url(f"/feed{query}"))

    def num_subscribers(self, kind: str) -> float:
        name = "emotion_monitor_subscribers"
        return self.metrics.registry.get_sample_value(name, {"subscriber": kind}) or 0.0

    async def until_gone(self) -> None:
        """Wait until no subscriber is left."""
        while len(self.bus.subscriptions) > 1:  # noqa: ASYNC110 - no event tells of it
            await asyncio.sleep(0)


@asynccontextmanager
async def serve_feed(
    history: History | None = None,
    *,
    mailbox_size: int = 1024,
    max_subscribers: int = 10,
    listen: ListenConfig | None = None,
    access: AccessConfig | None = None,
) -> AsyncIterator[FeedServer]:
    """Serve ``/feed`` on 127.0.0.1."""
    bus, metrics = Bus(), Metrics()
    metrics.bus_from(bus.figures)
    live = LiveStreams(bus)
    source = FeedSource(bus, live, history, mailbox_size=mailbox_size)
    app = make_app(
        access=Access(access or AccessConfig(), listen or ListenConfig()),
        metrics=metrics,
        readiness=list,
    )
    FeedEndpoint(source, max_subscribers=max_subscribers).add_to(app)
    following = asyncio.create_task(live.run())
    async with TestClient(TestServer(app)) as client:
        try:
            yield FeedServer(bus, live, metrics, source, client)
        finally:
            bus.close()
            await following
