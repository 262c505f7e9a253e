"""A batcher over fake cores, on a virtual clock."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from ser_engine.config import BatchingConfig, EngineConfig
from ser_engine.core.batcher import Batcher
from ser_engine.core.queue import Priority
from ser_engine.types import WindowResult
from tests.support.fake_core import FakeCore, TimedWorker, a_window

__all__ = ["Lab", "lab", "mark_of", "outcomes"]


class Lab:
    """A batcher over fake cores, on a virtual clock.

    Attributes:
        cores: every core that was made.
        step_s: time a step takes; None: it never ends.
        make_s: time it takes to make a core; None: for ever.
        make_errors: what the next attempts to make a core raise.
    """

    def __init__(self, **config: Any) -> None:
        self.cores: list[FakeCore] = []
        self.step_s: float | None = 1.0
        self.make_s: float | None = 0.0
        self.make_errors: list[BaseException] = []
        self.faulty: set[int] = set()
        self.poisoned: dict[int, BaseException] = {}
        self._next_delay: float | None = 0.0
        settings: dict[str, Any] = {"max_batch_size": 4, "max_wait_ms": 5.0, "max_restarts": 1}
        self.batcher = Batcher(
            self._make,
            EngineConfig(batching=BatchingConfig(**(settings | config))),
            make_worker=self._worker,
        )

    @property
    def core(self) -> FakeCore:
        return self.cores[-1]

    @property
    def batches(self) -> list[list[int]]:
        return [batch for core in self.cores for batch in core.batches]

    def submit(
        self, mark: int, stream: str | None = None, priority: Priority = Priority.LIVE
    ) -> asyncio.Task[WindowResult]:
        submitted = self.batcher.score(a_window(mark, stream), priority)
        return asyncio.create_task(submitted)

    def _worker(self) -> TimedWorker:
        made = False

        def delay_s() -> float | None:
            nonlocal made
            if made:
                return self.step_s
            made = True
            return self.make_s

        return TimedWorker(delay_s)

    def _make(self) -> FakeCore:
        if self.make_errors:
            raise self.make_errors.pop(0)
        core = FakeCore()
        core.faulty, core.poisoned = self.faulty, self.poisoned
        self.cores.append(core)
        return core


@asynccontextmanager
async def lab(**config: Any) -> AsyncIterator[Lab]:
    made = Lab(**config)
    await made.batcher.start()
    try:
        yield made
    finally:
        await made.batcher.aclose()


def mark_of(result: WindowResult) -> int:
    return int(result.logits[0, 0])


async def outcomes(tasks: list[asyncio.Task[WindowResult]]) -> list[Any]:
    """The mark of each result, or the class of each error."""
    results = await asyncio.gather(*tasks, return_exceptions=True)
    return [mark_of(r) if isinstance(r, WindowResult) else type(r) for r in results]
