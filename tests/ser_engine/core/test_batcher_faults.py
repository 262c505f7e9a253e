from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ser_engine.config import BatchingConfig, EngineConfig
from ser_engine.core.batcher import Batcher
from ser_engine.core.queue import Priority
from ser_engine.errors import (
    EngineDeadError,
    EngineOverloadedError,
    StreamBusyError,
    WindowError,
)
from ser_engine.types import Window, WindowResult
from tests.support.batcher_lab import Lab, lab, mark_of, outcomes
from tests.support.fake_core import FakeCore, a_window
from tests.support.virtual_time import current_loop, run, virtual_time

LIVE, OFFLINE = Priority.LIVE, Priority.OFFLINE
LONG_S = 30.0


# -- Faults --------------------------------------------------------------------------------------


@virtual_time
async def test_a_window_the_core_finds_fault_with_fails_alone() -> None:
    async with lab() as it:
        it.faulty.add(1)
        tasks = [it.submit(mark) for mark in range(3)]
        assert await outcomes(tasks) == [0, WindowError, 2]
        assert it.batches == [[0, 1, 2]]


@virtual_time
async def test_a_window_that_makes_the_core_raise_fails_alone() -> None:
    async with lab() as it:
        it.poisoned[1] = ValueError("odd shape")
        tasks = [it.submit(mark, str(mark)) for mark in range(3)]
        assert await outcomes(tasks) == [0, WindowError, 2]
        assert it.batches == [[0, 1, 2], [0], [1], [2]]
        error = tasks[1].exception()
        assert "the engine raised ValueError: odd shape" in str(error)
        assert it.batcher.stats.retries == 3
        assert it.batcher.stats.workers_lost == 0
        assert await outcomes([it.submit(mark, str(mark)) for mark in (0, 2)]) == [0, 2]


@virtual_time
async def test_a_single_window_is_not_run_twice() -> None:
    async with lab() as it:
        it.poisoned[0] = ValueError("odd shape")
        assert await outcomes([it.submit(0)]) == [WindowError]
        assert it.batches == [[0]]


@virtual_time
async def test_a_cancelled_window_is_not_run_alone() -> None:
    async with lab() as it:
        it.poisoned[0] = ValueError("odd shape")
        tasks = [it.submit(mark, str(mark)) for mark in range(3)]
        await asyncio.sleep(0.5)
        tasks[1].cancel()
        assert await outcomes(tasks) == [WindowError, asyncio.CancelledError, 2]
        assert it.batches == [[0, 1, 2], [0], [2]]
        assert mark_of(await it.submit(5, "1")) == 5


@pytest.mark.parametrize("error", [EngineDeadError("device gone"), SystemExit(1)])
def test_a_worker_that_dies_is_replaced(error: BaseException) -> None:
    @virtual_time
    async def test() -> None:
        async with lab() as it:
            it.poisoned[1] = error
            ran = [it.submit(mark, str(mark)) for mark in range(2)]
            await asyncio.sleep(0.5)
            waited = it.submit(5, "5")
            assert await outcomes([*ran, waited]) == [WindowError, WindowError, 5]
            assert len(it.cores) == 2
            assert it.batches == [[0, 1], [5]]
            assert it.batcher.stats.restarts == it.batcher.stats.workers_lost == 1
            assert mark_of(await it.submit(0, "0")) == 0

    test()


@virtual_time
async def test_a_step_that_hangs_is_given_up() -> None:
    async with lab(step_timeout_s=60.0) as it:
        it.step_s = None
        ran = it.submit(0)
        await asyncio.sleep(1)
        it.step_s = 1.0
        waited = it.submit(1)
        assert await outcomes([ran]) == [WindowError]
        assert current_loop().time() == pytest.approx(60, abs=0.1)
        assert await outcomes([waited]) == [1]


@pytest.mark.parametrize("error", [EngineDeadError("device gone"), SystemExit(1)])
def test_a_batch_that_was_handed_over_early_survives_the_worker(error: BaseException) -> None:
    @virtual_time
    async def test() -> None:
        async with lab(max_batch_size=2) as it:
            it.poisoned[0] = error
            tasks = [it.submit(mark, str(mark)) for mark in range(5)]
            assert await outcomes(tasks) == [WindowError, WindowError, 2, 3, 4]
            assert it.batches == [[0, 1], [2, 3], [4]]
            assert it.batcher.stats.restarts == 1
            assert [mark_of(await it.submit(mark, str(mark))) for mark in (2, 3)] == [2, 3]

    test()


