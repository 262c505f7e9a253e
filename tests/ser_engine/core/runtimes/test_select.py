from __future__ import annotations

import importlib.util

import pytest

from ser_engine.config import EngineConfig, ModelConfig, RuntimeName
from ser_engine.core.runtimes import select
from ser_engine.core.runtimes.select import choose_runtime
from ser_engine.models.model import Graphs, Network


def config(**model: object) -> EngineConfig:
    return EngineConfig(model=ModelConfig(**model))  # type: ignore[arg-type]


def network(*, is_small: bool = False, converts: bool = True) -> Network:
    class Fake(Network):
        def graphs(self) -> Graphs | None:
            return Graphs(self, self) if converts else None

    fake = Fake()
    fake.is_small = is_small
    return fake


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

    chosen = choose_runtime(config(calibration_dir=calibration_dir), device, network())

    assert chosen == expected


def test_a_small_network_starts_at_once_rather_than_being_converted(packages: set[str]) -> None:
    packages.add("openvino")

    assert choose_runtime(config(), "cpu", network(is_small=True)) == "torch"
    assert choose_runtime(config(runtime="openvino"), "cpu", network(is_small=True)) == "openvino"


def test_a_runtime_that_is_named_is_taken(packages: set[str]) -> None:
    packages.add("openvino")

    assert choose_runtime(config(runtime="onnx"), "cpu", network()) == "onnx"


@pytest.mark.parametrize("runtime", ["funasr", "onnx", "openvino"])
def test_what_auto_finds_stands_in_for_the_model_a_runtime_was_meant_for(
    packages: set[str], runtime: RuntimeName
) -> None:
    plain = network(converts=False)

    assert choose_runtime(config(runtime=runtime), "cpu", plain) == "torch"
    assert choose_runtime(config(name="compact", runtime=runtime), "cpu", plain) == runtime
