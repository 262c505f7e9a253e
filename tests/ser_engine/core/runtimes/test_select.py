from __future__ import annotations

import importlib.util

import pytest

from ser_engine.config import EngineConfig, ModelConfig, RuntimeName
from ser_engine.core.runtimes import select
from ser_engine.core.runtimes.select import choose_runtime


def config(**model: object) -> EngineConfig:
    return EngineConfig(model=ModelConfig(**model))  # type: ignore[arg-type]


@pytest.fixture
def packages(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The optional packages the machine is made to have."""
    installed: set[str] = set()
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: object() if name in installed else None
    )
    return installed


@pytest.mark.parametrize(
    ("device", "installed", "vnni", "calibration_dir", "expected"),
    [
        ("cuda", {"openvino", "nncf"}, True, "speech", "torch"),
        ("cpu", set(), True, "speech", "torch"),
        ("cpu", {"openvino", "nncf"}, True, "speech", "openvino-int8"),
        ("cpu", {"openvino", "nncf"}, False, "speech", "openvino"),
        ("cpu", {"openvino", "nncf"}, True, "", "openvino"),
        ("cpu", {"openvino"}, True, "speech", "openvino"),
    ],
)
def test_auto_takes_the_fastest_runtime_there_is(
    packages: set[str],
    monkeypatch: pytest.MonkeyPatch,
    device: str,
    installed: set[str],
    vnni: bool,
    calibration_dir: str,
    expected: RuntimeName,
) -> None:
    packages |= installed
    monkeypatch.setattr(select, "has_int8_instructions", lambda: vnni)

    assert choose_runtime(config(calibration_dir=calibration_dir), device) == expected


def test_a_runtime_that_is_named_is_taken(packages: set[str]) -> None:
    packages.add("openvino")

    assert choose_runtime(config(runtime="onnx"), "cpu") == "onnx"
