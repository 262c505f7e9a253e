"""The last window of each stream, kept so that the next one need not be computed whole."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from torch import Tensor

from ser_engine.features.normalisation import Normalisation

__all__ = ["FeatureStore", "KeptWindow", "StoreKey"]

StoreKey = tuple[str, int]
"""A stream's key and the shift of the pass in samples: 0, or 160 for the second one."""


@dataclass(frozen=True, slots=True, eq=False)
class KeptWindow:
    """A window and its local features.

    Attributes:
        samples: raw, (samples,).
        start_sample: index of the first one on the stream's clock.
        features: (frames, dim).
        used: what each frame was normalised with, (frames,).
    """

    samples: Tensor
    start_sample: int
    features: Tensor
    used: Normalisation

    @property
    def num_bytes(self) -> int:
        """Memory this holds."""
        tensors = (self.samples, self.features, self.used.mean, self.used.scale)
        return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


class FeatureStore:
    """Keeps one window a stream and pass; over its limit, drops the one used longest ago.

    Args:
        max_bytes: memory all windows together may hold; a single one is kept whatever it holds.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._windows: OrderedDict[StoreKey, KeptWindow] = OrderedDict()
        self._num_bytes = 0

    def get(self, key: StoreKey) -> KeptWindow | None:
        """Return what is kept under ``key``."""
        return self._windows.get(key)

    def put(self, key: StoreKey, window: KeptWindow) -> None:
        """Keep a window in place of the one before it."""
        self._drop(key)
        self._windows[key] = window
        self._num_bytes += window.num_bytes
        while self._num_bytes > self._max_bytes and len(self._windows) > 1:
            self._drop(next(iter(self._windows)))

    def forget(self, stream: str) -> None:
        """Drop what is kept of a stream."""
        for key in [key for key in self._windows if key[0] == stream]:
            self._drop(key)

    def _drop(self, key: StoreKey) -> None:
        window = self._windows.pop(key, None)
        if window is not None:
            self._num_bytes -= window.num_bytes
