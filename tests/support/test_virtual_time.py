from __future__ import annotations

import asyncio
import threading
import time

import pytest

from tests.support import virtual_time as module
from tests.support.virtual_time import current_loop, run, virtual_time


@virtual_time
async def test_a_day_takes_no_time() -> None:
    started = time.monotonic()
    await asyncio.sleep(86_400)
    assert current_loop().time() == 86_400
    assert time.monotonic() - started < 10


@virtual_time
async def test_timers_fire_in_order() -> None:
    order: list[str] = []

    async def wait(name: str, seconds: float) -> None:
        await asyncio.sleep(seconds)
        order.append(f"{name} {current_loop().time():g}")

    await asyncio.gather(wait("late", 3), wait("early", 1), wait("middle", 2))
    assert order == ["early 1", "middle 2", "late 3"]


@virtual_time
async def test_the_clock_stands_while_there_is_work() -> None:
    for _ in range(1000):
        await asyncio.sleep(0)
    assert current_loop().time() == 0


@virtual_time
async def test_timeouts_are_virtual() -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(60):
            await asyncio.Event().wait()
    assert current_loop().time() == 60


@virtual_time
async def test_a_frozen_clock_waits_for_a_thread() -> None:
    go_on = threading.Event()
    with current_loop().frozen():
        thread = asyncio.create_task(asyncio.to_thread(go_on.wait, 30))
        await asyncio.sleep(0)
        current_loop().call_soon(go_on.set)
        async with asyncio.timeout(1):
            assert await thread
    assert current_loop().time() == 0


def test_a_loop_that_waits_for_nothing_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    async def stuck() -> None:
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            monkeypatch.undo()

    monkeypatch.setattr(module, "_STUCK_S", 0.01)
    with pytest.raises(RuntimeError, match="does not come"):
        run(stuck())
