"""How a server's coroutine is run: on a quick event loop, beside an engine's thread."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

__all__ = ["SWITCH_INTERVAL_S", "run"]

T = TypeVar("T")

SWITCH_INTERVAL_S = 0.0001
"""Longest time a busy thread keeps the interpreter from another one that waits for it. An engine's
thread asks for it back after each of a network's hundred operations; with Python's default of 5 ms
a busy event loop made a forward pass take ten times as long (80 live streams on two cores: median
lag 1.1 s with the default, 0.4 s with this)."""


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run ``main`` to its end in a new event loop, uvloop's where it is installed."""
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    with asyncio.Runner(loop_factory=_quick_loop()) as runner:
        return runner.run(main)


def _quick_loop() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:
        return None  # asyncio's own loop does the same, slower.
    return uvloop.new_event_loop
