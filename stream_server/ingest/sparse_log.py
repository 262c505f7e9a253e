"""What anybody can bring about is logged now and then only: a flood must not fill the disk."""

from __future__ import annotations

import time
from collections.abc import Callable

__all__ = ["SparseLog"]

_MAX_KINDS = 64
"""Kinds that are told apart; what more there are count as one."""


class SparseLog:
    """Says when a line of a kind may be written.

    Args:
        interval_s: least time between two lines of a kind.
        now_s: the time, from any origin.
    """

    def __init__(
        self, interval_s: float = 10.0, now_s: Callable[[], float] = time.monotonic
    ) -> None:
        self._interval_s = interval_s
        self._now_s = now_s
        self._kinds: dict[str, tuple[float, int]] = {}  # when the next may come, left out so far

    def take(self, kind: str) -> int | None:
        """Return how many lines were left out since the last one; None: leave this out, too.

        Args:
            kind: of the line.
        """
        if kind not in self._kinds and len(self._kinds) >= _MAX_KINDS:
            kind = ""
        now_s = self._now_s()
        due_s, left_out = self._kinds.get(kind, (now_s, 0))
        if now_s < due_s:
            self._kinds[kind] = due_s, left_out + 1
            return None
        self._kinds[kind] = now_s + self._interval_s, 0
        return left_out