@virtual_time
async def test_a_batch_that_was_handed_over_early_can_lose_the_worker_itself() -> None:
    async with lab(max_batch_size=2) as it:
        it.poisoned[2] = SystemExit(1)
        tasks = [it.submit(mark, str(mark)) for mark in range(6)]
        assert await outcomes(tasks) == [0, 1, WindowError, WindowError, 4, 5]
        assert it.batches == [[0, 1], [2, 3], [4, 5]]
        assert it.batcher.stats.restarts == it.batcher.stats.workers_lost == 1


@virtual_time
async def test_a_step_that_hangs_takes_no_batch_with_it() -> None:
    async with lab(max_batch_size=2, step_timeout_s=60.0) as it:
        it.step_s = None
        tasks = [it.submit(mark, str(mark)) for mark in range(4)]
        await asyncio.sleep(1)
        it.step_s = 1.0
        assert await outcomes(tasks) == [WindowError, WindowError, 2, 3]
        assert current_loop().time() == pytest.approx(61, abs=0.1)


@virtual_time
async def test_a_batch_that_was_handed_over_early_has_a_timeout_of_its_own() -> None:
    async with lab(max_batch_size=2, step_timeout_s=60.0) as it:
        it.step_s = 50.0
        tasks = [it.submit(mark, str(mark)) for mark in range(4)]
        assert await outcomes(tasks) == [0, 1, 2, 3]
        assert it.batcher.stats.step_s == pytest.approx(100, abs=0.1)
        assert it.batcher.stats.queue_wait_s == pytest.approx(100, abs=0.1)


@virtual_time
async def test_a_batch_runs_one_by_one_after_the_one_handed_over_early() -> None:
    async with lab(max_batch_size=2) as it:
        it.poisoned[1] = ValueError("odd shape")
        tasks = [it.submit(mark, str(mark)) for mark in range(4)]
        assert await outcomes(tasks) == [0, WindowError, 2, 3]
        assert it.batches == [[0, 1], [2, 3], [0], [1]]


@virtual_time
async def test_windows_that_had_not_run_alone_yet_survive_the_worker() -> None:
    async with lab() as it:
        it.poisoned[0] = ValueError("the batch fails")
        it.poisoned[1] = EngineDeadError("this one kills")
        tasks = [it.submit(mark, str(mark)) for mark in range(4)]
        assert await outcomes(tasks) == [WindowError, WindowError, 2, 3]
        assert it.batches == [[0, 1, 2, 3], [0], [1], [2, 3]]


@virtual_time
async def test_a_core_that_only_raises_is_replaced() -> None:
    async with lab(max_batch_size=16) as it:
        broken = {mark: RuntimeError("context lost") for mark in range(12)}
        it.poisoned.update(broken)
        tasks = [it.submit(mark, str(mark)) for mark in range(12)]
        await asyncio.sleep(0)
        while len(it.cores) == 1:
            await asyncio.sleep(0.5)
            if it.batcher.stats.restarts:
                it.poisoned.clear()
        assert await outcomes(tasks) == [WindowError] * 8 + [8, 9, 10, 11]


@virtual_time
async def test_the_engine_is_dead_after_its_last_restart() -> None:
    async with lab(max_restarts=1, max_batch_size=1) as it:
        it.poisoned |= {0: SystemExit(1), 1: SystemExit(1)}
        tasks = [it.submit(mark) for mark in range(4)]
        assert await outcomes(tasks) == [WindowError, WindowError, EngineDeadError, EngineDeadError]
        assert not it.batcher.is_alive
        with pytest.raises(EngineDeadError, match="dead after 1 restarts: SystemExit"):
            await it.submit(9)


@virtual_time
async def test_a_core_that_is_not_brought_back_at_once_is_tried_for_again() -> None:
    async with lab(max_restarts=3) as it:
        it.poisoned[0] = SystemExit(1)
        it.make_errors = [RuntimeError("device busy"), OSError("no weights")]
        tasks = [it.submit(0)]
        await asyncio.sleep(0.5)
        tasks.append(it.submit(1))
        assert await outcomes(tasks) == [WindowError, 1]
        assert it.batcher.stats.restarts == 3


@virtual_time
async def test_a_core_that_is_never_brought_back_leaves_nobody_waiting() -> None:
    async with lab(max_restarts=2) as it:
        it.poisoned[0] = SystemExit(1)
        tasks = [it.submit(0)]
        await asyncio.sleep(0.5)
        it.make_s = None
        tasks.append(it.submit(1))
        assert await outcomes(tasks) == [WindowError, EngineDeadError]
        assert current_loop().time() == pytest.approx(1201, abs=0.1)


# -- Whatever happens, every caller is answered --------------------------------------------------

Happening = tuple[str, int]

happenings = st.lists(
    st.tuples(
        st.sampled_from(
            ["live", "offline", "wait", "cancel", "faulty", "poison", "kill", "hang", "heal"]
        ),
        st.integers(0, 5),
    ),
    max_size=40,
)


