"""A Ray cluster for a few seconds, two replicas with a fake engine, and one of them killed.

Ray takes over the signals of a process and leaves threads behind, so this is one of its own; it
says on standard output what came of it.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import signal
import sys
import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from ser_engine.config import EngineConfig, ModelConfig
from ser_engine.core.batcher import BatchingStats
from ser_engine.core.queue import Priority
from ser_engine.types import FloatArray, Window, WindowResult
from stream_server.engines.ray_pool import ray_engine
from stream_server.engines.ray_replica import EngineReplica, ReplicaSettings, application_of
from tests.support.fake_engine import LABELS, FakeEngine

STREAMS, BEFORE, AFTER = 6, 2, 4
_STEP_SAMPLES = 8_000
_PASS_S = 0.05


def who_and_where(frames: FloatArray, window: Window) -> FloatArray:
    """Logits that name the process and the window."""
    rows = np.zeros((len(frames), len(LABELS)), np.float32)
    rows[:, 0], rows[:, 1] = os.getpid(), window.start_sample
    return rows


class SlowEngine:
    """An engine whose windows take a while, one after another."""

    is_alive = True
    runtime_name = "fake"
    num_pending = 0

    def __init__(self) -> None:
        self._core = FakeEngine(who_and_where)
        self._turn = asyncio.Lock()
        self.info = self._core.info
        self.config = EngineConfig()
        self.stats = BatchingStats()

    async def start(self) -> None:
        pass

    async def score(self, window: Window, priority: Priority = Priority.LIVE) -> WindowResult:
        async with self._turn:
            await asyncio.sleep(_PASS_S)
            (outcome,) = self._core.step([window])
        assert isinstance(outcome, WindowResult)
        return outcome

    def forget(self, stream_key: str) -> None:
        pass

    async def aclose(self) -> None:
        pass


class LabReplica(EngineReplica):
    """A replica with a slow engine."""

    async def __init__(self, config: Mapping[str, Any]) -> None:  # type: ignore[misc]
        self._take(SlowEngine())


async def kill_one() -> dict[str, Any]:
    """Score windows of some streams, kill the replica that answered first, and go on."""
    engine = ray_engine(EngineConfig(model=ModelConfig(name="ray:///lab")))
    await engine.start()
    answered: list[tuple[int, int, int]] = []  # replica, stream, window
    counts = [0] * STREAMS
    killed_at: list[int] = []
    longest_s = 0.0

    async def one(stream: int) -> None:
        nonlocal longest_s
        samples = np.zeros(16_000, np.float32)
        while not killed_at or counts[stream] < killed_at[stream] + AFTER:
            window = Window(samples, counts[stream] * _STEP_SAMPLES, f"stream {stream}")
            began_s = time.monotonic()
            result = await engine.score(window)
            longest_s = max(longest_s, time.monotonic() - began_s)
            pid, start_sample = (int(each) for each in result.logits[0, :2])
            answered.append((pid, stream, start_sample // _STEP_SAMPLES))
            counts[stream] += 1
            both = len({each[0] for each in answered}) == 2
            if not killed_at and both and min(counts) >= BEFORE:
                # In the middle of its next pass, with windows of other streams waiting.
                os.kill(answered[0][0], signal.SIGKILL)
                killed_at.extend(counts)

    await asyncio.gather(*map(one, range(STREAMS)))
    await engine.aclose()
    windows = [each[1:] for each in answered]
    return {
        "replicas_before": len({each[0] for each in answered[: sum(killed_at)]}),
        "missing_or_twice": sorted(
            set(windows) ^ {(s, n) for s in range(STREAMS) for n in range(counts[s])}
        )
        + [each for each in set(windows) if windows.count(each) > 1],
        "refused": engine.stats.windows_refused + engine.stats.windows_failed,
        "by_the_killed_at_last": sum(each[0] == answered[0][0] for each in answered[-STREAMS:]),
        "longest_s": round(longest_s, 3),
    }


def main(folder: str) -> None:
    """Run it.

    Args:
        folder: for what Ray writes; short, for the sockets in it.
    """
    os.environ.update(
        RAY_USAGE_STATS_ENABLED="0",
        RAY_AUTH_MODE="token",
        RAY_AUTH_TOKEN=secrets.token_hex(32),
        # Other tests run meanwhile, which Ray's processes would give way to.
        RAY_worker_niceness="0",
        # Nor is one of them to be ended because the others take memory.
        RAY_memory_monitor_refresh_ms="0",
        OMP_NUM_THREADS="1",
    )
    import ray
    from ray import serve

    ray.init(
        address="local",
        num_cpus=2,
        include_dashboard=False,
        object_store_memory=80 << 20,
        log_to_driver=False,
        configure_logging=False,
        _temp_dir=folder,
        _node_ip_address="127.0.0.1",
    )
    try:
        serve.start(proxy_location="Disabled")
        settings = ReplicaSettings(EngineConfig(model=ModelConfig(name="compact")), 2, 2, cpus=0.1)
        serve.run(application_of(LabReplica, settings), name="lab-1", route_prefix=None)
        verdict = asyncio.run(kill_one())
    finally:
        ray.shutdown()
    print(json.dumps(verdict))
    sys.stdout.flush()
    os._exit(0)
