"""What options are chosen by, held to the networks that would be shipped with them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from benchmarks.accuracy_choice import CalibratedCore
from ser_engine.config import EngineConfig
from ser_engine.core.factory import engine_from_checkpoint
from ser_engine.models.compact import COMPACT, Compact, CompactSizes
from ser_engine.types import Window, WindowResult
from training.clips import CLASSES
from training.export import Calibration, export


def test_it_says_what_a_network_exported_with_that_calibration_says(tmp_path: Path) -> None:
    torch.manual_seed(1)
    model = Compact(replace(CompactSizes(), num_classes=len(CLASSES))).eval()
    torch.nn.init.normal_(model.context.head.weight)
    calibration = Calibration(temperature=1.5, neutral_bias=-0.75, abstain_below=0.4)
    engines = []
    for number, each in enumerate((Calibration(), calibration)):
        path = tmp_path / f"{number}.safetensors"
        export(model, each, path, {})
        engines.append(engine_from_checkpoint(COMPACT.read(path), EngineConfig()))
    core, shipped = engines
    answers: dict[bytes, WindowResult] = {}
    calibrated = CalibratedCore(core, answers, shipped.info, calibration)
    window = Window(np.random.default_rng(1).normal(0, 0.05, 16_000).astype(np.float32))

    (expected,) = shipped.step([window])
    (first,) = calibrated.step([window])
    (kept,) = calibrated.step([window])

    assert isinstance(expected, WindowResult)
    assert isinstance(first, WindowResult) and isinstance(kept, WindowResult)
    known = np.isfinite(expected.logits)
    np.testing.assert_allclose(first.logits[known], expected.logits[known], atol=0.01)
    np.testing.assert_array_equal(first.logits, kept.logits)
    assert np.ptp(expected.logits[known]) > 0.5, "else a bias or a temperature could not be seen"
    assert len(answers) == 1
