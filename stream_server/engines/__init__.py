"""Engines while the server runs: opened, shared by streams, replaced by better ones, closed.

Here is what a stream knows of the engine that scores it, and of the pool that lends it one.

This is the seam at which inference moves to another process or machine: a window goes out and a
result or an error comes back, both plain data (:mod:`ser_engine.types`). Another way to reach an
engine elsewhere is a :class:`~stream_server.cluster.Peer` for
:class:`~stream_server.engines.remote.RemoteEngine`, and a line in
:data:`stream_server.engines.opening.ENGINES`; no code of a stream changes. Features kept between a
stream's windows live in the engine, so a remote one sends the windows of one ``stream_key`` to one
replica, and repeats ``forget`` there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol, runtime_checkable

from ser_engine.config import EngineConfig
from ser_engine.core.batcher import BatchingStats, OnStep
from ser_engine.core.queue import Priority
from ser_engine.types import ModelInfo, Window, WindowResult
from stream_server.engines.status import PoolStatus


class Engine(Protocol):
    """One engine with one model. Belongs to one event loop."""

    @property
    def info(self) -> ModelInfo:
        """The model; the same for the engine's whole life. Known after :meth:`start`."""

    @property
    def config(self) -> EngineConfig:
        """With which settings it scores."""

    @property
    def runtime_name(self) -> str:
        """How the model is executed, e.g. ``openvino fp32 cpu``. Known after :meth:`start`."""

    @property
    def is_alive(self) -> bool:
        """Whether windows are accepted."""

    @property
    def num_pending(self) -> int:
        """Windows that wait."""

    @property
    def stats(self) -> BatchingStats:
        """What was done so far; goes on counting."""

    async def start(self) -> None:
        """Get ready to score. Once only.

        Cancelled, it leaves what it has begun to end by itself.

        Raises:
            SerEngineError: the model cannot be had or executed.
            EngineDeadError: that took too long.
        """

    async def score(self, window: Window, priority: Priority = Priority.LIVE) -> WindowResult:
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

    async def aclose(self) -> None:
        """Finish what runs, answer all others with EngineDeadError and stop."""


@runtime_checkable
class Superseded(Protocol):
    """An engine that another one of the same settings takes the place of, without this process."""

    @property
    def superseded(self) -> asyncio.Event:
        """Set once new streams are to use an engine opened anew."""


class OpenEngine(Protocol):
    """Makes an engine, not yet started."""

    def __call__(
        self, config: EngineConfig, *, beside_another: bool, on_step: OnStep | None
    ) -> Engine:
        """Return an engine for the model ``config.model.name``.

        Args:
            beside_another: another engine goes on scoring meanwhile: refuse to start where
                there is no memory for two.
            on_step: told of every forward pass.
        """
        ...


class EngineLease:
    """An engine lent to one stream, from its first window to its last.

    Also a context manager that gives the engine back.
    """

    def __init__(self, engine: Engine, give_back: Callable[[], None]) -> None:
        self.engine = engine
        self._give_back: Callable[[], None] | None = give_back

    def release(self) -> None:
        """Give the engine back. A second time does nothing."""
        give_back, self._give_back = self._give_back, None
        if give_back is not None:
            give_back()

    def __enter__(self) -> Engine:
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
            EngineDeadError: no engine is alive.
        """
        ...

    def status(self) -> PoolStatus:
        """Return what people are shown of the engines."""
        ...
