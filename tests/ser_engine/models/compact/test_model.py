from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from ser_engine.config import EngineConfig, ModelConfig, RuntimeName
from ser_engine.core.factory import build_engine
from ser_engine.errors import CheckpointError, RuntimeUnavailableError
from ser_engine.frames import num_frames
from ser_engine.models.compact import COMPACT, COMPACT_WEIGHTS, Compact
from ser_engine.models.compact.front_end import FrontEnd
from ser_engine.models.registry import find_model
from ser_engine.timeline.smoothing import softmax
from ser_engine.types import Core, FloatArray, Window, WindowResult
from tests.requirements import REPOSITORY

EMOTION2VEC_NAMES = (
    "angry",
    "disgusted",
    "fearful",
    "happy",
    "neutral",
    "other",
    "sad",
    "surprised",
    "unknown",
)


@pytest.fixture(scope="module")
def network() -> Compact:
    network = COMPACT.read().build()
    assert isinstance(network, Compact)
    return network


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Core:
    models_dir = tmp_path_factory.mktemp("models")
    model = ModelConfig(name="compact", models_dir=str(models_dir), threads=1)
    return build_engine(EngineConfig(model=model))


def voice(rng: np.random.Generator, seconds: float, level: float = 0.1) -> FloatArray:
    """Return a buzz with a moving pitch, in syllables."""
    time = np.arange(int(seconds * 16_000)) / 16_000
    pitch = 160 + 40 * np.sin(2 * np.pi * 0.7 * time)
    phase = 2 * np.pi * np.cumsum(pitch) / 16_000
    buzz = sum(np.sin(k * phase) / k for k in range(1, 12))
    syllables = 0.55 + 0.45 * np.sin(2 * np.pi * 4 * time)
    noise = 0.02 * rng.standard_normal(len(time))
    return (level * (buzz * syllables + noise)).astype(np.float32)


def scored(engine: Core, *windows: FloatArray) -> list[WindowResult]:
    results = engine.step([Window(samples) for samples in windows])
    assert all(isinstance(result, WindowResult) for result in results)
    return results  # type: ignore[return-value]


def test_it_says_what_it_is_and_what_it_may_be_used_for(tmp_path: Path) -> None:
    config = ModelConfig(name="compact", models_dir=str(tmp_path / "none"), offline=True)
    info = find_model(config, clients=[]).info
    assert info.name == "compact"
    assert "acted speech" in info.notice
    assert "weaker than emotion2vec+" in info.notice
    assert "non-commercial" in info.notice
    assert "CC BY-NC-SA 4.0" in info.licence


def test_labels_are_those_of_emotion2vec_in_its_order() -> None:
    assert COMPACT.read().info.labels.names == EMOTION2VEC_NAMES


@pytest.mark.parametrize("num_samples", [400, 719, 720, 16_000, 64_000, 64_001])
def test_frames_are_on_the_grid(engine: Core, rng: np.random.Generator, num_samples: int) -> None:
    (result,) = scored(engine, voice(rng, 4.1)[:num_samples])
    assert result.logits.shape == (num_frames(num_samples), 9)
    assert result.embeddings.shape == (num_frames(num_samples), engine.info.embedding_dim)
    assert np.isfinite(result.embeddings).all()


def test_the_class_it_never_learned_is_masked_and_nothing_else(
    engine: Core, rng: np.random.Generator
) -> None:
    (result,) = scored(engine, voice(rng, 2))
    masked = [bool(np.isneginf(column).all()) for column in result.logits.T]
    assert [name for name, is_ in zip(EMOTION2VEC_NAMES, masked, strict=True) if is_] == ["other"]
    posteriors = softmax(result.logits.mean(axis=0))
    assert posteriors[EMOTION2VEC_NAMES.index("other")] == 0
    assert posteriors.sum() == pytest.approx(1)


def test_the_head_is_linear_so_that_pooling_logits_is_the_utterance(
    network: Compact, rng: np.random.Generator
) -> None:
    with torch.inference_mode():
        outputs = network(torch.from_numpy(voice(rng, 3))[None])
        of_mean = network.context.head(outputs.embeddings.mean(dim=1))
    torch.testing.assert_close(outputs.logits.mean(dim=1), of_mean, atol=1e-4, rtol=1e-4)


def test_a_padded_row_equals_the_row_alone(network: Compact, rng: np.random.Generator) -> None:
    lengths = [120, 77, 1, 50]
    with torch.inference_mode():
        rows = [
            network.local(torch.from_numpy(voice(rng, 3, level)[: (n - 1) * 320 + 400])[None])[0]
            for n, level in zip(lengths, (0.1, 0.001, 0.3, 0.03), strict=True)
        ]
        padded = torch.full((len(rows), 120, rows[0].shape[1]), 3.0)
        for place, row in enumerate(rows):
            padded[place, : len(row)] = row
        together = network.context(padded, torch.tensor(lengths))
        for place, row in enumerate(rows):
            alone = network.context(row[None])
            for got, expected in zip(together, alone, strict=True):
                torch.testing.assert_close(
                    got[place, : len(row)], expected[0], atol=2e-4, rtol=2e-4
                )


