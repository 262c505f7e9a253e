from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence

import pytest

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
from tests.support.virtual_time import current_loop, virtual_time

LIVE, OFFLINE = Priority.LIVE, Priority.OFFLINE
LONG_S = 30.0


# -- Batches -------------------------------------------------------------------------------------


@virtual_time
async def test_windows_of_many_streams_share_a_batch() -> None:
    async with lab() as it:
        tasks = [it.submit(mark, f"stream {mark}") for mark in range(3)]
        assert await outcomes(tasks) == [0, 1, 2]
        assert it.batches == [[0, 1, 2]]


@virtual_time
async def test_a_batch_waits_from_its_first_window_and_no_longer() -> None:
    async with lab(max_wait_ms=100.0) as it:
        first = it.submit(0)
        await asyncio.sleep(0.06)
        second = it.submit(1)
        await asyncio.sleep(0.039)
        assert it.batches == []
        await asyncio.sleep(0.002)
        assert it.batches == [[0, 1]]
        await outcomes([first, second])


@virtual_time
async def test_a_full_batch_goes_at_once() -> None:
    async with lab(max_wait_ms=1000.0) as it:
        tasks = [it.submit(mark) for mark in range(4)]
        await asyncio.sleep(0.001)
        assert it.batches == [[0, 1, 2, 3]]
        await outcomes(tasks)
        assert current_loop().time() == pytest.approx(1.0)


@virtual_time
async def test_the_next_batch_collects_while_the_worker_is_busy_and_goes_when_it_is_free() -> None:
    async with lab(max_wait_ms=5.0) as it:
        first = it.submit(0)
        await asyncio.sleep(0.5)
        others = [it.submit(1)]
        await asyncio.sleep(0.3)
        others += [it.submit(2), it.submit(3)]
        await first
        freed_s = current_loop().time()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert it.batches == [[0], [1, 2, 3]]
        assert current_loop().time() == freed_s
        assert await outcomes(others) == [1, 2, 3]


def test_a_full_batch_of_live_windows_waits_in_the_thread_itself() -> None:
    """Nothing but the thread is needed between two full batches."""
    began, go_on, second = threading.Event(), threading.Event(), threading.Event()

    class SteppedCore(FakeCore):
        def step(self, windows: Sequence[Window]) -> list[WindowResult | WindowError]:
            if not self.batches:
                began.set()
                assert go_on.wait(30)
            else:
                second.set()
            return super().step(windows)

    async def test() -> None:
        core = SteppedCore()
        config = EngineConfig(batching=BatchingConfig(max_batch_size=2, max_wait_ms=0))
        batcher = Batcher(lambda: core, config)
        await batcher.start()
        tasks = [asyncio.create_task(batcher.score(a_window(mark))) for mark in range(5)]
        assert await asyncio.to_thread(began.wait, 30)
        assert batcher.num_pending == 1
        # From here on the event loop is not asked: it stands still.
        go_on.set()
        assert second.wait(30)
        assert await outcomes(tasks) == [0, 1, 2, 3, 4]
        assert core.batches == [[0, 1], [2, 3], [4]]
        await batcher.aclose()

    asyncio.run(test())


@virtual_time
async def test_no_window_of_a_file_is_handed_over_early() -> None:
    async with lab(max_batch_size=2) as it:
        files = [it.submit(mark, priority=OFFLINE) for mark in range(4)]
        await asyncio.sleep(0.5)
        live = it.submit(5)
        assert await outcomes([*files, live]) == [0, 1, 2, 3, 5]
        assert it.batches[:2] == [[0, 1], [5]]


@virtual_time
async def test_a_cancelled_window_of_a_batch_handed_over_early_is_dropped() -> None:
    async with lab(max_batch_size=2) as it:
        tasks = [it.submit(mark, str(mark)) for mark in range(4)]
        await asyncio.sleep(0.5)
        tasks[2].cancel()
        assert await outcomes(tasks) == [0, 1, asyncio.CancelledError, 3]
        assert mark_of(await it.submit(7, "2")) == 7


@virtual_time
async def test_closing_withdraws_a_batch_that_was_handed_over_early() -> None:
    async with lab(max_batch_size=2) as it:
        tasks = [it.submit(mark, str(mark)) for mark in range(4)]
        await asyncio.sleep(0.5)
        await it.batcher.aclose()
        assert await outcomes(tasks) == [0, 1, EngineDeadError, EngineDeadError]
        assert it.batches == [[0, 1]]


@virtual_time
async def test_no_wait_at_all_is_possible() -> None:
    async with lab(max_wait_ms=0.0) as it:
        assert mark_of(await it.submit(7)) == 7
        assert current_loop().time() == pytest.approx(1.0)


@virtual_time
async def test_live_windows_overtake_offline_ones() -> None:
    async with lab(max_batch_size=2) as it:
        tasks = [it.submit(mark, priority=OFFLINE) for mark in range(4)]
        await asyncio.sleep(0.5)
        tasks += [it.submit(mark) for mark in (10, 11, 12)]
        await outcomes(tasks)
        assert it.batches == [[0, 1], [10, 11], [12], [2], [3]]


# -- Streams and limits --------------------------------------------------------------------------


