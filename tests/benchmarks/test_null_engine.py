from __future__ import annotations

import numpy as np
import pytest

from benchmarks.null_engine import load_null
from ser_engine.config import EngineConfig, TimelineConfig
from ser_engine.types import Window, WindowResult


@pytest.mark.parametrize(("frame_hop_ms", "frames"), [(20, 49), (10, 98)])
def test_every_window_has_its_number_of_frames(frame_hop_ms: int, frames: int) -> None:
    config = EngineConfig(timeline=TimelineConfig(frame_hop_ms=frame_hop_ms))
    engine = load_null(config)()
    window = Window(np.zeros(16_000, np.float32))
    first, second = engine.step([window, window])
    assert isinstance(first, WindowResult)
    assert first is second
    assert first.logits.shape == (frames, len(engine.info.labels))
    assert first.embeddings.shape == (frames, engine.info.embedding_dim)
    assert first.hop_samples == frame_hop_ms * 16
    assert engine.info.labels.names[int(first.logits[0].argmax())] == "neutral"
