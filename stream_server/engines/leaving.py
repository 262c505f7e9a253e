"""How a process with engines in its threads ends.

A thread inside a network's native code cannot be stopped. If the interpreter is torn down under
it, the runtime's C++ aborts the process (``terminate called without an active exception``, status
134). So whoever runs a pool ends the process through :func:`end_process` once all is closed.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
from typing import NoReturn

from ser_engine.batching.worker import WORKER_THREAD_NAME

__all__ = ["end_process", "num_threads_left"]


def num_threads_left() -> int:
    """Return how many threads of engines still run."""
    return sum(thread.name == WORKER_THREAD_NAME for thread in threading.enumerate())


def end_process(status: int) -> NoReturn:
    """Exit with ``status``; at once and without cleaning up if an engine's thread still runs.

    What was printed and logged is written out in either case.
    """
    if num_threads_left() == 0:
        sys.exit(status)
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(status)
