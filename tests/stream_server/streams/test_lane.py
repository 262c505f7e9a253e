"""Windows on their way to an engine that is slow, or broken in ways nobody thought of."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import numpy as np
import pytest

from ser_engine.core.queue import Priority
from ser_engine.errors import EngineOverloadedError
from ser_engine.types import Window, WindowResult
from stream_server.streams.lane import supersedes
from stream_server.wire.results import Summary
from tests.stream_server.streams.timelines import gaps, tiles
from tests.support.live_lab import (
    LabEngine,
    level,
    live_lab,
    pace,
    pcm,
    receive_all,
    receive_until,
    send,
    start,
)
from tests.support.virtual_time import virtual_time


class BrokenEngine(LabEngine):
    """Fails on its second window."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how

    async def score(self, window: Window, priority: Priority = Priority.LIVE) -> WindowResult:
        result = await super().score(window, priority)
        if len(self.priorities) != 2:
            return result
        if self.how == "refuses":
            raise EngineOverloadedError("too many windows wait")
        if self.how == "raises":
            raise ConnectionResetError("the engine's machine is gone")
        return replace(result, logits=np.zeros((len(result.logits), 2), np.float32))


@pytest.mark.parametrize("how", ["raises", "other classes"])
@virtual_time
async def test_an_engine_that_fails_in_an_unknown_way_costs_one_window(how: str):
    loop = asyncio.get_running_loop()
    engine = BrokenEngine(how)
    engine.delay_s = 0.4
    async with live_lab(engine) as lab, lab.connect() as socket:
        await socket.send(start())
        await socket.send(pcm(level(3, 0.1)))
        await send(socket, type="stop")
        stopped_s = loop.time()
        seen = await receive_until(socket, Summary)
    assert loop.time() - stopped_s < 8 * 0.4
    assert list(gaps(seen)) == ["error"]
    assert tiles(seen)[-1][1] == 48_000


@virtual_time
async def test_a_window_the_engine_has_no_room_for_is_told_by_the_next_and_counted():
    async with live_lab(BrokenEngine("refuses")) as lab, lab.connect() as socket:
        await socket.send(start())
        await pace(socket, pcm(level(3, 0.1)))
        await send(socket, type="stop")
        seen = await receive_until(socket, Summary)
        exposition = lab.metrics.exposition().decode()
    assert gaps(seen) == {}
    assert tiles(seen) == [(0, 48_000, "angry")]
    assert 'emotion_monitor_windows_total{outcome="refused"} 1.0' in exposition


@virtual_time
async def test_who_has_caught_up_with_time_is_live_again():
    engine = LabEngine()
    engine.delay_s = 0.6  # More than a step: a window waits whenever one is answered.
    async with live_lab(engine) as lab, lab.connect() as socket:
        await socket.send(start())
        reader = asyncio.create_task(receive_all(socket))
        await socket.send(pcm(level(6, 0.1)))
        await asyncio.sleep(6)
        await pace(socket, pcm(level(20, 0.1)))
        await send(socket, type="stop")
        await reader
    assert engine.priorities[1] is Priority.OFFLINE
    assert engine.priorities[-10:] == [Priority.LIVE] * 10


def window(start: int, end: int) -> Window:
    return Window(np.zeros(end - start, dtype=np.float32), start)


@pytest.mark.parametrize(
    ("newer", "older", "expected"),
    [
        (window(320, 4000), window(0, 3200), True),
        (window(0, 4000), window(0, 3200), True),
        (window(3200, 4000), window(0, 3200), False),
        (window(0, 3200), window(320, 4000), False),
        (window(0, 3200), window(0, 3200), False),
    ],
)
def test_a_later_window_that_overlaps_supersedes(newer: Window, older: Window, expected: bool):
    assert supersedes(newer, older) is expected
