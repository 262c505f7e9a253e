"""The whole way with nothing faked but the hub: compact at once, then the model of a hub."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import numpy as np
import pytest

from ser_engine.config import EngineConfig, ModelConfig
from ser_engine.types import Window
from stream_server.engines.pool import EnginePool
from stream_server.engines.status import UpgradeState
from tests.support.hub_server import HubServer

pytestmark = [pytest.mark.needs("huggingface-hub"), pytest.mark.filterwarnings("default")]


async def test_streams_are_scored_before_and_after(hub: HubServer, tmp_path: Path) -> None:
    model = ModelConfig(
        models_dir=str(tmp_path / "models"),
        hub="huggingface",
        hub_timeout_s=60,
        device="cpu",
        runtime="torch",
    )
    samples = (np.random.default_rng(0).standard_normal(16_000) / 10).astype(np.float32)
    hub.hold = threading.Event()
    pool = EnginePool(config=EngineConfig(model=model))
    await pool.start()
    try:
        assert pool.is_ready
        old = pool.acquire()
        assert old.engine.info.name == "standard"
        await until(pool, UpgradeState.FETCHING)
        await old.engine.score(Window(samples, stream_key="a/0"))
        hub.hold.set()
        await until(pool, UpgradeState.READY)
        with pool.acquire() as new:
            assert new.info.name == "emotion2vec_plus_base"
            result = await new.score(Window(samples, stream_key="b/0"))
            assert result.logits.shape == (49, len(new.info.labels))
        assert pool.status().engines[0].runtime == "torch fp32 cpu"
        await old.engine.score(Window(samples, stream_key="a/0"))
        old.release()
        assert [engine.info.name for engine in pool.status().engines] == ["emotion2vec_plus_base"]
    finally:
        hub.hold.set()
        await pool.aclose()


async def until(pool: EnginePool, state: UpgradeState) -> None:
    async with asyncio.timeout(120):
        while (upgrade := pool.status().upgrade).state is not state:
            assert upgrade.state is not UpgradeState.FAILED, upgrade.reason
            await asyncio.sleep(0.02)
