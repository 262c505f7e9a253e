"""An engine that costs nothing, to measure what the server itself costs.

Give :func:`load_null` to an engine pool in place of its loader. Windows of any length get frames
of the right number, all of them neutral; nothing is computed.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import numpy as np

from ser_engine.config import EngineConfig
from ser_engine.errors import WindowError
from ser_engine.frames import HOP_SAMPLES, num_frames
from ser_engine.labels import EMOTION2VEC_TOKENS, LabelSet
from ser_engine.types import ModelInfo, Window, WindowResult

__all__ = ["NullEngine", "load_null"]

_LABELS = LabelSet.from_tokens(EMOTION2VEC_TOKENS)
_EMBEDDING_DIM = 768
"""That of emotion2vec base, so that results are of its size."""


class NullEngine:
    """Answers every window with the same frames. See :class:`ser_engine.core.engine.Core`.

    Args:
        name: what the model is called.
        hop_samples: samples between frames.
    """

    runtime_name = "none"

    def __init__(self, name: str = "null", *, hop_samples: int = HOP_SAMPLES) -> None:
        self.info = ModelInfo(name, "made up", "none", "", _LABELS, _EMBEDDING_DIM)
        self._hop_samples = hop_samples
        self._results: dict[int, WindowResult] = {}

    def warm_up(self) -> None:
        """There is nothing to get ready."""

    def step(self, windows: Sequence[Window]) -> list[WindowResult | WindowError]:
        """Return the result of each window's length; it is made once."""
        return [self._result(len(window.samples)) for window in windows]

    def forget(self, stream_key: str) -> None:
        """Nothing is kept."""

    def _result(self, num_samples: int) -> WindowResult:
        result = self._results.get(num_samples)
        if result is None:
            shifts = range(0, HOP_SAMPLES, self._hop_samples)
            frames = sum(num_frames(num_samples - shift) for shift in shifts)
            logits = np.zeros((frames, len(_LABELS)), np.float32)
            logits[:, _LABELS.names.index("neutral")] = 4.0
            embeddings = np.zeros((frames, _EMBEDDING_DIM), np.float32)
            result = WindowResult(logits, embeddings, self._hop_samples)
            for array in (logits, embeddings):
                array.setflags(write=False)
            self._results[num_samples] = result
        return result


def load_null(config: EngineConfig) -> Callable[[], NullEngine]:
    """Stand in for :func:`stream_server.engines.loading.load`, whatever model is named."""
    return functools.partial(NullEngine, hop_samples=config.timeline.hop_samples)
