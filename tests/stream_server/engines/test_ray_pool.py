"""Engines of a Ray cluster: every window ends once, whatever dies.

Replicas are in this process; tests/chaos/test_cluster.py has a real cluster.
"""

from __future__ import annotations

import asyncio
import importlib
import itertools
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import yaml
from pydantic import TypeAdapter

from ser_engine.config import EngineConfig, ModelConfig
from ser_engine.core.queue import Priority
from ser_engine.errors import ConfigError, EngineDeadError, EngineOverloadedError, WindowError
from ser_engine.types import Window, WindowResult
from stream_server import tracing
from stream_server.cluster import Frame, PeerLostError
from stream_server.engines import ray_pool, remote
from stream_server.engines.ray_pool import RayPeer, ReplicaLostError, ray_address
from stream_server.engines.ray_replica import (
    TARGET_WAIT_MS,
    EngineReplica,
    ReplicaSettings,
    replicas_for,
)
from stream_server.engines.remote import RemoteEngine
from tests.requirements import REPOSITORY
from tests.support.fake_engine import FakeEngine
from tests.support.live_lab import ENGINE_CONFIG, LabEngine
from tests.support.spans import recorded_spans
from tests.support.waiting import until


class HeldEngine(LabEngine):
    """Answers while ``go_on`` is set."""

    def __init__(self, core: FakeEngine | None = None) -> None:
        super().__init__(core)
        self.go_on = asyncio.Event()
        self.go_on.set()

    async def score(self, window: Window, priority: Priority = Priority.LIVE) -> WindowResult:
        await self.go_on.wait()
        return await super().score(window, priority)


@dataclass(eq=False)
class Replicas:
    """An application whose replicas are engines of this process.

    Attributes:
        calls: the number of arrays of each message, by the replica that got it.
    """

    name: str
    engines: list[HeldEngine]
    num_replicas: int = 0
    is_deleted: bool = False
    calls: list[tuple[HeldEngine, int]] = field(default_factory=list)
    asking: dict[HeldEngine, set[asyncio.Task[list[bytes]]]] = field(default_factory=dict)
    replicas: dict[HeldEngine, EngineReplica] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.num_replicas = len(self.engines)

    async def ask(self, engine: str, frames: Sequence[Frame], part: int) -> list[bytes]:
        if self.is_deleted:
            raise PeerLostError(self.name)
        home = self.engines[part % len(self.engines)]
        self.calls.append((home, len(frames) - 1))
        replica = self.replicas.setdefault(home, EngineReplica.of(home))
        job = replica.exchange(engine, [bytes(each) for each in frames])
        task = asyncio.ensure_future(job)
        self.asking.setdefault(home, set()).add(task)
        try:
            return await task
        except asyncio.CancelledError:
            if home in self.engines:
                raise  # This side was cancelled.
            raise ReplicaLostError("killed") from None

    def kill(self, engine: HeldEngine) -> None:
        self.engines.remove(engine)
        for task in self.asking.pop(engine, ()):
            task.cancel()


class Cluster:
    """Applications, the newest first."""

    def __init__(self, *applications: Replicas) -> None:
        self.applications = list(applications)

    async def running(self) -> Sequence[Replicas]:
        return [each for each in self.applications if not each.is_deleted]


@asynccontextmanager
async def connected(cluster: Cluster) -> AsyncIterator[RemoteEngine]:
    config = replace(ENGINE_CONFIG, model=ModelConfig(name="ray:///pool"))
    engine = RemoteEngine(config, lambda: RayPeer(cluster), is_far=True)
    await engine.start()
    try:
        yield engine
    finally:
        await engine.aclose()


