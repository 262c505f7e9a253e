"""What a stream knows of the engine that scores it, and of whoever lends it one.

These are the seams at which inference can move to other machines: a window goes out and a result
or an error comes back, both plain data (:mod:`ser_engine.types`). Whoever implements
:class:`EngineHandle` and :class:`EngineSource` over a network, for instance with Ray Serve,
replaces :class:`~stream_server.engines.local.LocalEngine` and
:class:`~stream_server.engines.pool.EnginePool`, and no code of a stream changes. Features kept
between a stream's windows live in the engine, so such an implementation sends the windows of one
``stream_key`` to one replica, and repeats ``forget`` there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from ser_engine.batching import Priority
from ser_engine.config import EngineConfig
from ser_engine.types import ModelInfo, Window, WindowResult
from stream_server.engines.status import PoolStatus

__all__ = ["EngineHandle", "EngineLease", "EngineSource"]


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
