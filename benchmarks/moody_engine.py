"""An engine that costs nothing and changes its mind, so that pages have something to draw.

As :mod:`benchmarks.null_engine`, but each stream stays with an emotion for some windows and then
goes on to another one, all of them in different order and with different confidence.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from benchmarks.null_engine import NullEngine
from ser_engine.config import EngineConfig
from ser_engine.errors import WindowError
from ser_engine.types import Window, WindowResult

_MOODS = 48
_WINDOWS_A_MOOD = 12
"""Six seconds at the usual step."""


class MoodyEngine(NullEngine):
    """See the module. Moods are drawn once, from a seed."""

    def __init__(self) -> None:
        super().__init__("moody")
        rng = np.random.default_rng(0)
        self._moods = rng.normal(0.0, 1.5, (_MOODS, len(self.info.labels))).astype(np.float32)
        self._windows: dict[str, int] = {}

    def step(self, windows: Sequence[Window]) -> list[WindowResult | WindowError]:
        """Return each window's mood."""
        return [self._moody(window) for window in windows]

    def forget(self, stream_key: str) -> None:
        """Forget how far a stream is."""
        self._windows.pop(stream_key, None)

    def _moody(self, window: Window) -> WindowResult:
        plain = self._result(window)
        key = window.stream_key or ""
        number = self._windows.get(key, hash(key) % (_MOODS * _WINDOWS_A_MOOD))
        self._windows[key] = number + 1
        mood = self._moods[number // _WINDOWS_A_MOOD % _MOODS]
        # No two windows are quite the same.
        shade = np.float32(0.8 + 0.4 * (number % 7) / 7)
        logits = np.broadcast_to(mood * shade, plain.logits.shape)
        return WindowResult(logits, plain.embeddings, plain.hop_samples)


def load_moody(config: EngineConfig) -> Callable[[], MoodyEngine]:
    """Stand in for :func:`stream_server.engines.opening.load`, whatever model is named."""
    return MoodyEngine
