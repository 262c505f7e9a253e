"""What the engine promises, on real speech and against FunASR itself."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from ser_engine.config import EngineConfig, ModelConfig, RuntimeName
from ser_engine.core.engine import EngineCore
from ser_engine.core.factory import engine_from_checkpoint
from ser_engine.models.emotion2vec.reference import FunasrEngine
from ser_engine.types import Window, WindowResult
from tests.conftest import SpeechClip
from tests.support.networks import check_against_eager, engine, load, posteriors

WINDOW = 64_000


@dataclass(frozen=True, slots=True)
class Said:
    """What FunASR says of a window."""

    frames: dict[str, Any]
    utterance: dict[str, Any]


def funasr_says(folder: Path, clips: Iterable[SpeechClip]) -> list[Said]:
    config = EngineConfig(model=ModelConfig(runtime="funasr", device="cpu", threads=2))
    made = engine_from_checkpoint(load(folder), config)
    assert isinstance(made, FunasrEngine)
    said: list[Said] = []
    for clip in clips:
        samples = clip.samples[:WINDOW]
        generate = made.auto_model.generate
        (frames,) = generate(samples, granularity="frame", extract_embedding=True)
        (utterance,) = generate(samples, granularity="utterance")
        said.append(Said(frames, utterance))
    return said


def check_against_funasr(core: Any, clips: Sequence[SpeechClip], said: Sequence[Said]) -> None:
    assert [label.bilingual for label in core.info.labels.labels][:-1] == (
        said[0].frames["labels"][:-1]
    )
    for clip, theirs in zip(clips, said, strict=True):
        (ours,) = core.step([Window(clip.samples[:WINDOW])])
        assert isinstance(ours, WindowResult)
        np.testing.assert_allclose(posteriors(ours), theirs.frames["scores"], atol=1e-4)
        distance = np.linalg.norm(ours.embeddings - theirs.frames["feats"])
        assert distance / np.linalg.norm(theirs.frames["feats"]) < 1e-3
        mean = ours.embeddings.mean(axis=0)
        assert np.linalg.norm(mean - theirs.utterance["feats"]) / np.linalg.norm(mean) < 1e-3


@pytest.mark.needs("funasr")
def test_funasr_as_a_runtime_agrees_with_eager_pytorch(
    tiny_checkpoint_dir: Path, funasr: ModuleType
) -> None:
    config = EngineConfig(model=ModelConfig(runtime="funasr", device="cpu", threads=1))

    made = engine_from_checkpoint(load(tiny_checkpoint_dir), config)

    check_against_eager(tiny_checkpoint_dir, made, 1e-4)


@pytest.fixture(scope="module")
def said_of_tiny(
    funasr: ModuleType, tiny_checkpoint_dir: Path, speech_clips: tuple[SpeechClip, ...]
) -> list[Said]:
    return funasr_says(tiny_checkpoint_dir, speech_clips)


@pytest.mark.needs("funasr", "shared-data")
@pytest.mark.parametrize(
    "runtime", ["torch", pytest.param("openvino", marks=pytest.mark.needs("openvino"))]
)
def test_a_windows_posterior_equals_funasrs_on_a_tiny_network(
    tiny_checkpoint_dir: Path,
    converted_dir: Path,
    speech_clips: tuple[SpeechClip, ...],
    said_of_tiny: list[Said],
    runtime: RuntimeName,
) -> None:
    core = engine(tiny_checkpoint_dir, converted_dir, runtime=runtime)

    check_against_funasr(core, speech_clips, said_of_tiny)


@pytest.fixture(scope="module")
def base(base_checkpoint_dir: Path) -> EngineCore:
    """What computes the features of every window anew; to load it takes seconds."""
    return engine(base_checkpoint_dir)


@pytest.mark.needs("funasr", "shared-data")
def test_a_windows_posterior_equals_funasrs_on_a_base_network(
    funasr: ModuleType,
    base: EngineCore,
    base_checkpoint_dir: Path,
    speech_clips: tuple[SpeechClip, ...],
) -> None:
    clips = speech_clips[::3]

    check_against_funasr(base, clips, funasr_says(base_checkpoint_dir, clips))


@pytest.mark.needs("shared-data")
def test_kept_features_move_no_posterior_by_a_thousandth(
    base: EngineCore, base_checkpoint_dir: Path, speech_clips: tuple[SpeechClip, ...]
) -> None:
    cached = engine(base_checkpoint_dir, exact=False)
    for corpus in ("emodb", "ravdess", "nemo_pl"):
        clips = [clip.samples for clip in speech_clips if clip.corpus == corpus]
        stream = np.concatenate(clips)[: WINDOW + 2 * 8_000]
        for end in range(WINDOW, len(stream) + 1, 8_000):
            window = Window(stream[end - WINDOW : end], end - WINDOW, corpus)
            (ours,), (theirs,) = cached.step([window]), base.step([window])
            np.testing.assert_allclose(posteriors(ours), posteriors(theirs), atol=1e-3)
    assert cached.extractor.stats.reused > 0
