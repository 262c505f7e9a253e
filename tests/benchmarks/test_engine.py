from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from benchmarks import engine_cuda
from benchmarks.report import Report, alternate, median, percentile
from ser_engine.models.emotion2vec import Emotion2vecSizes

BASE = Emotion2vecSizes(
    conv_layers=((512, 10, 5), *(((512, 3, 2),) * 4), (512, 2, 2), (512, 2, 2)),
    embed_dim=768,
    num_heads=12,
    prenet_depth=4,
    depth=8,
    mlp_ratio=4.0,
    norm_eps=1e-5,
    num_extra_tokens=10,
    pos_conv_depth=5,
    pos_conv_width=95,
    pos_conv_groups=16,
    normalize=True,
)


def test_a_report_holds_all_that_traces_a_figure(tmp_path: Path) -> None:
    report = Report({"rounds": 3})
    report.add(size="base", median_s=0.5)
    report.summary["base_ratio"] = 2.0

    report.finish(tmp_path / "made" / "report.json")

    document = json.loads((tmp_path / "made" / "report.json").read_text())
    assert set(document) == {"summary", "machine", "versions", "settings", "rows"}
    assert document["summary"] == {"base_ratio": 2.0}
    assert document["rows"] == [{"size": "base", "median_s": 0.5}]
    assert {"processor", "cores"} <= set(document["machine"])
    assert {"python", "torch", "numpy"} <= set(document["versions"])


def test_contestants_take_turns() -> None:
    order: list[tuple[str, int]] = []

    def note(name: str) -> Callable[[int], None]:
        return lambda number: order.append((name, number))

    alternate({"a": note("a"), "b": note("b")}, rounds=2)

    assert order == [("a", 0), ("b", 0), ("a", 1), ("b", 1)]


def test_percentiles() -> None:
    assert median([3, 1, 2]) == 2
    assert median([1, 2]) == 1.5
    assert percentile([0, 10], 95) == 9.5


def test_base_costs_what_was_counted_for_it() -> None:
    # 15.4, 29.5, 58.3 and 149 GFLOP for 1, 2, 4 and 10 s, of which 4 s is the window.
    for seconds, gflop in ((1, 15.4), (2, 29.5), (4, 58.3), (10, 149)):
        counted = engine_cuda.flop_per_window(BASE, seconds * 16_000) / 1e9
        assert counted == pytest.approx(gflop, rel=0.03)


def test_the_gpu_benchmark_measures_batches_and_live_streams(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(engine_cuda, "LIVE_SECONDS", 0.5)
    report = Report({})

    engine_cuda.measure(report, "tiny", torch.device("cpu"), "fp32", 1e12, (1, 2))

    assert report.summary["tiny_windows_per_s"] > 0
    assert 0 < report.summary["tiny_share_of_matrix_rate"] < 1
    assert [row["batch"] for row in report.rows if "batch" in row] == [1, 2]
    assert any("streams" in row for row in report.rows)


def test_the_gpu_benchmark_needs_torch_numpy_and_yaml_only() -> None:
    code = """
import sys
class Bare:
    def find_spec(self, name, path=None, target=None):
        optional = {"safetensors", "pydantic", "soundfile", "soxr", "webrtcvad", "typer", "rich",
                    "openvino", "onnx", "funasr", "pydantic_settings", "huggingface_hub"}
        if name.partition(".")[0] in optional:
            raise ImportError(name)
sys.meta_path.insert(0, Bare())
import benchmarks.engine
import benchmarks.engine_cuda
"""
    subprocess.run([sys.executable, "-c", code], check=True)
