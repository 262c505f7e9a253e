"""Feeds on the real store."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from stream_server.bus import Bus
from stream_server.config import StoreConfig
from stream_server.feeds import FeedQuery
from stream_server.feeds.source import FeedSource, History
from stream_server.store import Store, reader
from stream_server.streams.live_streams import LiveStreams
from stream_server.wire.feed_messages import Dropped, Snapshot
from tests.support.results import make_closed, make_opened, make_point, make_points


@asynccontextmanager
async def stored(folder: Path) -> AsyncIterator[tuple[Bus, FeedSource, History]]:
    """A bus whose results go to a SQLite file."""
    store = await Store.open(StoreConfig(url=f"sqlite:///{folder / 'timelines.db'}"))
    bus = Bus()
    writing = asyncio.create_task(store.run(bus.subscribe(name="store", capacity=100_000)))
    await asyncio.sleep(0)  # the writer begins
    history = History(store)
    try:
        yield bus, FeedSource(bus, LiveStreams(bus), history, mailbox_size=10_000), history
    finally:
        bus.close()
        await writing
        await store.close()


async def seqs_of(source: FeedSource, query: FeedQuery) -> list[int]:
    feed = await source.open(query, name="test")
    try:
        return [
            message.seq
            async for batch in feed.messages()
            for message in batch
            if not isinstance(message, Snapshot | Dropped)
        ]
    finally:
        feed.close()


async def test_no_hole_between_the_store_and_what_is_live(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(reader, "_PAGE", 7)
    async with stored(tmp_path) as (bus, source, _):
        points = list(make_points([0.1] * 60))
        bus.publish(make_opened())
        for point in points[:30]:
            bus.publish(point)
        reading = asyncio.create_task(seqs_of(source, FeedQuery(stream_id="s1", from_sample=0)))
        for point in points[30:]:
            bus.publish(point)
            await asyncio.sleep(0)
        bus.publish(make_closed(seq=61))
        assert await reading == list(range(62))
        again = FeedQuery(stream_id="s1", after={"s1": 58})
        assert await seqs_of(source, again) == [59, 60, 61]
        late = FeedQuery(stream_id="s1", from_sample=29 * 16_000, types=frozenset(["point"]))
        assert await seqs_of(source, late) == [59, 60]


async def test_a_stream_that_is_not_kept(tmp_path: Path):
    async with stored(tmp_path) as (_, _, history):
        assert await history.opened("s1") is None
        pages = history.results("s1", from_sample=0, after_seq=-1, last_measures=False)
        assert [page async for page in pages] == []


async def test_the_first_result_is_found(tmp_path: Path):
    async with stored(tmp_path) as (bus, _, history):
        bus.publish(make_opened())
        bus.publish(make_point(seq=1))
        await history.settle()
        opened = await history.opened("s1")
        assert opened is not None
        assert (opened.seq, opened.name) == (0, "a call")


async def test_a_store_that_does_not_answer_is_not_waited_for(tmp_path: Path):
    store = await Store.open(StoreConfig(url=f"sqlite:///{tmp_path / 'timelines.db'}"))
    await store.close()
    await History(store).settle()
