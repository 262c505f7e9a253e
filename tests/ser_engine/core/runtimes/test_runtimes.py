"""Every runtime gives what eager PyTorch gives."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from ser_engine.config import RuntimeName
from ser_engine.core.factory import engine_from_checkpoint
from ser_engine.errors import ConfigError, RuntimeUnavailableError
from ser_engine.models.standard.network import Standard, StandardSizes
from ser_engine.types import Window, WindowResult
from tests.support.networks import engine, load, noise, posteriors

# What PyTorch's compiler imports warns of its own ageing.
INDUCTOR_WARNS = pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")

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


@pytest.mark.parametrize(
    ("runtime", "tolerance"),
    [
        pytest.param("openvino", 1e-4, marks=pytest.mark.needs("openvino")),
        pytest.param("onnx", 1e-4, marks=pytest.mark.needs("onnx", "onnxruntime")),
        pytest.param("funasr", 1e-4, marks=pytest.mark.needs("funasr")),
    ],
)
def test_fp32_runtimes_agree_with_eager_pytorch(
    request: pytest.FixtureRequest,
    tiny_checkpoint_dir: Path,
    tmp_path: Path,
    runtime: RuntimeName,
    tolerance: float,
) -> None:
    if runtime == "funasr":
        request.getfixturevalue("funasr")
        from ser_engine.config import EngineConfig, ModelConfig

        config = EngineConfig(model=ModelConfig(runtime="funasr", device="cpu", threads=1))
        made: object = engine_from_checkpoint(load(tiny_checkpoint_dir), config)
    else:
        made = engine(tiny_checkpoint_dir, tmp_path, runtime=runtime)

    check_against_eager(tiny_checkpoint_dir, made, tolerance)


@pytest.mark.needs("c++")
@INDUCTOR_WARNS
def test_compiled_pytorch_agrees_with_eager(tiny_checkpoint_dir: Path, tmp_path: Path) -> None:
    made = engine(tiny_checkpoint_dir, tmp_path, runtime="torch-compile")
    window = Window(noise(8_000))

    (compiled,), (eager,) = made.step([window]), engine(tiny_checkpoint_dir).step([window])

    assert isinstance(compiled, WindowResult)
    assert isinstance(eager, WindowResult)
    np.testing.assert_allclose(compiled.logits, eager.logits, atol=1e-4)


@pytest.mark.needs("openvino")
def test_a_converted_model_is_kept_for_the_next_start(
    tiny_checkpoint_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine(tiny_checkpoint_dir, tmp_path, runtime="openvino")
    monkeypatch.setattr(
        "ser_engine.core.runtimes.openvino_runtime.convert",
        lambda network: pytest.fail("made again"),
    )

    made = engine(tiny_checkpoint_dir, tmp_path, runtime="openvino")

    check_against_eager(tiny_checkpoint_dir, made, 1e-4)


@pytest.mark.needs("openvino", "nncf")
def test_calibrated_int8_stays_near_fp32(tiny_checkpoint_dir: Path, tmp_path: Path) -> None:
    speech = tmp_path / "speech"
    speech.mkdir()
    for number in range(4):
        soundfile.write(speech / f"{number}.wav", noise(80_000, number), 16_000)

    made = engine(tiny_checkpoint_dir, tmp_path, runtime="openvino-int8", calibration_dir=speech)

    assert made.runtime_name == "openvino int8 cpu"
    window = Window(noise(64_000, seed=9))
    (int8,), (fp32,) = made.step([window]), engine(tiny_checkpoint_dir).step([window])
    difference = np.abs(posteriors(int8) - posteriors(fp32)).max()
    assert 0 < difference < 0.1


@pytest.mark.needs("onnx", "onnxruntime")
@pytest.mark.filterwarnings("ignore::DeprecationWarning:onnxruntime")
def test_dynamic_int8_stays_near_fp32(tiny_checkpoint_dir: Path, tmp_path: Path) -> None:
    made = engine(tiny_checkpoint_dir, tmp_path, runtime="onnx-int8")

    assert made.runtime_name == "onnx int8 cpu"
    assert {path.name for path in tmp_path.rglob("*.onnx")} == {"local.onnx", "context.onnx"}
    window = Window(noise(64_000, seed=9))
    (int8,), (fp32,) = made.step([window]), engine(tiny_checkpoint_dir).step([window])
    difference = np.abs(posteriors(int8) - posteriors(fp32)).max()
    assert 0 < difference < 0.1


@pytest.mark.needs("openvino", "onnx", "onnxruntime")
@pytest.mark.filterwarnings("ignore::DeprecationWarning:onnxruntime")
def test_the_mel_filters_of_standard_are_left_in_float32(tmp_path: Path) -> None:
    """In int8 none of 24 labels survived: small powers, and the logarithm after them."""
    from ser_engine.core.runtimes import onnx_runtime, openvino_runtime

    sizes = StandardSizes(dim=32, num_heads=2, depth=1, hidden=32, embed=8)
    network = Standard(sizes).eval().requires_grad_(False)
    _, graph = openvino_runtime.convert(network)
    (name,) = openvino_runtime.products_with_precise(network, graph)
    assert "log_mel" in name
    onnx_runtime.export_stages(network, tmp_path)
    assert len(onnx_runtime.products_with_precise(network, tmp_path / "context.onnx")) == 1


@pytest.mark.needs("openvino", "nncf")
def test_a_folder_without_speech_cannot_calibrate(
    tiny_checkpoint_dir: Path, tmp_path: Path
) -> None:
    speech = tmp_path / "speech"
    speech.mkdir()
    (speech / "broken.wav").write_text("no audio")

    with pytest.raises(ConfigError, match="no recording of at least 4 s could be read"):
        engine(tiny_checkpoint_dir, tmp_path, runtime="openvino-int8", calibration_dir=speech)
    assert not list(tmp_path.rglob("*.partial"))


@pytest.mark.parametrize(
    ("runtime", "module", "install"),
    [
        ("openvino", "openvino", "emotion-monitor[openvino]"),
        ("onnx", "onnx", "emotion-monitor[onnx]"),
        ("funasr", "funasr", "emotion-monitor[funasr]"),
    ],
)
def test_a_runtime_that_is_not_installed_says_how_to_get_it(
    tiny_checkpoint_dir: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    runtime: RuntimeName,
    module: str,
    install: str,
) -> None:
    monkeypatch.setitem(__import__("sys").modules, module, None)

    with pytest.raises(RuntimeUnavailableError) as caught:
        engine(tiny_checkpoint_dir, tmp_path, runtime=runtime)

    assert install in str(caught.value)


@pytest.mark.needs("gpu")
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_cuda_agrees_with_the_cpu(tiny_checkpoint_dir: Path, precision: str) -> None:
    from ser_engine.core.engine import EngineCore
    from ser_engine.core.features import FeatureExtractor
    from ser_engine.core.runtimes.torch_runtime import TorchRuntime
    from tests.support.networks import network

    model = network(tiny_checkpoint_dir)
    runtime = TorchRuntime(model, "cuda", precision)
    layer = network(tiny_checkpoint_dir).first_layer()
    assert layer is not None
    extractor = FeatureExtractor(
        runtime=runtime,
        layer=layer.to(runtime.device),
        feature_dim=model.feature_dim,
        tolerance=None,
        buckets=(25, 199),
        max_bytes=1,
    )
    made = EngineCore(load(tiny_checkpoint_dir).info, runtime, extractor, max_batch_size=4)
    made.warm_up()

    check_against_eager(tiny_checkpoint_dir, made, 1e-3 if precision == "fp32" else 0.3)
