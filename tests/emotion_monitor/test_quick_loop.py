from __future__ import annotations

import asyncio
import sys

import pytest

from emotion_monitor.event_loop import SWITCH_INTERVAL_S, run


@pytest.fixture(autouse=True)
def usual_switch_interval():
    before = sys.getswitchinterval()
    yield
    sys.setswitchinterval(before)


async def answer() -> tuple[int, str]:
    await asyncio.sleep(0)
    return 42, type(asyncio.get_running_loop()).__module__


def test_runs_a_coroutine_on_uvloop():
    result, loop = run(answer())
    assert result == 42
    assert loop.startswith("uvloop")
    assert sys.getswitchinterval() == pytest.approx(SWITCH_INTERVAL_S)


def test_without_uvloop_it_runs_all_the_same(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "uvloop", None)
    result, loop = run(answer())
    assert result == 42
    assert loop.startswith("asyncio")
