"""A server that cannot keep up widens the step before it loses anything, and says so."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from ser_engine.core.queue import Priority
from stream_server.wire.messages import Heartbeat
from stream_server.wire.results import Point, Summary, Warning
from tests.stream_server.streams.timelines import gaps, points, tiles
from tests.support.live_lab import (
    Lab,
    LabEngine,
    chunks,
    level,
    live_lab,
    pace,
    pcm,
    receive_all,
    receive_until,
    send,
    start,
    stream,
)
from tests.support.virtual_time import current_loop, virtual_time

STEP = 8000


async def live(lab: Lab, seconds: float, delay_s: float = 0.0) -> list[Any]:
    """Stream in real time; return everything up to the summary."""
    await asyncio.sleep(delay_s)
    async with lab.connect() as socket:
        await socket.send(start())
        reader = asyncio.create_task(receive_all(socket))
        await pace(socket, pcm(level(seconds, 0.1)))
        await send(socket, type="stop")
        seen, code = await reader
        assert code == 1000
        return seen


def warnings(seen: list[Any]) -> list[str]:
    return [m.code for m in seen if isinstance(m, Warning)]


@pytest.mark.parametrize("delay_s", [0.45, 0.7, 1.3, 2.6])
@virtual_time
async def test_a_slow_engine_widens_the_step_and_loses_nothing(delay_s: float):
    engine = LabEngine()
    engine.delay_s = delay_s
    async with live_lab(engine) as lab:
        seen = await live(lab, 20)
    assert gaps(seen) == {}
    assert tiles(seen) == [(0, 20 * 16_000, "angry")]
    widened = [m for m in seen if isinstance(m, Point) and m.widened]
    assert bool(widened) == (delay_s > 0.5)
    beats = [m for m in seen if isinstance(m, Heartbeat)]
    # The newest window goes in when the one before it is answered.
    assert beats[-1].effective_step_ms == pytest.approx(1000 * max(delay_s, 0.5), rel=0.15)
    assert beats[-1].real_time_factor > delay_s / 3
    # The lag is bounded by the engine's delay and what the window waits for it.
    assert max(beat.lag_ms for beat in beats) <= 240 + 500 + 2 * 1000 * max(delay_s, 0.5)


@virtual_time
async def test_a_pause_is_no_longer_step():
    async with live_lab() as lab, lab.connect() as socket:
        await socket.send(start())
        reader = asyncio.create_task(receive_all(socket))
        await pace(socket, pcm(level(4, 0.1)))
        await send(socket, type="discarded", samples=60 * 16_000)
        await pace(socket, pcm(level(4, 0.1)))
        await send(socket, type="stop")
        seen, _ = await reader
    assert tiles(seen)[-1][1] == 68 * 16_000
    assert {m.effective_step_ms for m in seen if isinstance(m, Heartbeat)} == {500.0}


@virtual_time
async def test_beyond_the_window_it_says_what_is_missing():
    engine = LabEngine()
    engine.delay_s = 6.0
    async with live_lab(engine) as lab:
        seen = await live(lab, 40)
    lost = gaps(seen)
    assert list(lost) == ["overload"]
    assert 0 < lost["overload"] < 30 * 16_000
    assert tiles(seen)[-1][1] == 40 * 16_000


@virtual_time
async def test_it_recovers_by_itself():
    engine = LabEngine()
    engine.delay_s = 1.4
    async with live_lab(engine) as lab, lab.connect() as socket:
        await socket.send(start())
        reader = asyncio.create_task(receive_all(socket))
        sender = asyncio.create_task(pace(socket, pcm(level(40, 0.1))))
        await asyncio.sleep(15)
        engine.delay_s = 0.01
        await sender
        await send(socket, type="stop")
        seen, _ = await reader
    late = [m for m in seen if isinstance(m, Point) and m.start_s > 18]
    assert len(late) >= 40
    assert not any(point.widened for point in late)
    beats = [m for m in seen if isinstance(m, Heartbeat)]
    assert beats[-1].effective_step_ms == pytest.approx(500, rel=0.1)
    assert max(beat.effective_step_ms for beat in beats) > 1200


@virtual_time
async def test_streams_share_a_slow_engine_evenly():
    engine = LabEngine()
    engine.delay_s = 0.3
    async with live_lab(engine) as lab:
        every = await asyncio.gather(*(live(lab, 20, 0.05 * number) for number in range(4)))
    counts = [len(points(seen)) for seen in every]
    assert max(counts) - min(counts) <= 2
    assert all(gaps(seen) == {} for seen in every)
    assert sum(counts) < 4 * 40  # it was overloaded


@virtual_time
async def test_a_recording_waits_and_nothing_is_widened():
    engine = LabEngine()
    engine.delay_s = 2.0
    async with live_lab(engine) as lab:
        seen = await stream(lab, chunks(pcm(level(30, 0.1)), 64_000), live=False)
    assert gaps(seen) == {}
    assert len(points(seen)) == 61
    assert not any(m.widened for m in seen if isinstance(m, Point))
    assert set(engine.priorities) == {Priority.OFFLINE}
    assert "faster_than_real_time" not in warnings(seen)


@virtual_time
async def test_live_audio_ahead_of_time_waits_too_and_the_client_is_told():
    async with live_lab() as lab:
        seen = await stream(lab, chunks(pcm(level(30, 0.1)), 64_000))
    assert gaps(seen) == {}
    assert not any(m.widened for m in seen if isinstance(m, Point))
    assert warnings(seen).count("faster_than_real_time") == 1
    assert set(lab.engine.priorities[4:]) == {Priority.OFFLINE}


@virtual_time
async def test_a_burst_after_a_stall_is_scored_window_by_window():
    async with live_lab() as lab, lab.connect() as socket:
        await socket.send(start())
        await pace(socket, pcm(level(3, 0.1)))
        await asyncio.sleep(8)
        await socket.send(pcm(level(8, 0.1)))
        await pace(socket, pcm(level(1, 0.1)))
        await send(socket, type="stop")
        seen = await receive_until(socket, Summary)
    assert gaps(seen) == {}
    assert not any(m.widened for m in seen if isinstance(m, Point))
    assert set(lab.engine.priorities) == {Priority.LIVE}


@virtual_time
async def test_windows_before_a_gap_are_not_given_up():
    engine = LabEngine()
    engine.delay_s = 1.7
    async with live_lab(engine) as lab, lab.connect() as socket:
        await socket.send(start())
        reader = asyncio.create_task(receive_all(socket))
        for _ in range(6):
            await pace(socket, pcm(level(0.7, 0.1)))
            await send(socket, type="discarded", samples=1600)
        await send(socket, type="stop")
        seen, _ = await reader
    assert gaps(seen) == {"discarded": 6 * 1600}


@virtual_time
async def test_the_operator_sees_what_was_given_up():
    engine = LabEngine()
    engine.delay_s = 1.3
    async with live_lab(engine) as lab:
        await live(lab, 10)
    text = lab.metrics.exposition().decode()
    skipped = next(
        line
        for line in text.splitlines()
        if line.startswith("emotion_monitor_windows_skipped_total")
    )
    assert float(skipped.split()[-1]) > 5
    assert current_loop().time() > 10
