"""An event loop whose clock only moves when there is nothing left to do at the present time.

A test of waits and timeouts takes no real time and always takes the same virtual time: when the
loop would sleep until its next timer, the clock jumps there instead. Two rules keep that sound:

- A thread is invisible to the loop: while one works, the loop looks idle and the clock would run
  ahead of it. Run such code inside ``with loop.frozen():``; the loop then waits for the thread in
  real time.
- A loop with neither work nor timers waits for ever. Here it fails after a few real seconds.

Use it as ``run(coroutine)``, or as a decorator of a test: ``@virtual_time``.
"""

from __future__ import annotations

import asyncio
import functools
import selectors
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ParamSpec, TypeVar

__all__ = ["VirtualTimeLoop", "current_loop", "run", "virtual_time"]

P = ParamSpec("P")
T = TypeVar("T")

_STUCK_S = 10.0
"""Real time after which a loop that waits for nothing but threads is taken to be stuck."""


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """Starts at 0 s."""

    def __init__(self) -> None:
        self._now_s = 0.0
        self._holds = 0
        super().__init__(_Selector(self))

    def time(self) -> float:
        return self._now_s

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Keep the clock where it is; later timers do not fire until this is left."""
        self.hold()
        try:
            yield
        finally:
            self.release()

    def hold(self) -> None:
        """Stop the clock until :meth:`release` is called as often."""
        self._holds += 1

    def release(self) -> None:
        """Let the clock go on."""
        self._holds -= 1

    @property
    def is_held(self) -> bool:
        """Whether the clock stands still."""
        return self._holds > 0

    def advance(self, seconds: float) -> None:
        """Move the clock; called when the loop is idle."""
        self._now_s += seconds


class _Selector(selectors.BaseSelector):
    """Moves the loop's clock where an ordinary selector would sleep."""

    def __init__(self, loop: VirtualTimeLoop) -> None:
        self._loop = loop
        self._real = selectors.DefaultSelector()

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        events = self._real.select(0)
        if events or (timeout is not None and timeout <= 0):
            return events
        if timeout is None or self._loop.is_held:
            events = self._real.select(_STUCK_S)
            if not events:
                raise RuntimeError("the loop waits for something that does not come")
            return events
        self._loop.advance(timeout)
        return []

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._real.register(fileobj, events, data)

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return self._real.unregister(fileobj)

    def modify(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._real.modify(fileobj, events, data)

    def close(self) -> None:
        self._real.close()

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return self._real.get_map()


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end in a loop with a virtual clock."""
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(coroutine)


def virtual_time(test: Callable[P, Coroutine[Any, Any, T]]) -> Callable[P, T]:
    """Make a synchronous test of an asynchronous one."""

    @functools.wraps(test)
    def synchronous(*args: P.args, **kwargs: P.kwargs) -> T:
        return run(test(*args, **kwargs))

    return synchronous


def current_loop() -> VirtualTimeLoop:
    """Return the running loop."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualTimeLoop)
    return loop
