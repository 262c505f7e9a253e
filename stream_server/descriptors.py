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
_FOR_FILES = 64
_FOR_CALLS = 128


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
        for_files = min(_FOR_FILES, limit // 8)
        self.for_calls = limit - for_files
        self.for_http = self.for_calls - min(_FOR_CALLS, limit // 4)

    def is_short_for_http(self, descriptor: int) -> bool:
        """Whether a page or feed with this socket takes what is kept for calls."""
        return descriptor >= self.for_http

    def is_short_for_calls(self, descriptor: int) -> bool:
        """Whether a call with this socket takes what is kept for files."""
        return descriptor >= self.for_calls