@settings(max_examples=150, deadline=None)
@given(happenings)
def test_every_caller_is_answered_whatever_happens(happenings: list[Happening]) -> None:
    async def scenario() -> None:
        it = Lab(max_batch_size=3, max_pending=6, max_restarts=2, step_timeout_s=10.0)
        await it.batcher.start()
        tasks: list[asyncio.Task[WindowResult]] = []
        for mark, (what, number) in enumerate(happenings):
            if what in ("live", "offline"):
                stream = f"stream {number}" if number else None
                tasks.append(it.submit(mark, stream, LIVE if what == "live" else OFFLINE))
            elif what == "wait":
                await asyncio.sleep(number * 0.4)
            elif what == "cancel" and tasks:
                tasks[number % len(tasks)].cancel()
            elif what == "faulty":
                it.faulty.add(mark + number)
            elif what == "poison":
                it.poisoned[mark + number] = ValueError("odd")
            elif what == "kill":
                it.poisoned[mark + number] = SystemExit(1)
            elif what == "hang":
                it.step_s = None
            else:
                it.step_s = 1.0
        it.step_s = 1.0
        async with asyncio.timeout(1000):
            await asyncio.wait(tasks) if tasks else None
            await it.batcher.aclose()
        for task in tasks:
            if not task.cancelled() and (error := task.exception()):
                assert isinstance(
                    error, WindowError | StreamBusyError | EngineOverloadedError | EngineDeadError
                )
        stats = it.batcher.stats
        assert stats.windows == (
            stats.windows_scored + stats.windows_failed + stats.windows_cancelled
        )
        assert it.batcher.num_pending == 0
        assert stats.restarts <= 2

    run(scenario())


# -- A real thread -------------------------------------------------------------------------------


class BlockingCore(FakeCore):
    """A core whose steps wait for the test."""

    def __init__(self, entered: threading.Event, go_on: threading.Event) -> None:
        super().__init__()
        self.entered, self.go_on = entered, go_on
        self.threads: set[str] = set()

    def step(self, windows: Any) -> list[Any]:
        self.threads.add(threading.current_thread().name)
        self.entered.set()
        assert self.go_on.wait(LONG_S)
        return super().step(windows)


async def test_the_event_loop_goes_on_while_the_core_computes() -> None:
    entered, go_on = threading.Event(), threading.Event()
    core = BlockingCore(entered, go_on)
    batcher = Batcher(lambda: core, EngineConfig(batching=BatchingConfig(max_wait_ms=0)))
    await batcher.start()
    first = asyncio.create_task(batcher.score(a_window(1)))
    assert await asyncio.to_thread(entered.wait, LONG_S)
    second = asyncio.create_task(batcher.score(a_window(2)))
    await asyncio.sleep(0)
    assert batcher.num_pending == 1
    go_on.set()
    assert [mark_of(await first), mark_of(await second)] == [1, 2]
    assert core.threads == {"ser-engine"}
    await batcher.aclose()


def test_a_late_answer_of_a_lost_worker_is_ignored() -> None:
    entered, go_on, left = threading.Event(), threading.Event(), threading.Event()

    class LateCore(BlockingCore):
        def step(self, windows: Any) -> list[Any]:
            try:
                return super().step(windows)
            finally:
                left.set()

    cores: list[Any] = [LateCore(entered, go_on), FakeCore()]

    @virtual_time
    async def test() -> None:
        batcher = Batcher(
            lambda: cores.pop(0), EngineConfig(batching=BatchingConfig(max_wait_ms=0))
        )
        with current_loop().frozen():
            await batcher.start()
            task = asyncio.create_task(batcher.score(a_window(1)))
            await asyncio.to_thread(entered.wait, LONG_S)
        # The clock is free again: with the thread stuck, it runs into the step's timeout. It is
        # stopped there, for the next core is made in a thread of its own.
        await asyncio.sleep(59.9)
        asyncio.get_running_loop().call_at(60.0, current_loop().hold)
        with pytest.raises(WindowError, match="no answer within 60 s"):
            await task
        assert mark_of(await batcher.score(a_window(2))) == 2
        go_on.set()
        await asyncio.to_thread(left.wait, LONG_S)
        assert mark_of(await batcher.score(a_window(3))) == 3
        await batcher.aclose()
        current_loop().release()

    test()


def test_windows_are_let_go_when_they_are_answered() -> None:
    import gc
    import weakref

    @virtual_time
    async def test() -> None:
        async with lab() as it:
            window = Window(a_window(0).samples.copy())
            samples = weakref.ref(window.samples)
            await it.batcher.score(window)
            del window
            await asyncio.sleep(1)
            gc.collect()
            assert samples() is None

    test()
