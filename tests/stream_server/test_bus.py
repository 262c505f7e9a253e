from __future__ import annotations

import asyncio

import pytest

from stream_server.bus import Bus, SubscriberFigures, Subscription, of_stream
from stream_server.wire.results import Result
from tests.support.results import make_closed, make_opened, make_point, make_segment
from tests.support.virtual_time import virtual_time


async def read_all(subscription: Subscription) -> list[Result]:
    return [result async for result in subscription]


@virtual_time
async def test_every_subscriber_gets_every_result_in_order():
    bus = Bus()
    subscriptions = [bus.subscribe(name=f"s{number}", capacity=10) for number in range(25)]
    readers = [asyncio.ensure_future(read_all(one)) for one in subscriptions]
    await asyncio.sleep(0)
    results: list[Result] = [
        make_opened(),
        make_point(seq=1),
        make_segment(seq=2),
        make_closed(seq=3),
    ]
    for result in results:
        bus.publish(result)
    bus.close()
    assert await asyncio.gather(*readers) == [results] * 25


@virtual_time
async def test_a_subscriber_says_which_results_it_wants():
    bus = Bus()
    one = bus.subscribe(name="one", capacity=10, wants=of_stream("a"))
    bus.publish(make_point(stream_id="a"))
    bus.publish(make_point(stream_id="b"))
    assert one.take_waiting() == [make_point(stream_id="a")]


@virtual_time
async def test_a_stuck_subscriber_harms_nobody():
    bus = Bus()
    stuck = bus.subscribe(name="stuck", capacity=3)
    good = bus.subscribe(name="good", capacity=1000)
    for seq in range(100):
        bus.publish(make_point(seq=seq))
    assert (stuck.pending, stuck.dropped) == (3, 97)
    assert (good.pending, good.dropped) == (100, 0)
    assert [result.seq for result in stuck.take_waiting()] == [97, 98, 99]


@virtual_time
async def test_a_filter_that_raises_ends_its_own_subscription_only():
    def wants(result: Result) -> bool:
        raise ZeroDivisionError

    bus = Bus()
    bad = bus.subscribe(name="bad", capacity=10, wants=wants)
    good = bus.subscribe(name="good", capacity=10)
    reader = asyncio.ensure_future(read_all(bad))
    await asyncio.sleep(0)
    bus.publish(make_point())
    with pytest.raises(ZeroDivisionError):
        await reader
    assert good.pending == 1
    assert bus.subscriptions == (good,)


@virtual_time
async def test_what_waits_is_read_before_a_closed_bus_ends():
    bus = Bus()
    subscription = bus.subscribe(name="one", capacity=10)
    bus.publish(make_point())
    bus.close()
    bus.publish(make_point(seq=2))
    assert await read_all(subscription) == [make_point()]


@virtual_time
async def test_closing_a_subscription_wakes_its_reader():
    bus = Bus()
    subscription = bus.subscribe(name="one", capacity=10)
    reader = asyncio.ensure_future(read_all(subscription))
    await asyncio.sleep(0)
    subscription.close()
    assert await reader == []
    assert bus.subscriptions == ()
    bus.publish(make_point())
    assert subscription.pending == 0


@virtual_time
async def test_leaving_the_block_closes_the_subscription():
    bus = Bus()
    async with bus.subscribe(name="one", capacity=10) as subscription:
        bus.publish(make_point())
        assert subscription.pending == 1
    assert bus.subscriptions == ()
    assert subscription.merged == 0
    await subscription.aclose()
    assert await read_all(subscription) == []


@virtual_time
async def test_subscribing_to_a_closed_bus_ends_at_once():
    bus = Bus()
    bus.close()
    assert await read_all(bus.subscribe(name="late", capacity=1)) == []


@virtual_time
async def test_a_batch_holds_what_waits_up_to_its_size():
    bus = Bus()
    subscription = bus.subscribe(name="one", capacity=10)
    waiting = asyncio.ensure_future(subscription.batch(2))
    await asyncio.sleep(0)
    for seq in range(3):
        bus.publish(make_point(seq=seq))
    assert [result.seq for result in await waiting] == [0, 1]
    assert [result.seq for result in await subscription.batch(2)] == [2]
    bus.close()
    assert await subscription.batch(2) == []


@virtual_time
async def test_a_reader_that_is_cancelled_loses_nothing():
    bus = Bus()
    subscription = bus.subscribe(name="one", capacity=10)
    reader = asyncio.ensure_future(subscription.batch(10))
    await asyncio.sleep(0)
    bus.publish(make_point())
    reader.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reader
    assert await subscription.batch(10) == [make_point()]


@virtual_time
async def test_a_second_reader_is_refused():
    bus = Bus()
    subscription = bus.subscribe(name="one", capacity=10)
    first = asyncio.ensure_future(subscription.batch(10))
    await asyncio.sleep(0)
    with pytest.raises(RuntimeError, match="second reader of the subscription 'one'"):
        await subscription.batch(10)
    bus.close()
    assert await first == []


@virtual_time
async def test_a_result_published_from_a_filter_of_one_that_was_closed_is_not_kept():
    bus = Bus()
    other: list[Subscription] = []

    def closes_the_other(result: Result) -> bool:
        other[0].close()
        return True

    first = bus.subscribe(name="first", capacity=10, wants=closes_the_other)
    other.append(bus.subscribe(name="other", capacity=10))
    bus.publish(make_point())
    assert (first.pending, other[0].pending) == (1, 0)


def test_figures_count_subscribers_that_have_gone_too():
    bus: Bus = Bus()
    first = bus.subscribe(name="sse", capacity=2)
    for seq in range(5):
        bus.publish(make_point(seq=seq))
    second = bus.subscribe(name="sse", capacity=2)
    for seq in range(5, 8):
        bus.publish(make_point(seq=seq))
    assert bus.figures() == {"sse": SubscriberFigures(2, pending=4, dropped=7)}
    first.close()
    first.close()
    assert bus.figures() == {"sse": SubscriberFigures(1, pending=2, dropped=7)}
    second.close()
    assert bus.figures() == {"sse": SubscriberFigures(dropped=7)}
