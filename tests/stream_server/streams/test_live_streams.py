from __future__ import annotations

import asyncio

from stream_server.bus import Bus
from stream_server.streams.live_streams import LiveStreams
from tests.support.results import (
    make_alert,
    make_closed,
    make_gap,
    make_marked,
    make_opened,
    make_point,
    make_segment,
)
from tests.support.virtual_time import virtual_time


@virtual_time
async def test_a_snapshot_holds_all_that_was_published_before():
    bus = Bus()
    live = LiveStreams(bus)
    for result in (
        make_opened("a"),
        make_opened("b"),
        make_point(stream_id="a", seq=1),
        make_point(stream_id="a", seq=2, start_s=0.5, end_s=1.0),
        make_marked(stream_id="a", seq=2),
        make_gap(stream_id="a", seq=3, channel=1, final=False),
        make_segment(stream_id="a", seq=4, final=False),
        make_alert(stream_id="a", seq=5, alert_id="x"),
        make_alert(stream_id="a", seq=6, alert_id="y"),
        make_alert(stream_id="a", seq=7, alert_id="x", state="cleared"),
    ):
        bus.publish(result)
    first, second = live.snapshot()
    assert first.opened == make_opened("a")
    assert first.last_seq == 7
    assert [channel.channel for channel in first.channels] == [0, 1]
    assert first.channels[0].point == make_point(stream_id="a", seq=2, start_s=0.5, end_s=1.0)
    assert first.channels[0].span == make_segment(stream_id="a", seq=4, final=False)
    assert first.channels[1].point is None
    assert first.channels[1].span == make_gap(stream_id="a", seq=3, channel=1, final=False)
    assert first.alerts == (make_alert(stream_id="a", seq=6, alert_id="y"),)
    assert (second.opened, second.channels, second.last_seq) == (make_opened("b"), (), 0)
    assert live.snapshot("b") == (second,)
    assert live.snapshot("c") == ()
    assert len(live) == 2


@virtual_time
async def test_a_snapshot_and_a_subscription_join():
    bus = Bus()
    live = LiveStreams(bus)
    bus.publish(make_opened())
    bus.publish(make_point(seq=1))
    subscription = bus.subscribe(name="feed", capacity=10)
    (stream,) = live.snapshot()
    bus.publish(make_point(seq=2))
    later = [result.seq for result in subscription.take_waiting()]
    assert (stream.last_seq, later) == (1, [2])


@virtual_time
async def test_a_closed_stream_is_forgotten_and_strangers_are_ignored():
    bus = Bus()
    live = LiveStreams(bus)
    following = asyncio.ensure_future(live.run())
    for result in (
        make_opened(),
        make_point(seq=1),
        make_closed(seq=2),
        make_point(stream_id="unknown"),
    ):
        bus.publish(result)
    bus.close()
    await following
    assert live.snapshot() == ()


@virtual_time
async def test_closing_ends_following():
    bus = Bus()
    live = LiveStreams(bus)
    following = asyncio.ensure_future(live.run())
    await asyncio.sleep(0)
    live.close()
    await following
    assert bus.subscriptions == ()
