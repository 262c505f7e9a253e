"""An engine that costs nothing, to measure what the server itself costs.

Give :func:`load_null` to an engine pool in place of its loader. Windows of any length get frames
of the right number, all of them neutral; nothing is computed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from ser_engine.config import EngineConfig
from ser_engine.errors import WindowError
from ser_engine.frames import num_frames
from ser_engine.labels import EMOTION2VEC_TOKENS, LabelSet
from ser_engine.types import ModelInfo, Window, WindowResult

_LABELS = LabelSet.from_tokens(EMOTION2VEC_TOKENS)
_EMBEDDING_DIM = 768
"""That of emotion2vec base, so that results are of its size."""


class NullEngine:
    """Answers every window with the same frames. See :class:`ser_engine.types.Core`."""

    runtime_name = "none"

    def __init__(self, name: str = "null") -> None:
        self.info = ModelInfo(name, "made up", "none", "", _LABELS, _EMBEDDING_DIM)
        self._results: dict[tuple[int, int], WindowResult] = {}

    def warm_up(self) -> None:
        """There is nothing to get ready."""

    def step(self, windows: Sequence[Window]) -> list[WindowResult | WindowError]:
        """Return the result of each window's length; it is made once."""
        return [self._result(window) for window in windows]

    def forget(self, stream_key: str) -> None:
        """Nothing is kept."""

    def _result(self, window: Window) -> WindowResult:
        num_samples, hop = len(window.samples), window.hop_samples
        result = self._results.get((num_samples, hop))
        if result is None:
            frames = sum(num_frames(num_samples - shift) for shift in window.pass_shifts())
            logits = np.zeros((frames, len(_LABELS)), np.float32)
            logits[:, _LABELS.names.index("neutral")] = 4.0
            embeddings = np.zeros((frames, _EMBEDDING_DIM), np.float32)
            result = WindowResult(logits, embeddings, hop)
            for array in (logits, embeddings):
                array.setflags(write=False)
            self._results[num_samples, hop] = result
        return result


def load_null(config: EngineConfig) -> Callable[[], NullEngine]:
    """Stand in for :func:`stream_server.engines.opening.load`, whatever model is named."""
    return NullEngine
