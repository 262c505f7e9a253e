"""How a process with engines in its threads ends.

A thread inside a network's native code cannot be stopped. If the interpreter is torn down under
it, the runtime's C++ aborts the process (``terminate called without an active exception``, status
134); and tearing down an interpreter that has loaded torch takes seconds. So whoever runs a pool
ends the process through :func:`end_process` once all is closed.
"""

from __future__ import annotations

import logging
import os
import sys
from typing import NoReturn

__all__ = ["end_process"]


def end_process(status: int) -> NoReturn:
    """Exit with ``status``, at once; what was printed and logged is written out before."""
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(status)
