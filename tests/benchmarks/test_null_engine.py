from __future__ import annotations

import numpy as np
import pytest

from benchmarks.null_engine import load_null
from ser_engine.config import EngineConfig
from ser_engine.types import Window, WindowResult


@pytest.mark.parametrize(("hop_samples", "frames"), [(320, 49), (160, 98)])
def test_every_window_has_its_number_of_frames(hop_samples: int, frames: int) -> None:
    engine = load_null(EngineConfig())()
    window = Window(np.zeros(16_000, np.float32), hop_samples=hop_samples)
    first, second = engine.step([window, window])
    assert isinstance(first, WindowResult)
    assert first is second
    assert first.logits.shape == (frames, len(engine.info.labels))
    assert first.embeddings.shape == (frames, engine.info.embedding_dim)
    assert first.hop_samples == hop_samples
    assert engine.info.labels.names[int(first.logits[0].argmax())] == "neutral"
