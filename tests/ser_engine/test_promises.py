"""What the engine promises, on real speech and against FunASR itself."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from ser_engine.config import EngineConfig, ModelConfig, RuntimeName
from ser_engine.core.factory import engine_from_checkpoint
from ser_engine.models.emotion2vec.reference import FunasrEngine
from ser_engine.types import Window, WindowResult
from tests.conftest import SpeechClip
from tests.support.networks import engine, load, posteriors

WINDOW = 64_000


def reference(folder: Path) -> Any:
    config = EngineConfig(model=ModelConfig(runtime="funasr", device="cpu", threads=2))
    made = engine_from_checkpoint(load(folder), config)
    assert isinstance(made, FunasrEngine)
    return made.auto_model


def check_against_funasr(core: Any, auto_model: Any, clips: tuple[SpeechClip, ...]) -> None:
    for clip in clips:
        samples = clip.samples[:WINDOW]
        (ours,) = core.step([Window(samples)])
        (theirs,) = auto_model.generate(samples, granularity="frame", extract_embedding=True)
        assert isinstance(ours, WindowResult)
        np.testing.assert_allclose(posteriors(ours), theirs["scores"], atol=1e-4)
        assert [label.bilingual for label in core.info.labels.labels][:-1] == theirs["labels"][:-1]
        distance = np.linalg.norm(ours.embeddings - theirs["feats"])
        assert distance / np.linalg.norm(theirs["feats"]) < 1e-3
        (utterance,) = auto_model.generate(samples, granularity="utterance")
        mean = ours.embeddings.mean(axis=0)
        assert np.linalg.norm(mean - utterance["feats"]) / np.linalg.norm(mean) < 1e-3


@pytest.mark.needs("funasr", "shared-data")
@pytest.mark.parametrize(
    "runtime", ["torch", pytest.param("openvino", marks=pytest.mark.needs("openvino"))]
)
def test_a_windows_posterior_equals_funasrs_on_a_tiny_network(
    funasr: ModuleType,
    tiny_checkpoint_dir: Path,
    tmp_path: Path,
    speech_clips: tuple[SpeechClip, ...],
    runtime: RuntimeName,
) -> None:
    core = engine(tiny_checkpoint_dir, tmp_path, runtime=runtime)

    check_against_funasr(core, reference(tiny_checkpoint_dir), speech_clips)


@pytest.mark.needs("funasr", "shared-data")
def test_a_windows_posterior_equals_funasrs_on_a_base_network(
    funasr: ModuleType, base_checkpoint_dir: Path, speech_clips: tuple[SpeechClip, ...]
) -> None:
    core = engine(base_checkpoint_dir)

    check_against_funasr(core, reference(base_checkpoint_dir), speech_clips[::3])


@pytest.mark.needs("shared-data")
def test_kept_features_move_no_posterior_by_a_thousandth(
    base_checkpoint_dir: Path, speech_clips: tuple[SpeechClip, ...]
) -> None:
    cached, exact = engine(base_checkpoint_dir, exact=False), engine(base_checkpoint_dir)
    for corpus in ("emodb", "ravdess", "nemo_pl"):
        clips = [clip.samples for clip in speech_clips if clip.corpus == corpus]
        stream = np.concatenate(clips)[: WINDOW + 3 * 8_000]
        for end in range(WINDOW, len(stream) + 1, 8_000):
            window = Window(stream[end - WINDOW : end], end - WINDOW, corpus)
            (ours,), (theirs,) = cached.step([window]), exact.step([window])
            np.testing.assert_allclose(posteriors(ours), posteriors(theirs), atol=1e-3)
    assert cached.extractor.stats.reused > 0
