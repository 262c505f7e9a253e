from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor

from ser_engine.config import EngineConfig, ModelConfig, TimelineConfig
from ser_engine.core.engine import EngineCore
from ser_engine.core.factory import build_engine
from ser_engine.errors import CheckpointError, RuntimeUnavailableError
from ser_engine.models.model import FrameOutputs


def config(**model: object) -> EngineConfig:
    return EngineConfig(model=ModelConfig(**model))  # type: ignore[arg-type]


def made(config: EngineConfig) -> EngineCore:
    engine = build_engine(config)
    assert isinstance(engine, EngineCore)
    return engine


def test_a_folder_makes_an_engine(tiny_checkpoint_dir: Path, tmp_path: Path) -> None:
    engine = made(
        config(name=str(tiny_checkpoint_dir), models_dir=str(tmp_path), runtime="torch", threads=1)
    )

    assert engine.info.name == "emotion2vec_tiny"
    assert engine.runtime_name == "torch fp32 cpu"
    assert engine.info.embedding_dim == 64


def test_the_engine_is_ready_for_every_window_a_stream_begins_with(
    tiny_checkpoint_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = ModelConfig(
        name=str(tiny_checkpoint_dir), models_dir=str(tmp_path), runtime="torch", threads=1
    )
    timeline = TimelineConfig(window_ms=2000, step_ms=500)
    engine = made(EngineConfig(model=model, timeline=timeline))
    seen: list[int] = []
    runtime = engine._runtime
    context = runtime.context

    def watched(rows: Sequence[Tensor]) -> list[FrameOutputs]:
        seen.extend(map(len, rows))
        return context(rows)

    monkeypatch.setattr(runtime, "context", watched)

    engine.warm_up()

    assert set(seen) == {24, 49, 74, 99}


def test_threads_are_set(tiny_checkpoint_dir: Path, tmp_path: Path) -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        made(
            config(
                name=str(tiny_checkpoint_dir), models_dir=str(tmp_path), runtime="torch", threads=1
            )
        )
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)


def test_a_gpu_that_is_not_there(
    tiny_checkpoint_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)

    with pytest.raises(RuntimeUnavailableError, match="finds no CUDA device"):
        build_engine(config(name=str(tiny_checkpoint_dir), models_dir=str(tmp_path), device="cuda"))


def test_a_device_that_does_not_exist(tiny_checkpoint_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(RuntimeUnavailableError, match="'gpu', expected auto, cpu, cuda"):
        build_engine(config(name=str(tiny_checkpoint_dir), models_dir=str(tmp_path), device="gpu"))


@pytest.mark.needs("openvino")
def test_only_torch_runs_on_a_gpu(
    tiny_checkpoint_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)

    with pytest.raises(RuntimeUnavailableError, match="only the torch runtimes use a GPU"):
        build_engine(
            config(
                name=str(tiny_checkpoint_dir),
                models_dir=str(tmp_path),
                device="cuda",
                runtime="openvino",
            )
        )


def test_a_model_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no folder on this machine"):
        build_engine(config(name=str(tmp_path / "nowhere")))
