from __future__ import annotations

import asyncio
import gc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.null_engine import NullEngine
from ser_engine.config import BatchingConfig, EngineConfig, ModelConfig
from ser_engine.core.batcher import Batcher
from ser_engine.errors import CheckpointError, EngineDeadError, RuntimeUnavailableError, WindowError
from ser_engine.models.compact import COMPACT
from ser_engine.types import Window
from stream_server.engines.opening import EngineMaker, load, load_beside_another, local_engine
from tests.support.fake_core import InlineWorker, TimedWorker, a_window
from tests.support.virtual_time import virtual_time


def settings(name: str, models_dir: Path) -> EngineConfig:
    model = ModelConfig(
        name=name, models_dir=str(models_dir), device="cpu", runtime="torch", offline=True
    )
    return EngineConfig(model=model)


@virtual_time
async def test_a_lost_engine_is_made_again_with_the_same_model() -> None:
    loaded: list[str] = []
    delays: list[float | None] = [0.0, None, 0.0, 0.0]

    def load_first_found(config: EngineConfig) -> EngineMaker:
        loaded.append(config.model.name)
        return lambda: NullEngine(f"model {len(loaded)}")

    config = EngineConfig(batching=BatchingConfig(step_timeout_s=1.0))
    engine = local_engine(
        config, load=load_first_found, make_worker=lambda: TimedWorker(lambda: delays.pop(0))
    )
    await engine.start()
    with pytest.raises(WindowError, match="lost"):
        await engine.score(a_window())
    await engine.score(a_window())
    assert loaded == ["auto"]
    assert engine.info.name == "model 1"
    assert engine.stats.restarts == 1
    await engine.aclose()
    assert not engine.is_alive
    with pytest.raises(EngineDeadError):
        await engine.score(a_window())


def test_the_garbage_collector_leaves_out_what_is_imported_and_no_engine() -> None:
    def open_one() -> Batcher:
        return local_engine(EngineConfig(), load=lambda _: NullEngine, make_worker=InlineWorker)

    first = open_one()
    frozen = gc.get_freeze_count()
    assert frozen > 100_000
    open_one()
    assert gc.get_freeze_count() <= frozen, "with the second engine the first would never be freed"
    assert first is not None


async def test_it_is_warmed_up_before_it_is_used_and_told_of_streams_that_ended() -> None:
    told: list[str] = []

    class Core(NullEngine):
        def warm_up(self) -> None:
            told.append("warm_up")

        def forget(self, stream_key: str) -> None:
            told.append(f"forget {stream_key}")

    engine = local_engine(EngineConfig(), load=lambda config: Core, make_worker=InlineWorker)
    await engine.start()
    assert engine.runtime_name == "none"
    assert engine.num_pending == 0
    engine.forget("a")
    await engine.aclose()
    assert told == ["warm_up", "forget a"]


async def test_a_folder_is_opened_in_the_engines_thread(tiny_checkpoint_dir, tmp_path) -> None:
    engine = local_engine(settings(str(tiny_checkpoint_dir), tmp_path))
    await engine.start()
    try:
        assert engine.info.name == "emotion2vec_tiny"
        assert engine.runtime_name == "torch fp32 cpu"
        samples = (np.random.default_rng(0).standard_normal(16_000) / 10).astype(np.float32)
        result = await engine.score(Window(samples, stream_key="a"))
        assert result.logits.shape == (49, len(engine.info.labels))
    finally:
        await engine.aclose()


def test_compact_stands_in_whatever_the_runtime(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("ser_engine.models.registry.MODELS", (COMPACT,))
    model = ModelConfig(models_dir=str(tmp_path), runtime="funasr", device="cpu")
    config = EngineConfig(model=model)
    assert load(config)().runtime_name == "torch fp32 cpu"
    named = replace(config, model=replace(config.model, name="compact"))
    with pytest.raises(RuntimeUnavailableError, match=r"model\.runtime funasr"):
        load(named)()


@pytest.mark.parametrize("name", ["no/such/folder", "emotion2vec_plus_seed"])
async def test_a_model_that_is_not_there_is_a_clear_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr("ser_engine.models.registry.HUB_CLIENTS", ())
    engine = local_engine(settings(name, tmp_path))
    with pytest.raises(CheckpointError, match=f"{name}.*(expected a model's folder|copy the)"):
        await engine.start()
    await engine.aclose()


@pytest.mark.parametrize(("free_bytes", "fits"), [(None, True), (1 << 40, True), (1 << 10, False)])
def test_a_second_engine_is_not_made_without_the_memory_for_it(
    tiny_checkpoint_dir: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    free_bytes: int | None,
    fits: bool,
) -> None:
    monkeypatch.setattr("stream_server.engines.opening.available_bytes", lambda: free_bytes)
    config = settings(str(tiny_checkpoint_dir), tmp_path)
    if fits:
        assert load_beside_another(config)().info.name == "emotion2vec_tiny"
    else:
        with pytest.raises(RuntimeUnavailableError, match=r"0 MiB of free memory"):
            load_beside_another(config)


@pytest.mark.needs("gpu")
async def test_an_engine_scores_while_another_is_warmed_up_on_its_gpu(
    tiny_checkpoint_dir: Path, tmp_path: Path
) -> None:
    cpu = settings("compact", tmp_path)
    config = replace(cpu, model=replace(cpu.model, device="cuda"))
    first = local_engine(config)
    await first.start()
    samples = (np.random.default_rng(0).standard_normal(64_000) / 10).astype(np.float32)
    expected = (await first.score(Window(samples))).logits
    model = replace(config.model, name=str(tiny_checkpoint_dir))
    second = local_engine(replace(config, model=model))
    starting = asyncio.create_task(second.start())
    while not starting.done():
        np.testing.assert_allclose((await first.score(Window(samples))).logits, expected, atol=0.1)
    await starting
    assert (await second.score(Window(samples))).logits.shape == (199, len(second.info.labels))
    assert first.stats.workers_lost == second.stats.workers_lost == 0
    await second.aclose()
    await first.aclose()
