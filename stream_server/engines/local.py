"""An engine in this process: a batcher over a core that is made in the batcher's thread.

What a stream knows of the engine that scores it, and of whoever lends it one.

These are the seams at which inference can move to other machines: a window goes out and a result
or an error comes back, both plain data (:mod:`ser_engine.types`). Whoever implements
:class:`EngineHandle` and :class:`EngineSource` over a network, for instance with Ray Serve,
replaces :class:`~stream_server.engines.local.LocalEngine` and
:class:`~stream_server.engines.pool.EnginePool`, and no code of a stream changes. Features kept
between a stream's windows live in the engine, so such an implementation sends the windows of one
``stream_key`` to one replica, and repeats ``forget`` there.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Protocol

from ser_engine.config import EngineConfig
from ser_engine.core import Batcher, BatchingStats, Core, OnStep, Priority
from ser_engine.core.host import ThreadWorker, Worker
from ser_engine.types import ModelInfo, Window, WindowResult
from stream_server.engines.loading import EngineMaker, Load
from stream_server.engines.status import PoolStatus


class EngineHandle(Protocol):
    """One engine with one model. Belongs to one event loop."""

    @property
    def info(self) -> ModelInfo:
        """The model; the same for the handle's whole life."""

    @property
    def config(self) -> EngineConfig:
        """With which settings it scores."""

    @property
    def is_alive(self) -> bool:
        """Whether windows are accepted."""

    async def submit(self, window: Window, priority: Priority = Priority.LIVE) -> WindowResult:
        """Return the result of a window. A cancelled call drops it if it is not yet running.

        Raises:
            WindowError: this window cannot be scored.
            StreamBusyError: its stream has a window waiting or running.
            EngineOverloadedError: too many windows wait.
            EngineDeadError: nothing is scored any more.
        """
        ...

    def forget(self, stream_key: str) -> None:
        """Free what is kept of a stream that has ended. Not waited for."""


class EngineLease:
    """An engine lent to one stream, from its first window to its last.

    Also a context manager that gives the engine back.

    Args:
        engine: what is lent.
        give_back: called once.
    """

    def __init__(self, engine: EngineHandle, give_back: Callable[[], None]) -> None:
        self.engine = engine
        self._give_back: Callable[[], None] | None = give_back

    def release(self) -> None:
        """Give the engine back. A second time does nothing."""
        give_back, self._give_back = self._give_back, None
        if give_back is not None:
            give_back()

    def __enter__(self) -> EngineHandle:
        return self.engine

    def __exit__(self, *_: object) -> None:
        self.release()


class EngineSource(Protocol):
    """Lends engines to streams."""

    @property
    def is_ready(self) -> bool:
        """Whether a new stream would be scored."""

    def acquire(self) -> EngineLease:
        """Lend the engine new streams use; it stays open until the lease is released.

        Raises:
            EngineDeadError: there is none.
        """
        ...

    def status(self) -> PoolStatus:
        """Return what people are told of the engines."""
        ...


_END_TIMEOUT_S = 5.0
"""Longest wait for an engine's thread to end once the engine is closed: a model's engine that is
still being made cannot be interrupted, and may take half a minute."""


class LocalEngine:
    """See :class:`~stream_server.engines.local.EngineHandle`.

    A lost core is replaced as the batcher does it, with the model of the first one.

    Args:
        config: settings of model and batches.
        load: reads the model; runs in the worker, once.
        make_worker: makes what runs the core.
        on_step: told of every forward pass, see :class:`~ser_engine.core.Batcher`.
    """

    def __init__(
        self,
        config: EngineConfig,
        load: Load,
        *,
        make_worker: Callable[[], Worker] = ThreadWorker,
        on_step: OnStep | None = None,
    ) -> None:
        self.config = config
        self._load = load
        self._make_worker = make_worker
        self._threads: list[ThreadWorker] = []
        self._make: EngineMaker | None = None
        self._model: tuple[ModelInfo, str] | None = None
        self._batcher = Batcher(
            self._make_core, config.batching, make_worker=self._kept_worker, on_step=on_step
        )

    async def start(self) -> None:
        """Read the model, make its engine and warm it up. Once only.

        Cancelled, it leaves the worker to end by itself: what runs there cannot be interrupted.

        Raises:
            SerEngineError: the model cannot be had or executed.
            EngineDeadError: that took too long.
        """
        await self._batcher.start()

    @property
    def info(self) -> ModelInfo:
        """The model. Known after :meth:`start`."""
        return self._known_model()[0]

    @property
    def runtime_name(self) -> str:
        """How the model is executed. Known after :meth:`start`."""
        return self._known_model()[1]

    @property
    def is_alive(self) -> bool:
        """Whether windows are accepted."""
        return self._batcher.is_alive

    @property
    def num_pending(self) -> int:
        """Windows that wait."""
        return self._batcher.num_pending

    @property
    def stats(self) -> BatchingStats:
        """What was done so far; goes on counting."""
        return self._batcher.stats

    async def submit(self, window: Window, priority: Priority = Priority.LIVE) -> WindowResult:
        """See :meth:`EngineHandle.submit <stream_server.engines.local.EngineHandle.submit>`."""
        return await self._batcher.submit(window, priority=priority)

    def forget(self, stream_key: str) -> None:
        """Free what is kept of a stream that has ended. Not waited for."""
        self._batcher.forget(stream_key)

    async def aclose(self) -> None:
        """Finish the step that runs, answer all others with EngineDeadError and stop.

        Waits for the engine's thread, too, but not for ever: see
        :mod:`stream_server.engines.pool`.
        """
        await self._batcher.aclose()
        if self._threads:
            await asyncio.to_thread(self._join, time.monotonic() + _END_TIMEOUT_S)

    def _join(self, deadline_s: float) -> None:
        for thread in self._threads:
            thread.join(max(0.0, deadline_s - time.monotonic()))

    def _known_model(self) -> tuple[ModelInfo, str]:
        assert self._model is not None, "the model is known once the engine has started"
        return self._model

    def _kept_worker(self) -> Worker:
        worker = self._make_worker()
        if isinstance(worker, ThreadWorker):
            self._threads.append(worker)
        return worker

    def _make_core(self) -> Core:
        """Run in the worker."""
        if self._make is None:
            self._make = self._load(self.config)
        engine = self._make()
        engine.warm_up()
        self._model = engine.info, engine.runtime_name
        return engine
