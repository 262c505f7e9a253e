from __future__ import annotations

import random

from mic_client.microphone import CaptureQueue, OverflowMeter
from mic_client.sources import Chunk, Lost, SourceItem

RATE_HZ = 16_000
BLOCK = 640


def test_an_overflow_costs_what_the_clock_says():
    meter = OverflowMeter(RATE_HZ)
    jitter = random.Random(0)
    at_s = 100.0
    for _ in range(50):
        assert meter.take(at_s + jitter.uniform(-0.002, 0.002), BLOCK, False) == 0
        at_s += BLOCK / RATE_HZ
    at_s += 0.5
    lost = meter.take(at_s, BLOCK, True)
    assert abs(lost - RATE_HZ // 2) < 0.004 * RATE_HZ
    at_s += BLOCK / RATE_HZ
    assert meter.take(at_s, BLOCK, False) == 0
    at_s += BLOCK / RATE_HZ + 0.25
    assert abs(meter.take(at_s, BLOCK, True) - RATE_HZ // 4) < 0.004 * RATE_HZ


def test_a_clock_that_drifts_is_no_loss():
    meter = OverflowMeter(RATE_HZ)
    for number in range(100_000):
        meter.take(number * BLOCK / RATE_HZ * 1.0001, BLOCK, False)
    assert meter.take(100_000 * BLOCK / RATE_HZ * 1.0001, BLOCK, True) < 5


def test_an_overflow_before_anything_is_known_costs_nothing():
    assert OverflowMeter(RATE_HZ).take(5.0, BLOCK, True) == 0


def take_all(queue: CaptureQueue) -> list[SourceItem]:
    items = []
    while (item := queue.take()) is not None:
        items.append(item)
    return items


def put(queue: CaptureQueue, number: int, overflowed: bool = False) -> None:
    queue.put(bytes([number]), BLOCK, number * BLOCK / RATE_HZ, overflowed)


def test_blocks_come_in_order_and_wake_the_reader():
    woken = []
    queue = CaptureQueue(8, RATE_HZ, lambda: woken.append(True))
    for number in range(3):
        put(queue, number)
    assert take_all(queue) == [Chunk(b"\0"), Chunk(b"\1"), Chunk(b"\2")]
    assert len(woken) == 3


def test_a_full_queue_loses_the_newest_and_says_where():
    queue = CaptureQueue(2, RATE_HZ, lambda: None)
    for number in range(5):
        put(queue, number)
    assert queue.take() == Chunk(b"\0")
    assert queue.take() == Chunk(b"\1")
    put(queue, 5)
    assert take_all(queue) == [Lost(3 * BLOCK), Chunk(b"\5")]


def test_what_was_lost_at_the_end_is_told():
    queue = CaptureQueue(1, RATE_HZ, lambda: None)
    for number in range(3):
        put(queue, number)
    assert take_all(queue) == [Chunk(b"\0")]
    assert queue.take_rest() == Lost(2 * BLOCK)
    assert queue.take_rest() is None


def test_what_the_system_lost_stands_before_the_block():
    queue = CaptureQueue(8, RATE_HZ, lambda: None)
    put(queue, 0)
    put(queue, 3, overflowed=True)
    assert take_all(queue) == [Chunk(b"\0"), Lost(2 * BLOCK), Chunk(b"\3")]
