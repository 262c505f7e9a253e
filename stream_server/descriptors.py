"""File descriptors of the process: what is kept for calls, and what for their files.

Each connection, file and library takes one, and where there are none left everything fails: a call
cannot be recorded, a module cannot be imported. POSIX gives a new descriptor the lowest free number
(open(2)), so the number of a new connection's socket says how many are in use at least::

    0 ──────── HTTP, calls ────────┬──── calls ────┬── files ──┐
                            for_http        for_calls        limit
"""

from __future__ import annotations

import resource

import structlog

_log = structlog.get_logger(__name__)

_MOST = 65_536
"""Enough for everything; some systems allow a thousand million, and programs that go through all of
them take minutes."""
BACKLOG = 64
"""Connections that may wait to be accepted at a port. The event loop accepts all of them before
anything here can refuse one, so what is reserved has to be more than that."""
_FOR_FILES = 2 * BACKLOG
_FOR_CALLS = 2 * BACKLOG


def raise_limit() -> int:
    """Raise this process's limit as far as it may; return it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MOST if hard == resource.RLIM_INFINITY else min(hard, _MOST)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        except (OSError, ValueError):
            # macOS names no limit and allows fewer.
            return soft
        return wanted
    return _MOST if soft == resource.RLIM_INFINITY else soft


class Descriptors:
    """Whether a new connection leaves enough descriptors for what goes before it.

    Args:
        limit: of the process.
    """

    def __init__(self, limit: int) -> None:
        for_files = min(_FOR_FILES, limit // 3)
        self.for_calls = limit - for_files
        self.for_http = self.for_calls - min(_FOR_CALLS, limit // 4)

    def over_for_http(self, descriptor: int) -> int:
        """Return how many of those kept for calls are taken once a page or feed has this socket."""
        return max(descriptor - self.for_http + 1, 0)

    def over_for_calls(self, descriptor: int) -> int:
        """Return how many of those kept for files are taken once a call has this socket."""
        return max(descriptor - self.for_calls + 1, 0)
