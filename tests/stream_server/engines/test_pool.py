"""The pool over engines that cost nothing, on a virtual clock."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from benchmarks.null_engine import NullEngine
from ser_engine.config import EngineConfig, ModelConfig
from ser_engine.core.batcher import Batcher, OnStep
from ser_engine.errors import (
    CheckpointError,
    EngineDeadError,
    HubUnavailableError,
    RuntimeUnavailableError,
)
from ser_engine.models.emotion2vec.model import Emotion2vecModel
from ser_engine.models.hub import FetchProgress, ProgressCallback
from stream_server.engines.opening import EngineMaker, local_engine
from stream_server.engines.pool import RETRY_INTERVAL_S, EnginePool
from stream_server.engines.status import UpgradeState
from tests.support.fake_core import TimedWorker, a_window
from tests.support.virtual_time import current_loop, virtual_time
from tests.support.waiting import until

LARGE, BASE, SEED = "emotion2vec_plus_large", "emotion2vec_plus_base", "emotion2vec_plus_seed"


class Hub:
    """Stands for what fetches models.

    Attributes:
        asked: models that were asked for.
        go_on: set to let a download end.
        failures: what the next downloads end with at once.
        late_failure: what a download ends with half way.
        cancelled: downloads that were cancelled.
    """

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.go_on = asyncio.Event()
        self.failures: list[Exception] = []
        self.late_failure: Exception | None = None
        self.cancelled = 0

    async def fetch(self, name: str, config: EngineConfig, *, progress: ProgressCallback) -> None:
        self.asked.append(name)
        if self.failures:
            raise self.failures.pop(0)
        for done in (0, 10, 50):
            progress(FetchProgress(name, "huggingface", done, 100))
        try:
            await self.go_on.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if self.late_failure is not None:
            raise self.late_failure
        progress(FetchProgress(name, "huggingface", 100, 100))


class Lab:
    """A pool, what it fetches from, and what it made.

    Attributes:
        workers: one for each engine made.
        load_errors: what loading a model ends with, by its name.
        prepared: models that were prepared.
        prepare_errors: what preparing a model ends with, by its name.
        make_s: time it takes to make an engine; None: for ever.
    """

    def __init__(self, models_dir: Path, **model: object) -> None:
        fields = {"models_dir": str(models_dir), "device": "cpu"} | model
        self._config = EngineConfig(model=ModelConfig(**fields))  # type: ignore[arg-type]
        self.hub = Hub()
        self.workers: list[TimedWorker] = []
        self.opened_beside: list[bool] = []
        self.load_errors: dict[str, Exception] = {}
        self.prepared: list[str] = []
        self.prepare_errors: dict[str, Exception] = {}
        self.make_s: float | None = 0.0
        self.pool = EnginePool(
            config=self._config,
            open_engine=self._open,
            fetch=self.hub.fetch,
            prepare=self._prepare,
        )

    @property
    def upgrade(self) -> UpgradeState:
        return self.pool.status().upgrade.state

    async def _prepare(self, config: EngineConfig) -> None:
        self.prepared.append(config.model.name)
        if config.model.name in self.prepare_errors:
            raise self.prepare_errors[config.model.name]

    def _load(self, config: EngineConfig) -> EngineMaker:
        name = "compact" if config.model.name == "auto" else config.model.name
        if name in self.load_errors:
            raise self.load_errors[name]
        return lambda: NullEngine(name)

    def _open(
        self, config: EngineConfig, *, beside_another: bool, on_step: OnStep | None
    ) -> Batcher:
        self.opened_beside.append(beside_another)
        return local_engine(config, load=self._load, make_worker=self._worker, on_step=on_step)

    def _worker(self) -> TimedWorker:
        worker = TimedWorker(lambda: self.make_s)
        self.workers.append(worker)
        return worker


@asynccontextmanager
async def started(lab: Lab) -> AsyncIterator[EnginePool]:
    with current_loop().frozen():
        await lab.pool.start()
    try:
        yield lab.pool
    finally:
        await lab.pool.aclose()


@pytest.fixture
def models_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    # A named model is also looked for where the hubs' clients keep theirs.
    monkeypatch.setattr(Emotion2vecModel, "places", lambda self, config, clients=(): ())
    return tmp_path


async def upgraded(lab: Lab) -> None:
    lab.hub.go_on.set()
    await until(lambda: lab.upgrade is UpgradeState.READY)


# -- Streams and engines -------------------------------------------------------------------------


@virtual_time
async def test_it_is_ready_while_a_better_model_is_fetched(models_dir) -> None:
    lab = Lab(models_dir)
    async with started(lab) as pool:
        assert pool.is_ready
        assert current_loop().time() == 0
        await until(lambda: bool(lab.hub.asked))
        assert lab.upgrade is UpgradeState.FETCHING
        with pool.acquire() as engine:
            assert engine.info.name == "compact"
            result = await engine.score(a_window())
            assert result.logits.shape == (1, len(engine.info.labels))


@virtual_time
async def test_new_streams_use_the_better_model_and_running_ones_do_not(models_dir) -> None:
    lab = Lab(models_dir)
    async with started(lab) as pool:
        before = pool.acquire()
        await upgraded(lab)
        after = pool.acquire()
        assert before.engine.info.name == "compact"
        assert after.engine.info.name == BASE
        await before.engine.score(a_window(stream="a"))
        await after.engine.score(a_window(stream="b"))
        assert [(e.info.name, e.num_streams) for e in pool.status().engines] == [
            (BASE, 1),
            ("compact", 1),
        ]


@virtual_time
async def test_the_old_engine_is_closed_when_its_last_stream_has_ended(models_dir) -> None:
    lab = Lab(models_dir)
    async with started(lab) as pool:
        leases = [pool.acquire() for _ in range(2)]
        await upgraded(lab)
        leases[0].release()
        leases[0].release()
        await asyncio.sleep(1)
        assert [engine.is_alive for engine in pool.status().engines] == [True, True]
        leases[1].release()
        await asyncio.sleep(1)
        assert not leases[1].engine.is_alive
        assert [worker.closed for worker in lab.workers] == [True, False]
        assert [engine.info.name for engine in pool.status().engines] == [BASE]


@virtual_time
async def test_an_old_engine_without_streams_is_closed_at_once(models_dir) -> None:
    lab = Lab(models_dir)
    async with started(lab) as pool:
        pool.acquire().release()
        await upgraded(lab)
        await asyncio.sleep(0.1)
        assert [worker.closed for worker in lab.workers] == [True, False]
        assert pool.is_ready


@virtual_time
async def test_without_a_living_engine_no_stream_begins(models_dir) -> None:
    lab = Lab(models_dir)
    with pytest.raises(EngineDeadError):
        lab.pool.acquire()
    assert not lab.pool.is_ready
    async with started(lab) as pool:
        lease = pool.acquire()
    assert not pool.is_ready
    with pytest.raises(EngineDeadError):
        pool.acquire()
    with pytest.raises(EngineDeadError):
        await lease.engine.score(a_window())
    lease.release()


# -- Fetching ------------------------------------------------------------------------------------


@virtual_time
async def test_what_is_fetched_is_told_with_its_licence(models_dir) -> None:
    lab = Lab(models_dir)
    with capture_logs() as logs:
        async with started(lab) as pool:
            await until(lambda: pool.status().upgrade.done_bytes == 50)
            status = pool.status().upgrade
            assert (status.model, status.hub, status.total_bytes) == (BASE, "huggingface", 100)
            assert "FunASR" in status.licence
            await upgraded(lab)
    told = [log for log in logs if log["event"] == "model_fetch_started"]
    assert len(told) == 1
    assert "FunASR" in told[0]["licence"]
    assert [log["done_bytes"] for log in logs if log["event"] == "model_fetch_progress"] == [
        10,
        50,
        100,
    ]


@virtual_time
async def test_a_hub_that_is_away_is_one_line_and_is_asked_again_later(models_dir) -> None:
    lab = Lab(models_dir)
    lab.hub.failures = [HubUnavailableError("got no answer of a hub")] * 2
    with capture_logs() as logs:
        async with started(lab) as pool:
            await until(lambda: lab.upgrade is UpgradeState.FAILED)
            assert pool.is_ready
            assert pool.status().upgrade.reason == "got no answer of a hub"
            await asyncio.sleep(2 * RETRY_INTERVAL_S + 1)
            assert lab.hub.asked == [BASE] * 3
            await upgraded(lab)
            assert pool.acquire().engine.info.name == BASE
    assert [log["event"] for log in logs if log["log_level"] == "warning"] == ["model_not_fetched"]


@virtual_time
async def test_a_download_that_breaks_off_leaves_streams_alone(models_dir) -> None:
    lab = Lab(models_dir)
    lab.hub.late_failure = HubUnavailableError("nothing arrived for 60 s")
    lab.hub.go_on.set()
    async with started(lab) as pool:
        lease = pool.acquire()
        await until(lambda: lab.upgrade is UpgradeState.FAILED)
        assert pool.status().upgrade.done_bytes == 50
        await lease.engine.score(a_window())
        assert pool.acquire().engine is lease.engine


@virtual_time
async def test_a_second_engine_that_cannot_be_made_is_not_tried_again(models_dir) -> None:
    lab = Lab(models_dir)
    lab.load_errors[BASE] = CheckpointError("got a damaged folder")
    lab.hub.go_on.set()
    async with started(lab) as pool:
        await until(lambda: lab.upgrade is UpgradeState.FAILED)
        assert pool.status().upgrade.reason == "got a damaged folder"
        await asyncio.sleep(2 * RETRY_INTERVAL_S)
        assert lab.hub.asked == [BASE]
        assert [worker.closed for worker in lab.workers] == [False, True]
        assert pool.acquire().engine.info.name == "compact"


@virtual_time
async def test_a_model_that_cannot_be_prepared_is_not_loaded(models_dir) -> None:
    lab = Lab(models_dir)
    lab.prepare_errors[BASE] = RuntimeUnavailableError("got 10 MiB of free memory")
    lab.hub.go_on.set()
    async with started(lab) as pool:
        await until(lambda: lab.upgrade is UpgradeState.FAILED)
        assert pool.status().upgrade.reason == "got 10 MiB of free memory"
        assert lab.prepared == [BASE]
        assert len(lab.workers) == 1


@virtual_time
async def test_closing_ends_a_download(models_dir) -> None:
    lab = Lab(models_dir)
    async with started(lab):
        await until(lambda: bool(lab.hub.asked))
    assert lab.hub.cancelled == 1
    assert [worker.closed for worker in lab.workers] == [True]


@virtual_time
async def test_closing_does_not_wait_for_an_engine_that_is_made(models_dir) -> None:
    lab = Lab(models_dir)
    async with started(lab):
        lab.make_s = None
        lab.hub.go_on.set()
        await until(lambda: lab.upgrade is UpgradeState.WARMING and len(lab.workers) == 2)
    assert current_loop().time() < 1
    assert [worker.closed for worker in lab.workers] == [True, True]


@virtual_time
async def test_offline_no_hub_is_asked(models_dir) -> None:
    lab = Lab(models_dir, offline=True)
    async with started(lab) as pool:
        await asyncio.sleep(2 * RETRY_INTERVAL_S)
        assert lab.hub.asked == []
        assert pool.status().upgrade.state is UpgradeState.IDLE


# -- A model that is named -----------------------------------------------------------------------


@virtual_time
async def test_a_named_model_is_fetched_before_streams_begin(models_dir) -> None:
    lab = Lab(models_dir, name=SEED)
    lab.hub.go_on.set()
    async with started(lab) as pool:
        assert pool.acquire().engine.info.name == SEED
        assert lab.upgrade is UpgradeState.READY
        await asyncio.sleep(2 * RETRY_INTERVAL_S)
        assert lab.hub.asked == [SEED]


@virtual_time
async def test_a_named_model_that_cannot_be_fetched_is_an_error_at_the_start(models_dir) -> None:
    lab = Lab(models_dir, name=SEED)
    lab.hub.failures = [HubUnavailableError("got no answer of a hub")]
    with current_loop().frozen(), pytest.raises(HubUnavailableError):
        await lab.pool.start()
    assert lab.upgrade is UpgradeState.FAILED
    assert not lab.pool.is_ready
    await lab.pool.aclose()


@virtual_time
async def test_a_model_that_cannot_be_loaded_is_an_error_at_the_start(models_dir) -> None:
    lab = Lab(models_dir, name="compact")
    lab.load_errors["compact"] = CheckpointError("install the package anew")
    with current_loop().frozen(), pytest.raises(CheckpointError, match="install the package"):
        await lab.pool.start()
    assert [worker.closed for worker in lab.workers] == [True]
    assert lab.pool.status().engines == ()
    await lab.pool.aclose()
