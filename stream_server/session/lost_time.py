"""Spans of the clock in which one channel has no audio while others do."""

from __future__ import annotations

from collections import deque

__all__ = ["LostTime"]


class LostTime:
    """Of one channel; positions are samples of the 16 kHz clock.

    Attributes:
        held: samples passed in the span that the channel has not been told of yet.
    """

    def __init__(self) -> None:
        self.held = 0
        self._spans: deque[tuple[int, int]] = deque()

    def __bool__(self) -> bool:
        """Whether anything is to come."""
        return bool(self._spans)

    def add(self, start: int, end: int) -> None:
        """Add a span after all others; one that begins where the last ends makes that longer."""
        if end <= start:
            return
        if self._spans and self._spans[-1][1] >= start:
            start = self._spans.pop()[0]
        self._spans.append((start, end))

    def covers(self, sample: int) -> bool:
        """Whether there is no audio from ``sample`` on, which is not before the first span."""
        return bool(self._spans) and self._spans[0][0] <= sample < self._spans[0][1]

    def begins_at(self, sample: int) -> bool:
        """Whether a span begins at ``sample``."""
        return bool(self._spans) and self._spans[0][0] == sample

    def next_border(self, sample: int) -> int | None:
        """Return where a span begins or ends next, after ``sample``."""
        if not self._spans:
            return None
        start, end = self._spans[0]
        return start if start > sample else end

    def pass_to(self, sample: int) -> None:
        """Forget what ends at ``sample`` or before."""
        while self._spans and self._spans[0][1] <= sample:
            self._spans.popleft()
