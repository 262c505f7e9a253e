"""Every runtime gives what eager PyTorch gives."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from torch import Tensor, nn

from ser_engine.config import RuntimeName
from ser_engine.core.runtimes import onnx_runtime, openvino_runtime, select
from ser_engine.core.runtimes.torch_runtime import TorchRuntime
from ser_engine.errors import ConfigError, RuntimeUnavailableError
from ser_engine.models.model import FrameOutputs, Network
from ser_engine.types import Window
from tests.support.networks import (
    check_against_eager,
    engine,
    load,
    network,
    noise,
    posteriors,
)

# What PyTorch's compiler imports warns of its own ageing.
INDUCTOR_WARNS = pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")


@pytest.fixture(scope="module")
def exported(tiny_checkpoint_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The two stages as ONNX files: to trace them takes longer than all that is done with them."""
    folder = tmp_path_factory.mktemp("exported")
    onnx_runtime.export_stages(network(tiny_checkpoint_dir), folder)
    return folder


@pytest.fixture
def traced_once(exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def copy(network: Network, folder: Path) -> None:
        for path in exported.iterdir():
            shutil.copy(path, folder)

    monkeypatch.setattr(onnx_runtime, "export_stages", copy)


@pytest.mark.needs("openvino")
def test_openvino_agrees_with_eager_pytorch_and_is_converted_once(
    tiny_checkpoint_dir: Path, converted_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_against_eager(
        tiny_checkpoint_dir, engine(tiny_checkpoint_dir, converted_dir, runtime="openvino"), 1e-4
    )
    monkeypatch.setattr(
        "ser_engine.core.runtimes.openvino_runtime.convert",
        lambda network: pytest.fail("converted again"),
    )

    made = engine(tiny_checkpoint_dir, converted_dir, runtime="openvino")

    check_against_eager(tiny_checkpoint_dir, made, 1e-4)


@pytest.mark.needs("onnx", "onnxruntime")
@pytest.mark.usefixtures("traced_once")
def test_onnx_agrees_with_eager_pytorch(tiny_checkpoint_dir: Path, tmp_path: Path) -> None:
    made = engine(tiny_checkpoint_dir, tmp_path, runtime="onnx")

    check_against_eager(tiny_checkpoint_dir, made, 1e-4)


class _Mixed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scores = nn.Linear(8, 3)

    def forward(self, features: Tensor, num_frames: Tensor | None = None) -> FrameOutputs:
        mixed = features + features.mean(dim=1, keepdim=True)
        return FrameOutputs(mixed, self.scores(mixed))


class TwoLayers(Network):
    """As small as a network can be: to compile a real one takes a minute."""

    def __init__(self) -> None:
        super().__init__()
        self.feature_dim = 8
        self.local = nn.Sequential(nn.Unflatten(1, (1, -1)), nn.Conv1d(1, 8, 400, 320), nn.GELU())
        self.context = _Mixed()


@pytest.mark.needs("c++")
@INDUCTOR_WARNS
def test_compiled_pytorch_agrees_with_eager() -> None:
    torch.manual_seed(0)
    two_layers = TwoLayers().eval().requires_grad_(False)
    made = [TorchRuntime(two_layers, compiled=compiled) for compiled in (True, False)]

    assert [each.name for each in made] == ["torch-compile fp32 cpu", "torch fp32 cpu"]
    for length in (8_000, 64_000):
        samples = torch.from_numpy(noise(length)[None])
        compiled, eager = (each.local(samples)[0].T for each in made)
        torch.testing.assert_close(compiled, eager, atol=1e-5, rtol=0)
        (theirs,), (ours,) = (each.context([eager]) for each in made)
        torch.testing.assert_close(theirs.logits, ours.logits, atol=1e-5, rtol=0)
        torch.testing.assert_close(theirs.embeddings, ours.embeddings, atol=1e-5, rtol=0)


@pytest.mark.needs("openvino", "nncf")
def test_calibrated_int8_stays_near_fp32_and_auto_takes_it_within_its_bound_only(
    tiny_checkpoint_dir: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
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

    (measured,) = [float(path.read_text()) for path in tmp_path.rglob("deviation.txt")]
    assert 0 < measured < 0.1
    monkeypatch.setattr(select, "has_int8_instructions", lambda: True)
    for bound, precision in ((measured, "int8"), (measured / 2, "fp32")):
        monkeypatch.setattr(openvino_runtime, "MAX_DEVIATION", bound)
        made = engine(tiny_checkpoint_dir, tmp_path, runtime="auto", calibration_dir=speech)
        assert made.runtime_name == f"openvino {precision} cpu"
    assert "executed in fp32" in caplog.text


@pytest.mark.needs("onnx", "onnxruntime")
@pytest.mark.usefixtures("traced_once")
@pytest.mark.filterwarnings("ignore::DeprecationWarning:onnxruntime")
def test_dynamic_int8_stays_near_fp32(tiny_checkpoint_dir: Path, tmp_path: Path) -> None:
    made = engine(tiny_checkpoint_dir, tmp_path, runtime="onnx-int8")

    assert made.runtime_name == "onnx int8 cpu"
    assert {path.name for path in tmp_path.rglob("*.onnx")} == {"local.onnx", "context.onnx"}
    window = Window(noise(64_000, seed=9))
    (int8,), (fp32,) = made.step([window]), engine(tiny_checkpoint_dir).step([window])
    difference = np.abs(posteriors(int8) - posteriors(fp32)).max()
    assert 0 < difference < 0.1


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
