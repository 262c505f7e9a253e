from __future__ import annotations

import asyncio

import pytest

from ser_engine.core.host import Answers, CoreHost, WorkerLostError
from ser_engine.errors import EngineDeadError
from ser_engine.types import Window
from tests.support.fake_core import FakeCore, InlineWorker, TimedWorker, a_window
from tests.support.virtual_time import current_loop, virtual_time

WINDOWS = [a_window(0), a_window(1)]


def host_of(core: FakeCore) -> CoreHost:
    return CoreHost(lambda: core, InlineWorker, step_timeout_s=60, start_timeout_s=600)


async def step(host: CoreHost, windows: list[Window]) -> Answers | Exception:
    return await host.finish_step(host.begin_step(windows))


@virtual_time
async def test_answers_are_passed_on() -> None:
    host = host_of(FakeCore())
    await host.start()
    answers = await step(host, WINDOWS)
    assert isinstance(answers, list)
    assert len(answers) == 2


@pytest.mark.parametrize(
    "error", [ValueError("odd"), TimeoutError("a core's own"), StopIteration()]
)
def test_what_the_core_raises_is_a_value(error: Exception) -> None:
    @virtual_time
    async def test() -> None:
        core = FakeCore()
        core.poisoned[0] = error
        host = host_of(core)
        await host.start()
        assert await step(host, WINDOWS) is error

    test()


@pytest.mark.parametrize(
    "error",
    [EngineDeadError("device gone"), SystemExit(1), KeyboardInterrupt(), asyncio.CancelledError()],
)
def test_what_ends_a_worker_is_told(error: BaseException) -> None:
    @virtual_time
    async def test() -> None:
        core = FakeCore()
        core.poisoned[0] = error
        host = host_of(core)
        await host.start()
        with pytest.raises(WorkerLostError):
            await step(host, WINDOWS)

    test()


@virtual_time
async def test_a_step_is_not_waited_for_longer_than_its_timeout() -> None:
    delays: list[float | None] = [0.0, 59.9, None]
    host = CoreHost(
        FakeCore,
        lambda: TimedWorker(lambda: delays.pop(0)),
        step_timeout_s=60,
        start_timeout_s=600,
    )
    await host.start()
    assert isinstance(await step(host, WINDOWS), list)
    started_s = current_loop().time()
    with pytest.raises(WorkerLostError, match="no answer within 60 s"):
        await step(host, WINDOWS)
    assert current_loop().time() - started_s == pytest.approx(60)


@virtual_time
async def test_a_core_is_not_waited_for_longer_than_its_timeout() -> None:
    workers: list[TimedWorker] = []

    def make() -> TimedWorker:
        workers.append(TimedWorker(lambda: None))
        return workers[-1]

    host = CoreHost(FakeCore, make, step_timeout_s=60, start_timeout_s=600)
    with pytest.raises(WorkerLostError, match="600 s"):
        await host.start()
    assert workers[0].closed


@virtual_time
async def test_a_core_that_cannot_be_made_is_told_as_it_was() -> None:
    def fail() -> FakeCore:
        raise FileNotFoundError("no weights")

    host = CoreHost(fail, InlineWorker, step_timeout_s=60, start_timeout_s=600)
    with pytest.raises(FileNotFoundError, match="no weights"):
        await host.start()


@virtual_time
async def test_too_few_answers_are_an_error() -> None:
    class Short(FakeCore):
        def step(self, windows):
            return super().step(windows)[:1]

    host = host_of(Short())
    await host.start()
    assert "1 answers to 2 windows" in str(await step(host, WINDOWS))


@virtual_time
async def test_a_core_that_only_raises_is_taken_for_broken() -> None:
    core = FakeCore()
    core.poisoned[0] = RuntimeError("context lost")
    host = host_of(core)
    await host.start()
    for _ in range(7):
        await step(host, [a_window(0)])
        await step(host, WINDOWS)  # Several at once say nothing of a single one.
        host.check()
    await step(host, [a_window(1)])
    for _ in range(7):
        await step(host, [a_window(0)])
        host.check()
    await step(host, [a_window(0)])
    with pytest.raises(WorkerLostError, match="8 windows in a row"):
        host.check()
    await host.start()
    host.check()
