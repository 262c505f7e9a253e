"""Stalls and pauses of a TCP connection, told apart by what comes after."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream_server.tracks.drift import MAX_HELD_S, ArrivalTimes

RATE = 8000
FRAME = 160
WAIT_MS = 200
DELAY = 40  # of the network, always


def frame(number: int, samples: int = FRAME) -> bytes:
    return number.to_bytes(2, "little") * samples


def sent(numbers: Iterable[int], *, late: dict[int, int] | None = None, shift: int = 0):
    """Return frames and when they come: at their end, or as late as said."""
    late = late or {}
    came, at = [], 0
    for number in numbers:
        at = max(at, (number + 1) * FRAME + DELAY + shift + late.get(number, 0))
        came.append((frame(number), at))
    return came


def placed(came: Iterable[tuple[bytes, int]], *, flush: bool = True) -> list[tuple[int, int]]:
    """Return the frames' numbers and the times they are given, less the network's delay."""
    times = ArrivalTimes(RATE, WAIT_MS)
    out = [each for data, at in came for each in times.put(data, at)]
    if flush:
        out += times.flush()
    return [(int.from_bytes(data[:2], "little"), at - DELAY) for data, at in out]


def in_place(numbers: Iterable[int], shift: int = 0) -> list[tuple[int, int]]:
    return [(number, number * FRAME + shift) for number in numbers]


def test_a_steady_sender_is_taken_at_its_word():
    assert placed(sent(range(50))) == in_place(range(50))


def test_what_is_a_little_late_keeps_its_time():
    assert placed(sent(range(4), late={2: 90, 3: 0})) == [(0, 0), (1, 160), (2, 410), (3, 480)]


@pytest.mark.parametrize("stall_frames", [12, 50, 300])
def test_a_burst_after_a_stall_is_where_it_belongs(stall_frames: int):
    late = {10 + n: (stall_frames - n) * FRAME for n in range(stall_frames)}
    got = placed(sent(range(400), late=late))
    assert [number for number, _ in got] == list(range(400))
    assert all(abs(at - number * FRAME) <= 0.06 * RATE for number, at in got if number > 30 + 300)
    # The clock may have moved on by what senders may drift in the meantime.
    slack = round((stall_frames + 1) * FRAME * 0.0005) + 1
    released = [each for each in got if 10 <= each[0] < stall_frames]
    assert all(abs(at - number * FRAME) <= slack for number, at in released)


@pytest.mark.parametrize("pause_frames", [15, 100, 5000])
def test_audio_after_a_pause_is_that_much_later(pause_frames: int):
    before, after = range(20), range(20 + pause_frames, 60 + pause_frames)
    came = [
        *sent(before),
        *((frame(n), at) for n, (_, at) in zip(range(20, 60), sent(after), strict=True)),
    ]
    assert placed(came) == [
        *in_place(before),
        *((number, (number + pause_frames) * FRAME) for number in range(20, 60)),
    ]


def test_it_is_known_after_so_much_time_at_most():
    times = ArrivalTimes(RATE, WAIT_MS)
    times.put(frame(0), FRAME)
    late = 4 * RATE
    for number in range(10):
        assert times.put(frame(number + 1), late + number * FRAME) == []
    assert len(times.put(frame(11), late + 10 * FRAME)) == 11


def test_the_end_lets_go_of_what_is_held():
    came = [*sent(range(5)), (frame(5), 50_000)]
    assert placed(came, flush=False) == in_place(range(5))
    assert placed(came)[-1] == (5, 50_000 - FRAME - DELAY)
    assert ArrivalTimes(RATE, WAIT_MS).flush() == []


def test_little_is_held_however_much_comes_at_once():
    times = ArrivalTimes(RATE, WAIT_MS)
    times.put(frame(0), FRAME)
    second = frame(1, RATE)
    late = 100 * RATE
    out = [len(times.put(second, late)) for _ in range(MAX_HELD_S)]
    assert out == [*[0] * (MAX_HELD_S - 1), MAX_HELD_S]


def test_a_slow_clock_is_not_late_after_hours():
    slow = [(frame(n % 60_000), round((n + 1) * FRAME * 1.0003)) for n in range(20_000)]
    times = ArrivalTimes(RATE, WAIT_MS)
    assert all(len(times.put(data, at)) == 1 for data, at in slow)


@given(
    st.lists(st.tuples(st.integers(0, 500), st.integers(0, 20_000)), max_size=60),
    st.integers(20, 2000),
)
def test_all_comes_out_in_order_and_never_from_the_future(
    steps: list[tuple[int, int]], wait_ms: int
) -> None:
    times = ArrivalTimes(RATE, wait_ms)
    now, count, out = 0, 0, []
    for samples, step in steps:
        now += step
        released = times.put(bytes(2 * samples), now)
        count += samples
        assert all(at + len(data) // 2 <= now for data, at in released)
        out += released
    out += times.flush()
    assert sum(len(data) // 2 for data, _ in out) == count
    assert len(out) == len(steps)
