from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from ser_engine.config import EngineConfig, ModelConfig, RuntimeName
from ser_engine.core.factory import build_engine
from ser_engine.core.runtimes import onnx_runtime, openvino_runtime
from ser_engine.frames import num_frames
from ser_engine.labels import EMOTION2VEC_TOKENS, LabelSet
from ser_engine.models.model import Network
from ser_engine.models.registry import find_model
from ser_engine.models.standard import STANDARD, STANDARD_WEIGHTS
from ser_engine.timeline.smoothing import softmax
from ser_engine.types import Core, FloatArray, Window, WindowResult
from training.tones import KINDS, tone


def engine_of(runtime: RuntimeName, models_dir: Path) -> Core:
    model = ModelConfig(
        name="standard", runtime=runtime, models_dir=str(models_dir), threads=1, offline=True
    )
    return build_engine(EngineConfig(model=model))


@pytest.fixture(scope="module")
def models_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where what the runtimes convert is kept."""
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Core:
    return engine_of("torch", tmp_path_factory.mktemp("models"))


def speech(seconds: float, seed: int = 0) -> FloatArray:
    """Return a buzz with a moving pitch, in syllables."""
    rng = np.random.default_rng(seed)
    time = np.arange(int(seconds * 16_000)) / 16_000
    phase = 2 * np.pi * np.cumsum(150 + 40 * np.sin(2 * np.pi * 0.7 * time)) / 16_000
    buzz = sum(np.sin(k * phase) / k for k in range(1, 12))
    syllables = 0.55 + 0.45 * np.sin(2 * np.pi * 4 * time)
    made = 0.05 * (buzz * syllables + 0.02 * rng.standard_normal(len(time)))
    return made.astype(np.float32)


def scored(engine: Core, *windows: Window) -> list[WindowResult]:
    results = engine.step(list(windows))
    assert all(isinstance(result, WindowResult) for result in results)
    return results  # type: ignore[return-value]


def test_auto_takes_it_where_no_emotion2vec_is_on_disk(tmp_path: Path) -> None:
    for name in ("auto", "standard"):
        config = ModelConfig(name=name, models_dir=str(tmp_path / "none"), offline=True)
        info = find_model(config, clients=[]).info
        assert info.name == "standard"
        assert "acted speech" in info.notice
        assert "CC BY-NC-SA 4.0" in info.licence
        assert info.labels.names == LabelSet.from_tokens(EMOTION2VEC_TOKENS).names


def test_it_is_small_and_says_when_it_doubts() -> None:
    assert STANDARD_WEIGHTS.stat().st_size <= 25_000_000
    assert 0.3 <= STANDARD.read().info.abstain_below <= 0.9


def test_classes_that_were_never_learned_are_never_answered(engine: Core) -> None:
    (result,) = scored(engine, Window(speech(4.0)))
    assert result.logits.shape == (num_frames(64_000), 9)
    assert np.isneginf(result.logits[:, engine.info.labels.names.index("other")]).all()


def test_kept_features_change_nothing(engine: Core) -> None:
    samples = speech(5.0)
    for start in (0, 8_000, 16_000):
        window = samples[start : start + 64_000]
        (kept,) = scored(engine, Window(window, stream_key="a", start_sample=start))
        (alone,) = scored(engine, Window(window))
        np.testing.assert_allclose(kept.embeddings, alone.embeddings, atol=1e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_a_sound_without_speech_is_no_emotion(engine: Core, kind: str) -> None:
    samples = tone(kind, 64_000, np.random.default_rng(5)) * np.float32(0.2)
    (result,) = scored(engine, Window(samples))
    best = int(result.logits.mean(axis=0).argmax())
    assert engine.info.labels.names[best] in ("unknown", "neutral")


@pytest.fixture(scope="module")
def traced_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Let the stages be traced for ONNX once: that takes longer than all that is done with them."""
    kept = tmp_path_factory.mktemp("exported")
    export = onnx_runtime.export_stages

    def copy(network: Network, folder: Path) -> None:
        if not list(kept.iterdir()):
            export(network, kept)
        for path in kept.iterdir():
            shutil.copy(path, folder)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(onnx_runtime, "export_stages", copy)
        yield


@pytest.mark.parametrize(
    ("runtime", "tolerance"),
    [
        pytest.param("openvino", 1e-3, marks=pytest.mark.needs("openvino")),
        pytest.param("onnx", 1e-3, marks=pytest.mark.needs("onnx", "onnxruntime")),
        # On speech 0.03 in the mean of 24 clips and 0.16 at most, with the same answer everywhere.
        pytest.param("onnx-int8", 0.2, marks=pytest.mark.needs("onnx", "onnxruntime")),
    ],
)
@pytest.mark.usefixtures("traced_once")
@pytest.mark.filterwarnings("ignore::DeprecationWarning:onnxruntime")
def test_every_runtime_says_the_same(
    engine: Core, models_dir: Path, runtime: RuntimeName, tolerance: float
) -> None:
    window = Window(speech(4.0))
    results = [scored(one, window)[0] for one in (engine, engine_of(runtime, models_dir))]
    expected, found = (softmax(one.logits.mean(axis=0)) for one in results)
    np.testing.assert_allclose(found, expected, atol=tolerance)
    assert found.argmax() == expected.argmax()


@pytest.mark.needs("openvino", "onnx", "onnxruntime")
@pytest.mark.usefixtures("traced_once")
def test_int8_leaves_the_mel_filters_in_float32(models_dir: Path) -> None:
    """In int8 none of 24 labels survived: small powers, and the logarithm after them."""
    import openvino

    for runtime in ("openvino", "onnx"):
        engine_of(runtime, models_dir)
    network = STANDARD.read().build()
    (graph,) = models_dir.rglob("context.xml")
    read = openvino.Core().read_model(graph)
    (name,) = openvino_runtime.products_with_precise(network, read)
    assert "log_mel" in name
    plain = next(path for path in models_dir.rglob("context.onnx") if "int8" not in str(path))
    assert len(onnx_runtime.products_with_precise(network, plain)) == 1
