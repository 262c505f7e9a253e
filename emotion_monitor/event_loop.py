"""What every process of a server runs in: its event loop, its end by a signal, and its messages."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from stream_server.tracing import close_tracing

T = TypeVar("T")

SWITCH_INTERVAL_S = 0.0005
"""Longest time a busy thread keeps the interpreter from another one that waits for it. An engine's
thread asks for it back after each of its operations; with Python's default of 5 ms a busy event
loop makes them take several times as long. With less, both take turns more often than they work
(85 live streams of ``compact`` on two cores, p95 of the lag: 308 ms with this, 451 with 0.1 ms)."""


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run ``main`` to its end in a new event loop, uvloop's where it is installed."""
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    try:
        with asyncio.Runner(loop_factory=_quick_loop()) as runner:
            return runner.run(main)
    finally:
        close_tracing()


def _quick_loop() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:
        return None  # asyncio's own loop does the same, slower.
    return uvloop.new_event_loop


def until_signal() -> asyncio.Future[Any]:
    """Return a future, done at the first SIGINT or SIGTERM; the second ends the process."""
    loop = asyncio.get_running_loop()
    stopped: asyncio.Future[Any] = loop.create_future()

    def stop() -> None:
        if stopped.done():
            say("stopped at once")
            sys.stderr.flush()
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            signal.raise_signal(signal.SIGTERM)
            # Reached by process 1 only, which the default action of a signal does not end.
            os._exit(128 + signal.SIGTERM)
        else:
            stopped.set_result(None)

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop)
    return stopped


def say(message: str) -> None:
    """Tell the operator something, on standard error."""
    print(f"emotion-monitor: {message}", file=sys.stderr, flush=True)
