"""The latest results of one stream, for a client that reads slowly or comes back."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass

from stream_server.wire.results import Result


@dataclass(frozen=True, slots=True)
class Unread:
    """Results a reader has not read yet.

    Attributes:
        results: in order of ``seq``; empty only where the stream has ended and all was read.
        num_dropped: results before them that were dropped because the reader was too slow.
    """

    results: tuple[Result, ...]
    num_dropped: int


class KeptResults:
    """Keeps the last ``capacity`` results; any number of readers, each with its own place.

    Results are appended in order of ``seq`` without holes.
    """

    def __init__(self, capacity: int) -> None:
        self._results: deque[Result] = deque(maxlen=capacity)
        self._next_seq = 0
        self._changed = asyncio.Event()
        self._closed = False

    @property
    def is_closed(self) -> bool:
        """Whether the stream has ended."""
        return self._closed

    def append(self, result: Result) -> None:
        """Add the next result."""
        assert result.seq == self._next_seq, "results come in order of seq"
        self._results.append(result)
        self._next_seq += 1
        self._wake()

    def close(self) -> None:
        """The stream has ended: no more results come."""
        self._closed = True
        self._wake()

    async def read(self, from_seq: int) -> Unread:
        """Return the results from ``from_seq`` on; wait for them, or for the end of the stream."""
        while from_seq >= self._next_seq and not self._closed:
            await self._changed.wait()
        first = self._next_seq - len(self._results)
        start = max(from_seq - first, 0)
        results = tuple(self._results[index] for index in range(start, len(self._results)))
        return Unread(results, max(first - from_seq, 0))

    def _wake(self) -> None:
        # A new event each time: one that several readers share has no right moment to be cleared.
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()
