"""The last few seconds of a stream's audio."""

from __future__ import annotations

import numpy as np

from ser_engine.types import FloatArray

__all__ = ["RingBuffer"]


class RingBuffer:
    """Keeps the newest ``capacity_samples`` samples; older ones are overwritten.

    The store is twice as long as the capacity, so that the newest samples always lie in one
    piece: they move to the front once in ``capacity_samples`` samples.
    """

    def __init__(self, capacity_samples: int) -> None:
        self._capacity = capacity_samples
        self._store = np.zeros(2 * capacity_samples, dtype=np.float32)
        self._end = 0

    def __len__(self) -> int:
        """Return how many samples can be had: at most the capacity."""
        return min(self._end, self._capacity)

    def clear(self) -> None:
        """Forget the audio."""
        self._end = 0

    def append(self, samples: FloatArray) -> None:
        """Add ``(samples,)`` at the end."""
        newest = samples[-self._capacity :]
        if self._end + len(newest) > len(self._store):
            keep = self._capacity - len(newest)
            self._store[:keep] = self._store[self._end - keep : self._end]
            self._end = keep
        self._store[self._end : self._end + len(newest)] = newest
        self._end += len(newest)

    def newest(self, num_samples: int) -> FloatArray:
        """Return a copy of the last ``num_samples`` samples ``(samples,)``.

        Raises:
            ValueError: there are not that many.
        """
        if not 0 <= num_samples <= len(self):
            raise ValueError(f"got {num_samples} samples asked for, expected 0 to {len(self)}")
        return self._store[self._end - num_samples : self._end].copy()