def test_a_local_feature_depends_on_its_frame_alone(rng: np.random.Generator) -> None:
    samples = torch.from_numpy(voice(rng, 1))[None]
    front_end = FrontEnd()
    whole = front_end(samples)[0]
    frame = front_end(samples[:, 320 * 7 : 320 * 7 + 400])[0, 0]
    torch.testing.assert_close(whole[7], frame, atol=1e-5, rtol=1e-5)


def test_kept_features_change_nothing(engine: Core, rng: np.random.Generator) -> None:
    audio = voice(rng, 5)
    for start in (0, 8_000, 16_000):
        window = audio[start : start + 64_000]
        (kept,) = engine.step([Window(window, start, "stream")])
        (alone,) = scored(engine, window)
        assert isinstance(kept, WindowResult)
        np.testing.assert_allclose(kept.embeddings, alone.embeddings, atol=1e-4)


def test_level_does_not_matter(engine: Core, rng: np.random.Generator) -> None:
    audio = voice(rng, 3)
    loud, quiet = scored(engine, audio * 2, audio * 0.05)
    np.testing.assert_allclose(
        softmax(loud.logits.mean(axis=0)), softmax(quiet.logits.mean(axis=0)), atol=0.02
    )


def test_silence_and_noise_are_unknown(engine: Core, rng: np.random.Generator) -> None:
    silence = np.zeros(32_000, np.float32)
    noise = (0.01 * rng.standard_normal(32_000)).astype(np.float32)
    for result in scored(engine, silence, noise):
        winner = EMOTION2VEC_NAMES[int(result.logits.mean(axis=0).argmax())]
        assert winner == "unknown"


def test_what_only_emotion2vec_has_is_refused(tmp_path: Path) -> None:
    model = ModelConfig(name="compact", runtime="funasr", models_dir=str(tmp_path))
    with pytest.raises(RuntimeUnavailableError, match="FunASR does not know this model"):
        build_engine(EngineConfig(model=model))


@pytest.mark.parametrize(
    ("runtime", "tolerance"),
    [
        pytest.param("openvino", 1e-4, marks=pytest.mark.needs("openvino")),
        pytest.param("onnx-int8", 0.1, marks=pytest.mark.needs("onnx", "onnxruntime")),
    ],
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning:onnxruntime")
def test_every_runtime_executes_it(
    engine: Core, rng: np.random.Generator, tmp_path: Path, runtime: RuntimeName, tolerance: float
) -> None:
    model = ModelConfig(name="compact", runtime=runtime, models_dir=str(tmp_path), threads=1)
    made = build_engine(EngineConfig(model=model))
    windows = [voice(rng, 4)[:length] for length in (64_000, 8_000, 400)]
    for ours, theirs in zip(scored(made, *windows), scored(engine, *windows), strict=True):
        found, expected = (softmax(one.logits.mean(axis=0)) for one in (ours, theirs))
        np.testing.assert_allclose(found, expected, atol=tolerance)


def test_a_damaged_file_is_told(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    with pytest.raises(CheckpointError, match="install the package again"):
        COMPACT.read(path)
    path.write_bytes(COMPACT_WEIGHTS.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match="install the package again"):
        COMPACT.read(path)


def test_loading_and_scoring_needs_nothing_of_training() -> None:
    code = (
        "import sys, numpy as np\n"
        "from ser_engine.config import EngineConfig, ModelConfig, RuntimeName\n"
        "from ser_engine.core.factory import build_engine\n"
        "from ser_engine.types import Window\n"
        "engine = build_engine(EngineConfig(model=ModelConfig(name='compact')))\n"
        "engine.step([Window(np.zeros(16000, np.float32))])\n"
        "unwanted = {'training', 'benchmarks', 'scipy', 'soundfile', 'soxr', 'matplotlib'}\n"
        "print(sorted(unwanted & set(sys.modules)))\n"
    )
    command = [sys.executable, "-c", code]
    answer = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"


def test_card_and_picture_are_beside_the_weights() -> None:
    card = (COMPACT_WEIGHTS.parent / "MODEL_CARD.md").read_text(encoding="utf-8")
    for word in ("CC BY-NC-SA 4.0", "EmoDB", "RAVDESS", "nEMO", "confusion.png"):
        assert word in card
    assert (COMPACT_WEIGHTS.parent / "confusion.png").is_file()
    assert COMPACT_WEIGHTS.stat().st_size < 8_000_000
