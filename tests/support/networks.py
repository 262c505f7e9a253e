"""Small networks with random weights, and engines made of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from ser_engine.config import EngineConfig, ModelConfig, RuntimeName, TimelineConfig
from ser_engine.core.engine import EngineCore
from ser_engine.core.factory import engine_from_checkpoint
from ser_engine.models.emotion2vec import Emotion2vec, build
from ser_engine.models.emotion2vec.checkpoint import Emotion2vecCheckpoint
from ser_engine.models.emotion2vec.folder import load_folder
from ser_engine.types import FloatArray, Window, WindowResult


def load(folder: Path) -> Emotion2vecCheckpoint:
    return load_folder(folder)


def network(folder: Path) -> Emotion2vec:
    checkpoint = load(folder)
    return build(checkpoint.sizes, checkpoint.tensors)


def engine(
    folder: Path,
    models_dir: Path | None = None,
    *,
    runtime: RuntimeName = "torch",
    exact: bool = True,
    timeline: TimelineConfig | None = None,
    calibration_dir: Path | None = None,
) -> EngineCore:
    """An engine on the CPU for a model folder, with one thread."""
    model = ModelConfig(
        name=str(folder),
        models_dir=str(models_dir or folder),
        runtime=runtime,
        device="cpu",
        features="exact" if exact else "cached",
        threads=1,
        calibration_dir=str(calibration_dir or ""),
    )
    config = EngineConfig(model=model, timeline=timeline or TimelineConfig())
    made = engine_from_checkpoint(load(folder), config)
    assert isinstance(made, EngineCore)
    return made


LENGTHS = (64_000, 64_000, 8_000, 1_999, 400)


def check_against_eager(folder: Path, made: object, tolerance: float) -> None:
    """Windows of several lengths, in one batch, twice."""
    eager = engine(folder)
    windows = [Window(noise(length, seed)) for seed, length in enumerate(LENGTHS)]
    expected = eager.step(windows)
    for _ in range(2):
        results = made.step(windows)  # type: ignore[attr-defined]
        for ours, theirs in zip(results, expected, strict=True):
            assert isinstance(ours, WindowResult), ours
            assert isinstance(theirs, WindowResult)
            np.testing.assert_allclose(ours.logits, theirs.logits, atol=tolerance)
            assert ours.embeddings.shape == theirs.embeddings.shape


def posteriors(result: object) -> FloatArray:
    """The window's posteriors: logits pooled over all frames, then softmax."""
    assert isinstance(result, WindowResult), result
    pooled = torch.from_numpy(result.logits).mean(dim=0)
    scores: FloatArray = pooled.softmax(dim=0).numpy()
    return scores


def noise(num_samples: int, seed: int = 0, level: float = 0.1) -> FloatArray:
    rng = np.random.default_rng(seed)
    return (level * rng.standard_normal(num_samples)).astype(np.float32)
