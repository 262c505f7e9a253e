"""Numbers that are used once: whoever shows one again has overheard it."""

from __future__ import annotations

from collections import OrderedDict

__all__ = ["SeenNumbers"]


class SeenNumbers:
    """Remembers what was shown last.

    Only numbers of good signatures belong here; others would push those out.

    Args:
        capacity: how many are remembered; the oldest goes first.
    """

    def __init__(self, capacity: int = 10_000) -> None:
        self._capacity = capacity
        self._seen: OrderedDict[str, None] = OrderedDict()

    def is_new(self, number: str) -> bool:
        """Return whether ``number`` was not shown before, and remember it."""
        if number in self._seen:
            return False
        self._seen[number] = None
        if len(self._seen) > self._capacity:
            self._seen.popitem(last=False)
        return True