@virtual_time
async def test_a_second_window_of_a_stream_is_refused_while_one_waits_or_runs() -> None:
    async with lab() as it:
        first = it.submit(0, "a")
        await asyncio.sleep(0)
        with pytest.raises(StreamBusyError):
            await it.submit(1, "a")
        await asyncio.sleep(0.5)
        assert it.batches == [[0]]
        with pytest.raises(StreamBusyError):
            await it.submit(2, "a")
        await first
        assert mark_of(await it.submit(3, "a")) == 3
        assert it.batcher.stats.windows_refused == 2


@virtual_time
async def test_a_full_queue_refuses() -> None:
    async with lab(max_pending=2, max_batch_size=1) as it:
        # One runs and one is with the thread.
        taken = [it.submit(0), it.submit(1)]
        await asyncio.sleep(0.5)
        waiting = [it.submit(2), it.submit(3)]
        await asyncio.sleep(0)
        assert it.batcher.num_pending == 2
        with pytest.raises(EngineOverloadedError):
            await it.submit(4)
        assert await outcomes([*taken, *waiting]) == [0, 1, 2, 3]


# -- Cancellation, start and end -----------------------------------------------------------------


@virtual_time
async def test_a_cancelled_window_that_waits_is_dropped() -> None:
    async with lab(max_batch_size=1) as it:
        tasks = [it.submit(mark, str(mark)) for mark in range(3)]
        await asyncio.sleep(0.5)
        tasks[2].cancel()
        assert await outcomes(tasks) == [0, 1, asyncio.CancelledError]
        assert mark_of(await it.submit(5, "2")) == 5
        assert it.batches == [[0], [1], [5]]
        assert it.batcher.stats.windows_cancelled == 1


@virtual_time
async def test_a_cancelled_window_that_runs_keeps_its_stream_busy_until_it_has_run() -> None:
    async with lab() as it:
        running = it.submit(0, "a")
        await asyncio.sleep(0.5)
        running.cancel()
        await asyncio.sleep(0)
        with pytest.raises(StreamBusyError):
            await it.submit(1, "a")
        await asyncio.sleep(1)
        assert mark_of(await it.submit(2, "a")) == 2


@virtual_time
async def test_closing_finishes_what_runs_and_answers_the_rest() -> None:
    it = Lab(max_batch_size=1)
    await it.batcher.start()
    running, waiting = it.submit(0), it.submit(1)
    await asyncio.sleep(0.5)
    await it.batcher.aclose()
    assert await outcomes([running, waiting]) == [0, EngineDeadError]
    with pytest.raises(EngineDeadError, match="closed"):
        await it.submit(2)
    await it.batcher.aclose()


@virtual_time
async def test_closing_ends_a_run_of_single_windows_after_the_present_one() -> None:
    it = Lab()
    await it.batcher.start()
    it.poisoned[9] = ValueError("odd")
    tasks = [it.submit(mark) for mark in (0, 1, 9)]
    await asyncio.sleep(1.5)
    assert it.batches == [[0, 1, 9], [0]]
    await it.batcher.aclose()
    assert await outcomes(tasks) == [0, EngineDeadError, EngineDeadError]


@virtual_time
async def test_closing_does_not_wait_for_a_restart() -> None:
    it = Lab()
    await it.batcher.start()
    it.poisoned[0] = SystemExit(1)
    task = it.submit(0)
    await asyncio.sleep(0.5)
    it.make_s = None
    assert await outcomes([task]) == [WindowError]
    waiting = it.submit(1)
    await asyncio.sleep(1)
    closed_s = current_loop().time()
    await it.batcher.aclose()
    assert current_loop().time() == closed_s
    assert await outcomes([waiting]) == [EngineDeadError]


@virtual_time
async def test_before_the_start_nothing_is_scored() -> None:
    it = Lab()
    with pytest.raises(EngineDeadError, match="not started"):
        await it.submit(0)
    await it.batcher.aclose()


@virtual_time
async def test_a_start_that_fails_is_told() -> None:
    it = Lab()
    it.make_errors = [FileNotFoundError("no weights")]
    with pytest.raises(FileNotFoundError):
        await it.batcher.start()
    with pytest.raises(EngineDeadError):
        await it.submit(0)
    with pytest.raises(RuntimeError, match="second start"):
        await it.batcher.start()


@virtual_time
async def test_a_start_that_hangs_is_told() -> None:
    it = Lab()
    it.make_s = None
    with pytest.raises(EngineDeadError, match="could not be started: no answer within 600 s"):
        await it.batcher.start()


@virtual_time
async def test_the_core_is_told_of_streams_that_end() -> None:
    async with lab() as it:
        it.batcher.forget("a")
        assert it.core.forgotten == ["a"]
    it.batcher.forget("b")
    assert it.core.forgotten == ["a"]


# -- What is measured ----------------------------------------------------------------------------


@virtual_time
async def test_what_was_done_is_counted() -> None:
    async with lab(max_batch_size=2, max_wait_ms=100.0) as it:
        it.faulty.add(2)
        tasks = [it.submit(mark) for mark in range(3)]
        await outcomes(tasks)
        stats = it.batcher.stats
        assert (stats.windows, stats.windows_scored, stats.windows_failed) == (3, 2, 1)
        assert stats.batches == 2
        assert stats.batch_sizes == {2: 1, 1: 1}
        assert stats.step_s == pytest.approx(2.0)
        assert stats.queue_wait_s == pytest.approx(1.0)
