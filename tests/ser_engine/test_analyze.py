"""The way in for programs, with a real network of random weights."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import soundfile

import ser_engine
from ser_engine.config import EngineConfig, ModelConfig
from ser_engine.files import FrameResult, Granularity, StreamResult, UtteranceResult
from tests.ser_engine.timeline.streams import make_audio


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    soundfile.write(tmp_path / "a.wav", make_audio((32_000, 0.1)), 16_000)
    return tmp_path / "a.wav"


def test_utterance_and_frames_agree(
    recording: Path, tiny_checkpoint_dir: Path, tmp_path: Path
) -> None:
    # What is prepared of the model would be kept in the user's folder otherwise.
    model = ModelConfig(
        str(tiny_checkpoint_dir), models_dir=str(tmp_path / "models"), device="cpu", runtime="torch"
    )
    config = EngineConfig(model=model)
    utterance, frames, stream = (
        ser_engine.analyze(recording, granularity, config=config).channels[0].result
        for granularity in get_args(Granularity)
    )
    assert isinstance(utterance, UtteranceResult)
    assert isinstance(frames, FrameResult)
    assert isinstance(stream, StreamResult)
    assert frames.logits.shape == (99, len(utterance.labels))
    np.testing.assert_allclose(frames.logits.mean(axis=0), utterance.logits, atol=1e-5)
    assert utterance.embedding.shape == (64,)


def test_importing_the_package_imports_nothing_heavy() -> None:
    code = "import ser_engine, sys; print({'torch', 'numpy', 'soundfile'} & set(sys.modules))"
    printed = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert printed.stdout == "set()\n"
