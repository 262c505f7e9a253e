from __future__ import annotations

import asyncio

from stream_server.bus import LocalBus
from stream_server.feed.live import LiveStreams
from stream_server.protocol.results import Result
from tests.support.timeline import (
    make_alert,
    make_closed,
    make_gap,
    make_opened,
    make_point,
    make_segment,
)
from tests.support.virtual_time import virtual_time


def standing(*results: Result) -> list[Result]:
    """Publish results of stream ``s1``; return how it stands."""
    bus = LocalBus()
    live = LiveStreams(bus)
    for result in results:
        bus.publish(result)
    stream = live.snapshot().get("s1")
    return stream.results if stream else []


async def test_a_stream_is_live_from_open_to_close():
    assert standing(make_opened()) == [make_opened()]
    assert standing(make_opened(), make_closed()) == []


async def test_the_last_point_of_each_channel_is_kept():
    points = [
        make_point(0, seq=1),
        make_point(0, seq=2, channel=1),
        make_point(0.5, seq=3),
    ]
    assert standing(make_opened(), *points) == [make_opened(), points[1], points[2]]


async def test_what_goes_on_is_kept_until_it_is_final():
    going_on = make_segment(final=False, seq=1)
    assert standing(make_opened(), going_on) == [make_opened(), going_on]
    assert standing(make_opened(), going_on, make_segment(seq=2)) == [make_opened()]
    gap = make_gap(final=False, seq=2)
    assert standing(make_opened(), make_segment(seq=1), gap) == [make_opened(), gap]


async def test_raised_alerts_are_kept():
    raised = make_alert(seq=1)
    assert standing(make_opened(), raised) == [make_opened(), raised]
    assert standing(make_opened(), raised, make_alert("cleared", seq=2)) == [make_opened()]


async def test_results_of_unknown_streams_are_ignored():
    assert standing(make_point()) == []


async def test_it_knows_the_last_result_published_before_it_is_asked():
    bus = LocalBus()
    live = LiveStreams(bus)
    bus.publish(make_opened())
    assert live.snapshot()["s1"].last_seq == 0
    bus.publish(make_point(seq=1))
    assert live.snapshot()["s1"].last_seq == 1
    assert live.snapshot()["s1"].roles == {"customer"}


@virtual_time
async def test_it_keeps_up_although_nobody_asks():
    bus = LocalBus()
    async with LiveStreams(bus):
        bus.publish(make_opened())
        assert [one.pending for one in bus.subscriptions] == [1]
        await asyncio.sleep(1)
        assert [one.pending for one in bus.subscriptions] == [0]
    assert bus.subscriptions == ()
