"""Stored and live results joined, without sockets."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET, structs
from multidict import MultiDict

from ser_engine.schema import Frames, LastingState
from stream_server.bus import Bus
from stream_server.feeds import FeedQuery, parse_query
from stream_server.feeds.source import Feed, FeedSource, History
from stream_server.streams.live_streams import LiveStreams
from stream_server.wire.errors import ErrorCode, ProtocolError
from stream_server.wire.feed_messages import Dropped, FeedMessage, Snapshot
from stream_server.wire.results import Point, Result
from tests.support.feeds import FakeHistory
from tests.support.results import (
    make_alert,
    make_closed,
    make_gap,
    make_opened,
    make_point,
    make_points,
    make_segment,
    make_summary,
)
from tests.support.virtual_time import run


class Lab:
    """A source over a bus, driven by hand."""

    def __init__(self, history: History | None = None, mailbox_size: int = 1024) -> None:
        self.bus = Bus()
        self.source = FeedSource(
            self.bus, LiveStreams(self.bus), history, mailbox_size=mailbox_size
        )

    def publish(self, *results: Result) -> None:
        for result in results:
            self.bus.publish(result)

    async def open(self, query: str = "") -> Feed:
        pairs = [part.split("=") for part in query.split("&") if part]
        parameters = MultiDict((name, value) for name, value in pairs)
        return await self.source.open(parse_query(parameters), name="test")

    async def read(self, feed: Feed) -> list[FeedMessage]:
        """Close the bus and return all that the feed says."""
        self.bus.close()
        return await read(feed)


async def read(feed: Feed) -> list[FeedMessage]:
    async with aclosing(feed.messages()) as messages:
        return [message async for batch in messages for message in batch]


def seqs(messages: list[FeedMessage], stream_id: str = "s1") -> list[int]:
    return [
        message.seq
        for message in messages
        if not isinstance(message, Snapshot | Dropped) and message.stream_id == stream_id
    ]


async def test_a_snapshot_comes_first_then_what_is_published():
    lab = Lab()
    lab.publish(make_opened(), make_point(seq=1), make_point(0.5, seq=2))
    feed = await lab.open()
    lab.publish(make_point(1.0, seq=3), make_opened("s2"))
    snapshot, *live = await lab.read(feed)
    assert snapshot == Snapshot(results=(make_opened(), make_point(0.5, seq=2)))
    assert live == [make_point(1.0, seq=3), make_opened("s2")]


async def test_one_stream_ends_with_it():
    lab = Lab()
    lab.publish(make_opened(), make_opened("s2"))
    feed = await lab.open("stream=s1")
    lab.publish(make_point(seq=1), make_point(stream_id="s2"), make_closed(seq=2))
    snapshot, *live = await read(feed)
    assert snapshot == Snapshot(results=(make_opened(),))
    assert seqs(live) == [1, 2]
    assert len(live) == 2
    assert feed.stream_ended


async def test_types_are_chosen():
    lab = Lab()
    lab.publish(make_opened(), make_alert(seq=1), make_point(seq=2))
    feed = await lab.open("types=alert,gap")
    lab.publish(make_gap(seq=3), make_point(seq=4), make_closed(seq=5))
    assert await lab.read(feed) == [Snapshot(results=(make_alert(seq=1),)), make_gap(seq=3)]


async def test_roles_are_chosen():
    lab = Lab()
    lab.publish(make_opened("a", roles=("customer", "agent")), make_opened("b", roles=("driver",)))
    feed = await lab.open("roles=customer")
    lab.publish(
        make_point(stream_id="a", seq=1, role="customer"),
        make_point(stream_id="a", seq=2, role="agent", channel=1),
        make_point(stream_id="b", seq=1, role="driver"),
        make_summary("b", seq=2),
        make_opened("c", roles=("agent",)),
        make_opened("d", roles=("customer",)),
        make_summary("d", seq=1),
        make_closed("d", seq=2),
    )
    snapshot, *live = await lab.read(feed)
    assert isinstance(snapshot, Snapshot)
    assert [result.stream_id for result in snapshot.results] == ["a"]
    assert seqs(live, "a") == [1]
    assert seqs(live, "b") == seqs(live, "c") == []
    assert seqs(live, "d") == [0, 1, 2]


async def test_frames_come_only_where_they_were_asked_for():
    lab = Lab()
    lab.publish(make_opened())
    frames = Frames(start_samples=(0,), hop_samples=320, posteriors=((1.0,),), labels=("angry",))
    without, with_frames = await lab.open(), await lab.open("frames=true")
    from msgspec.structs import replace

    lab.publish(replace(make_point(seq=1), frames=frames))
    points = [
        message
        for feed in (without, with_frames)
        for message in await lab.read(feed)
        if isinstance(message, Point)
    ]
    assert [point.frames for point in points] == [None, frames]


async def test_how_a_channel_has_been_is_said_where_it_was_asked_for():
    lab = Lab()
    # Before anybody subscribed: who comes later knows it all the same.
    before = [structs.replace(make_point(at / 2, seq=at + 1), label="angry") for at in range(20)]
    lab.publish(make_opened(), *before)
    without, with_states = await lab.open(), await lab.open("states=true")
    lab.publish(structs.replace(make_point(10.0, seq=21), label="angry"))
    for feed, told in ((without, UNSET), (with_states, LastingState(label="angry", since_s=0.0))):
        snapshot, live = await lab.read(feed)
        assert isinstance(snapshot, Snapshot) and isinstance(live, Point)
        assert [one.lasting for one in (snapshot.results[-1], live) if isinstance(one, Point)] == [
            told,
            told,
        ]
    assert b"lasting" not in msgspec.json.encode(before[0])


async def test_stored_results_come_before_live_ones():
    stored: list[Result] = [make_opened(), *make_points([0.1] * 4, first_seq=1)]
    lab = Lab(FakeHistory(stored))
    lab.publish(*stored)
    feed = await lab.open("stream=s1&from_s=1.0")
    lab.publish(make_point(2.0, seq=5))
    snapshot, *rest = await lab.read(feed)
    assert snapshot == Snapshot(results=())
    assert seqs(rest) == [0, 3, 4, 5]


async def test_what_was_not_written_yet_is_waited_for():
    first: list[Result] = [make_opened(), make_point(seq=1)]
    later = [make_point(0.5, seq=2)]
    lab = Lab(FakeHistory(first, unwritten=later))
    lab.publish(*first, *later)
    feed = await lab.open("stream=s1&from_s=0")
    lab.publish(make_point(1.0, seq=3))
    assert seqs(await lab.read(feed)) == [0, 1, 2, 3]


async def test_who_comes_back_gets_what_it_missed():
    stored: list[Result] = [make_opened(), *make_points([0.1] * 6, first_seq=1)]
    lab = Lab(FakeHistory(stored))
    lab.publish(*stored)
    feed = await lab.open("stream=s1&after=s1:3")
    lab.publish(make_point(3.0, seq=7))
    assert seqs(await lab.read(feed)) == [4, 5, 6, 7]


async def test_several_streams_are_caught_up_on():
    stored: list[Result] = []
    for name in ("s1", "s2", "s3"):
        stored += [make_opened(name), *make_points([0.1] * 2, stream_id=name)]
    lab = Lab(FakeHistory(stored))
    lab.publish(*stored)
    feed = await lab.open("after=s1:1&after=s2:0")
    messages = await lab.read(feed)
    assert (seqs(messages, "s1"), seqs(messages, "s2")) == ([2], [1, 2])
    assert isinstance(messages[0], Snapshot)
    assert {result.stream_id for result in messages[0].results} == {"s3"}


async def test_roles_are_known_to_who_comes_back():
    stored: list[Result] = [make_opened(roles=("customer", "agent")), make_point(seq=1)]
    lab = Lab(FakeHistory(stored))
    feed = await lab.open("after=s1:0&roles=customer")
    assert seqs(await lab.read(feed)) == [1]


async def test_a_stream_that_has_ended_is_told_from_the_store_alone():
    stored: list[Result] = [make_opened(), make_point(seq=1), make_closed(seq=2)]
    lab = Lab(FakeHistory(stored))
    assert seqs(await read(await lab.open("stream=s1&from_s=0"))) == [0, 1, 2]
    feed = await lab.open("stream=s1&after=s1:2")
    assert seqs(await read(feed)) == []
    assert feed.stream_ended


async def test_a_stream_that_ends_while_it_is_caught_up_on():
    stored: list[Result] = [make_opened(), make_point(seq=1)]
    history = FakeHistory(stored)
    lab = Lab(history)
    lab.publish(*stored)
    history.gate.clear()
    feed = await lab.open("stream=s1&from_s=0")
    reading = asyncio.create_task(read(feed))
    await asyncio.sleep(0)
    lab.publish(make_closed(seq=2))
    history.kept.append(make_closed(seq=2))
    history.gate.set()
    assert seqs(await reading) == [0, 1, 2]


async def test_an_interim_version_of_what_was_told_is_left_out():
    history = FakeHistory([make_opened()])
    lab = Lab(history)
    lab.publish(make_opened())
    feed = await lab.open("stream=s1&from_s=0")
    lab.publish(make_segment(seq=1, final=False), make_gap(3, 4, seq=2), make_segment(seq=3))
    history.kept += [make_gap(3, 4, seq=2), make_segment(seq=3)]
    lab.publish(make_segment(5, 6, seq=4, final=False))
    assert seqs(await lab.read(feed)) == [0, 2, 3, 4]


@pytest.mark.parametrize("query", ["stream=s9", "stream=s9&from_s=0", "stream=s9&after=s9:3"])
@pytest.mark.parametrize("history", [True, False])
async def test_an_unknown_stream_is_refused(query: str, history: bool):
    lab = Lab(FakeHistory() if history else None)
    with pytest.raises(ProtocolError) as caught:
        await lab.open(query)
    no_store = not history and "from_s" in query
    assert caught.value.code is (ErrorCode.BAD_QUERY if no_store else ErrorCode.UNKNOWN_STREAM)
    assert lab.bus.subscriptions == lab.bus.subscriptions[:1], "only the live streams' own is left"


async def test_an_ended_stream_without_a_time_is_refused():
    lab = Lab(FakeHistory([make_opened(), make_closed()]))
    with pytest.raises(ProtocolError, match="has ended; add from_s"):
        await lab.open("stream=s1")


async def test_without_a_store_what_was_missed_is_counted():
    lab = Lab()
    lab.publish(make_opened(), *make_points([0.1] * 5))
    feed = await lab.open("stream=s1&after=s1:3")
    lab.publish(make_point(2.5, seq=6))
    messages = await lab.read(feed)
    assert messages[1] == Dropped(results=2)
    assert seqs(messages) == [6]


async def test_a_slow_subscriber_is_told_how_much_it_missed():
    lab = Lab(mailbox_size=16)
    lab.publish(make_opened())
    feed = await lab.open()
    lab.publish(*make_points([0.1] * 50), make_alert(seq=51))
    messages = await lab.read(feed)
    dropped = [message for message in messages if isinstance(message, Dropped)]
    assert [message.results for message in dropped] == [35]
    assert feed.dropped == 35
    assert seqs(messages) == [*range(36, 51), 51]


@given(
    written=st.integers(0, 30), at_open=st.integers(0, 30), later=st.integers(0, 30), data=st.data()
)
def test_no_hole_and_no_double_wherever_the_store_stands(
    written: int, at_open: int, later: int, data: st.DataObject
):
    """The store lags behind at first and is ahead later; every result comes once, in order."""

    async def scenario() -> list[int]:
        total = at_open + later
        points = list(make_points([0.1] * total))
        now = min(written, at_open)
        history = FakeHistory([make_opened(), *points[:now]], unwritten=points[now:at_open])
        lab = Lab(history)
        lab.publish(make_opened(), *points[:at_open])
        feed = await lab.source.open(FeedQuery(stream_id="s1", from_sample=0), name="test")
        lab.publish(*points[at_open:])
        history.unwritten += points[at_open : data.draw(st.integers(at_open, total))]
        return seqs(await lab.read(feed))

    assert run(scenario()) == list(range(at_open + later + 1))