@pytest.fixture
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ask for news all the time."""
    monkeypatch.setattr(ray_pool, "LOOK_AGAIN_S", 0.0)
    monkeypatch.setattr(remote, "PING_INTERVAL_S", 0.01)


def a_window(key: str | None, seconds: float = 1.0) -> Window:
    levels = np.random.default_rng(len(key or "")).integers(-9000, 9000, round(16_000 * seconds))
    return Window((levels / 32_768).astype(np.float32), 0, key)


def another_model() -> FakeEngine:
    core = FakeEngine()
    core.info = replace(core.info, name="another")
    return core


async def test_windows_of_a_turn_are_one_call_a_replica_and_a_stream_stays_with_its_own():
    two = [HeldEngine(), HeldEngine()]
    pool = Replicas("pool", two)
    windows = [a_window(f"{each} " + "x" * each, 0.5 + each / 7) for each in range(9)]
    async with connected(Cluster(pool)) as far:
        pool.calls.clear()
        for _ in range(3):
            results = await asyncio.gather(*map(far.score, windows))
    near = LabEngine()
    for window, result in zip(windows, results, strict=True):
        # Audio of 16 bit is the same to the last bit behind its way as int16.
        np.testing.assert_array_equal(result.logits, (await near.score(window)).logits)
    (one, count), (other, rest) = pool.calls[:2]
    assert {one, other} == set(two) and count + rest == len(windows)
    assert pool.calls == pool.calls[:2] * 3


async def test_of_a_stream_only_new_samples_are_sent_unless_its_replica_is_lost():
    one, other = HeldEngine(), HeldEngine()
    pool = Replicas("pool", [one])
    rng = np.random.default_rng(1)
    samples = rng.normal(0, 0.1, 40_000).astype(np.float32)  # as of resampled audio
    sizes = []
    async with connected(Cluster(pool)) as far:
        for step in range(4):
            before, start = far.audio_bytes, 8_000 * step
            await far.score(Window(samples[start : start + 16_000], start, "one"))
            sizes.append(far.audio_bytes - before)
            if step == 1:
                pool.engines[0] = other
    assert sizes == [32_000, 16_000, 16_000 + 32_000, 16_000]
    scored = one.core.windows + other.core.windows
    assert [each.start_sample for each in scored] == [0, 8_000, 16_000, 24_000]
    # Where they overlap they are the same, sample for sample, in whatever way they came.
    for before_it, each in itertools.pairwise(scored):
        np.testing.assert_array_equal(before_it.samples[8_000:], each.samples[:8_000])


async def test_under_load_windows_gather_and_go_together():
    held = HeldEngine()
    pool = Replicas("pool", [held])
    held.go_on.clear()
    async with connected(Cluster(pool)) as far:
        pool.calls.clear()
        scoring = []
        for each in range(6):
            scoring.append(asyncio.ensure_future(far.score(a_window(f"s{each}"))))
            await until(lambda: len(pool.calls) >= min(each + 1, 2))  # noqa: B023
        held.go_on.set()
        await asyncio.gather(*scoring)
    windows = [count for _, count in pool.calls if count]
    assert windows[:2] == [1, 1] and sum(windows) == 6 and len(windows) < 6


async def test_windows_of_a_killed_replica_are_scored_by_another_one_once_each():
    held, free = HeldEngine(), HeldEngine()
    pool = Replicas("pool", [held, free])
    held.go_on.clear()
    async with connected(Cluster(pool)) as far:
        scoring = [asyncio.ensure_future(far.score(a_window(f"s{each}"))) for each in range(8)]
        await until(lambda: pool.asking.get(held) and sum(each.done() for each in scoring) > 0)
        assert not all(each.done() for each in scoring)
        pool.kill(held)
        results = await asyncio.gather(*scoring)
        assert len(results) == 8 == len(free.core.windows)
        assert (far.stats.windows, far.stats.windows_scored) == (8, 8)


@pytest.mark.needs("tracing")
async def test_the_trace_of_a_window_leads_to_the_replica_that_scored_it():
    pool = Replicas("pool", [HeldEngine(), HeldEngine()])
    with recorded_spans() as exporter:
        async with connected(Cluster(pool)) as far:
            trace = tracing.begin_window("stream", 0, 0)
            assert trace is not None
            trace.phase("engine")
            tracing.work_on(trace)
            await far.score(a_window("stream"))
            tracing.work_on(None)
            await far.score(a_window("another stream"))
            trace.end("scored")
        message, score, engine, window = sorted(
            exporter.get_finished_spans(),
            key=lambda each: ["message", "score", "engine", "window"].index(each.name),
        )
    assert {each.context.trace_id for each in (message, score, engine, window)} == {
        window.context.trace_id
    }
    assert score.parent.span_id == engine.context.span_id


async def test_an_application_that_is_away_refuses_windows_until_it_is_back(hurry: None):
    pool = Replicas("pool", [HeldEngine()])
    async with connected(Cluster(pool)) as far:
        pool.is_deleted = True
        await until(lambda: not far.is_alive)
        with pytest.raises(EngineOverloadedError, match="away"):
            await far.score(a_window("one"))
        pool.is_deleted = False
        await until(lambda: far.is_alive)
        await far.score(a_window("one"))


async def test_a_stream_keeps_the_model_it_began_with_while_new_ones_get_another(hurry: None):
    old, new = Replicas("pool-a", [HeldEngine()]), Replicas("pool-b", [HeldEngine(another_model())])
    cluster = Cluster(old)
    async with connected(cluster) as far:
        cluster.applications.insert(0, new)
        async with asyncio.timeout(10):
            await far.superseded.wait()
        await far.score(a_window("began before"))
        assert [each.core.windows != [] for each in (*old.engines, *new.engines)] == [True, False]
        async with connected(cluster) as follower:
            assert (far.info.name, follower.info.name) == ("fake", "another")
        old.is_deleted = True
        await until(lambda: far.is_dead)
        with pytest.raises(EngineDeadError, match="this stream began with"):
            await far.score(a_window("began before"))


async def test_streams_move_to_a_newer_application_with_their_model(hurry: None):
    old, new = Replicas("pool-a", [HeldEngine()]), Replicas("pool-b", [HeldEngine()])
    cluster = Cluster(old)
    async with connected(cluster) as far:
        cluster.applications.insert(0, new)
        await until(lambda: len(new.calls) > 1)
        old.is_deleted = True
        await far.score(a_window("one"))
        assert new.engines[0].core.windows and not far.superseded.is_set()


async def test_a_replica_with_another_engine_answers_no_window_of_this_one():
    stranger, right = HeldEngine(another_model()), HeldEngine()
    pool = Replicas("pool", [right, stranger])
    async with connected(Cluster(pool)) as far:
        await asyncio.gather(*(far.score(a_window(f"s{each}")) for each in range(8)))
    assert len(right.core.windows) == 8 and not stranger.core.windows


async def test_a_call_that_fails_is_an_error_of_its_windows_and_of_no_other():
    pool = Replicas("pool", [HeldEngine()])
    async with connected(Cluster(pool)) as far:
        ask, pool.ask = pool.ask, failing  # type: ignore[method-assign]
        with pytest.raises(WindowError, match="out of order"):
            await far.score(a_window("one"))
        pool.ask = ask  # type: ignore[method-assign]
        await far.score(a_window("one"))


async def failing(engine: str, frames: Sequence[Frame], part: int) -> list[bytes]:
    raise RuntimeError("out of order")


@pytest.mark.parametrize(
    ("waits", "replicas"),
    [([], 3), ([0.9, 1.1], 6), ([0.5, 0.6], 3), ([1.2, 1.2], 4), ([0.1, 0.0], 2)],
)
def test_replicas_follow_how_long_windows_wait(waits: list[float], replicas: int):
    scale = 2 if waits == [0.9, 1.1] else 1
    found = dict(enumerate(each * scale * TARGET_WAIT_MS for each in waits))
    context: Any = SimpleNamespace(
        target_num_replicas=3, aggregated_metrics={"queue_wait_ms": found} if found else {}
    )
    assert replicas_for(context) == (replicas, {})


def test_the_wait_that_is_told_is_that_since_it_was_told_last():
    engine = HeldEngine()
    replica = EngineReplica.of(engine)
    engine.stats = replace(engine.stats, queue_wait_s=1.5)
    engine.stats.batch_sizes[10] = 3
    assert replica.record_autoscaling_stats() == {"queue_wait_ms": 50.0}
    assert replica.record_autoscaling_stats() == {"queue_wait_ms": 0.0}


@pytest.mark.parametrize(
    "wrong",
    [
        {"engine": EngineConfig()},
        {"engine": EngineConfig(model=ModelConfig(name="zmq:///path"))},
        {"engine": EngineConfig(model=ModelConfig(name="compact")), "max_replicas": 0},
    ],
)
def test_replicas_have_one_model_and_a_number(wrong: dict[str, Any]):
    with pytest.raises(ConfigError, match="expected"):
        ReplicaSettings(**wrong)


@pytest.mark.parametrize(
    "url", ["ray://", "ray:///", "ray://host/pool", "ray://host:1", "ray:///a/b"]
)
def test_an_address_that_is_none_is_refused(url: str):
    with pytest.raises(ConfigError, match="ray:///NAME"):
        ray_address(url)


def test_the_configuration_that_is_shipped_has_settings_that_there_are():
    shipped = yaml.safe_load((REPOSITORY / "deploy" / "ray-serve.yaml").read_text())
    (application,) = shipped["applications"]
    module, _, name = application["import_path"].partition(":")
    assert callable(getattr(importlib.import_module(module), name))
    settings = TypeAdapter(ReplicaSettings).validate_python(application["args"])
    assert settings.engine.model.name == "standard"


def test_a_pool_has_its_applications_and_no_others():
    address = ray_address("ray://head:6379/calls")
    assert (address.cluster, address.pool) == ("head:6379", "calls")
    assert [address.has(each) for each in ("calls", "calls-2", "callsign")] == [True, True, False]
