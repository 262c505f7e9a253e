"""An engine in another process, over real sockets: every window ends once, whatever dies."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ser_engine.config import EngineConfig, ModelConfig, TimelineConfig
from ser_engine.core.queue import Priority
from ser_engine.errors import (
    ConfigError,
    EngineDeadError,
    EngineOverloadedError,
    StreamBusyError,
    WindowError,
)
from ser_engine.types import FloatArray, Window, WindowResult
from stream_server.cluster.zeromq import ZmqHost, ZmqPeer
from stream_server.engines.group import EngineGroup
from stream_server.engines.host import EngineHost
from stream_server.engines.opening import open_engine
from stream_server.engines.pool import EnginePool
from stream_server.engines.remote import EngineLostError, RemoteEngine
from stream_server.wire.results import Point
from tests.stream_server.streams.timelines import tiles
from tests.support.fake_engine import FakeEngine
from tests.support.live_lab import (
    ENGINE_CONFIG,
    LabEngine,
    chunks,
    level,
    live_lab,
    pcm,
    receive_all,
    receive_until,
    send,
    start,
)
from tests.support.waiting import until


class HeldEngine(LabEngine):
    """Answers while ``go_on`` is set.

    Attributes:
        asked: set once a window waits.
    """

    def __init__(self, core: FakeEngine | None = None) -> None:
        super().__init__(core)
        self.go_on = asyncio.Event()
        self.go_on.set()
        self.asked = asyncio.Event()

    async def score(self, window: Window, priority: Priority = Priority.LIVE) -> WindowResult:
        self.asked.set()
        await self.go_on.wait()
        return await super().score(window, priority)


@asynccontextmanager
async def hosting(url: str, engine: LabEngine) -> AsyncIterator[EngineHost]:
    """Run an engine's process; its end is as sudden as that of one that is killed."""
    socket = ZmqHost(url)
    host = EngineHost(engine, socket)
    running = asyncio.create_task(host.run())
    try:
        yield host
    finally:
        running.cancel()
        await asyncio.wait([running])
        socket.close()


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"zmq://{tmp_path}/engine"


def config_of(url: str) -> EngineConfig:
    return replace(ENGINE_CONFIG, model=ModelConfig(name=url))


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[RemoteEngine]:
    engine = open_engine(config_of(url), beside_another=False, on_step=None)
    assert isinstance(engine, RemoteEngine)
    await engine.start()
    try:
        yield engine
    finally:
        await engine.aclose()


def a_window(seconds: float = 1.0, key: str | None = "one", at: int = 0) -> Window:
    rng = np.random.default_rng(at)
    return Window(rng.normal(size=round(16_000 * seconds)).astype(np.float32), at, key)


async def test_windows_of_many_lengths_get_the_result_of_their_own_samples(url: str):
    near = LabEngine()
    windows = [a_window(0.5 + each / 7, f"stream {each}", each * 320) for each in range(9)]
    windows.append(replace(windows[0], stream_key=None, hop_samples=160))
    async with hosting(url, near), connected(url) as far:
        assert far.info == near.info
        live = await asyncio.gather(*map(far.score, windows))
        offline = await far.score(windows[1], Priority.OFFLINE)
    for window, result in zip(windows, live, strict=True):
        (expected,) = FakeEngine().step([window])
        assert isinstance(expected, WindowResult)
        assert np.array_equal(result.logits, expected.logits)
        assert result.hop_samples == window.hop_samples
        assert result.embeddings.shape == (0, expected.embeddings.shape[1])
    (expected,) = FakeEngine().step([windows[1]])
    assert isinstance(expected, WindowResult)
    assert np.array_equal(offline.embeddings, expected.embeddings)
    assert near.priorities[-1] is Priority.OFFLINE
    assert near.released == 1


async def test_streams_get_the_windows_that_the_engine_chose_where_that_is_left_to_it(url: str):
    near = LabEngine(config=replace(ENGINE_CONFIG, timeline=TimelineConfig(profile="economy")))
    auto = replace(config_of(url), timeline=TimelineConfig(profile="auto"))
    async with hosting(url, near), connected(url) as set_here:
        assert set_here.config == config_of(url)
        for address in (url, f"{url},{url.removeprefix('zmq://')}"):
            config = replace(auto, model=ModelConfig(name=address))
            far = open_engine(config, beside_another=False, on_step=None)
            await far.start()
            assert far.config.timeline == near.config.timeline
            await far.aclose()


async def test_an_error_is_that_of_its_window(url: str):
    core = FakeEngine()
    core.fail_when = lambda window: window.start_sample == 320
    async with hosting(url, HeldEngine(core)), connected(url) as far:
        good, bad = a_window(key="good"), a_window(key="bad", at=320)
        answers = await asyncio.gather(far.score(good), far.score(bad), return_exceptions=True)
        assert isinstance(answers[0], WindowResult)
        assert isinstance(answers[1], WindowError)
        assert (far.stats.windows_scored, far.stats.windows_failed) == (1, 1)


async def test_a_window_that_is_withdrawn_frees_its_stream(url: str):
    near = HeldEngine()
    async with hosting(url, near), connected(url) as far:
        near.go_on.clear()
        first = asyncio.create_task(far.score(a_window()))
        await near.asked.wait()
        with pytest.raises(StreamBusyError):
            await far.score(a_window(at=320))
        first.cancel()
        await asyncio.wait([first])
        second = asyncio.create_task(far.score(a_window(at=640)))
        far.forget("one")
        await until(lambda: near.forgotten == ["one"])
        near.go_on.set()
        assert isinstance(await second, WindowResult)
        # The first one was not scored for nobody.
        assert [window.start_sample for window in near.core.windows] == [640]
        assert far.num_pending == 0


async def test_windows_of_a_killed_engine_are_refused_and_it_comes_back(url: str):
    near = HeldEngine()
    near.go_on.clear()
    async with hosting(url, near):
        far = RemoteEngine(config_of(url), lambda: ZmqPeer(url))
        await far.start()
        waiting = [asyncio.create_task(far.score(a_window(key=key))) for key in "abc"]
        await until(lambda: near.asked.is_set())
    answers = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(answer) for answer in answers] == [EngineLostError] * 3
    assert not far.is_alive
    with pytest.raises(EngineOverloadedError, match="away"):
        await far.score(a_window())
    again = LabEngine()
    async with hosting(url, again):
        await until(lambda: far.is_alive)
        assert isinstance(await far.score(a_window(key="a", at=320)), WindowResult)
        await far.aclose()
    # What the first one was asked is not asked again.
    assert [window.start_sample for window in again.core.windows] == [320]
    with pytest.raises(EngineDeadError):
        await far.score(a_window())


async def test_new_streams_follow_to_another_model_and_old_ones_end(url: str):
    pool = EnginePool(config=config_of(url))
    async with hosting(url, LabEngine()):
        await pool.start()
        former = pool.acquire()
    await until(lambda: not pool.is_ready)
    other = FakeEngine()
    other.info = replace(other.info, name="other")
    async with hosting(url, LabEngine(other)):
        await until(lambda: pool.is_ready)
        with pool.acquire() as current:
            assert current.info.name == "other"
            with pytest.raises(EngineDeadError, match="other"):
                await former.engine.score(a_window())
        former.release()
        await pool.aclose()


async def test_damaged_messages_change_nothing(url: str):
    async with hosting(url, LabEngine()), connected(url) as far:
        stranger = ZmqPeer(url)
        await stranger.connect()
        for frames in ([b""], [b"\xff" * 40], [b"\x91\xa5Score"], [b"\x92\xa4Ping\x00", b"x"]):
            await stranger.send(frames)
        assert isinstance(await far.score(a_window()), WindowResult)
        stranger.close()


async def test_a_stream_names_what_a_killed_engine_lost(url: str):
    """Each slot of the stream is scored once, or is in a gap; scored again after the engine."""
    near = HeldEngine()
    pool = EnginePool(config=config_of(url))
    data = pcm(level(12, 0.1))
    middle = len(data) // 2
    async with live_lab(pool) as lab:
        async with hosting(url, near):
            await pool.start()
            socket = await lab.connect()
            await socket.send(start())
            for chunk in chunks(data[:middle]):
                await socket.send(chunk)
            seen = await receive_until(socket, Point)
            near.go_on.clear()
            near.asked.clear()
            await near.asked.wait()
        await until(lambda: not pool.is_ready)
        async with hosting(url, LabEngine()):
            await until(lambda: pool.is_ready)
            for chunk in chunks(data[middle:]):
                await socket.send(chunk)
            await send(socket, type="stop")
            rest, code = await receive_all(socket)
            assert code == 1000
            await pool.aclose()
    # They tile the stream; what the dead engine had is scored or named, and then it goes on.
    spans = tiles(seen + rest)
    assert spans[-1][1] == 12 * 16_000
    assert {what for _, _, what in spans} <= {"angry", "overload"}
    assert spans[-1][2] == "angry"
    points = Counter(m.start_sample for m in seen + rest if isinstance(m, Point))
    assert set(points.values()) == {1}


@pytest.mark.parametrize("name", ["zmq://", "zmq://host", "zmq://host:x", "mqtt://host:1"])
def test_an_address_that_is_none_is_refused(name: str):
    with pytest.raises(ConfigError, match="zmq://"):
        open_engine(config_of(name), beside_another=False, on_step=None)


@asynccontextmanager
async def group_of(*urls: str) -> AsyncIterator[EngineGroup]:
    addresses = ",".join(url.removeprefix("zmq://") for url in urls)
    engine = open_engine(config_of(f"zmq://{addresses}"), beside_another=False, on_step=None)
    assert isinstance(engine, EngineGroup)
    await engine.start()
    try:
        yield engine
    finally:
        await engine.aclose()


async def test_a_killed_engines_windows_are_scored_by_another_one(url: str):
    first, second = HeldEngine(), HeldEngine()
    second_url = f"{url}-2"
    async with hosting(second_url, second), AsyncExitStack() as first_process:
        await first_process.enter_async_context(hosting(url, first))
        async with group_of(url, second_url) as group:
            await until(lambda: len(group._alive()) == 2)
            windows = [a_window(key=f"stream {number}", at=number) for number in range(8)]
            await asyncio.gather(*map(group.score, windows))
            # Each has half of the streams, and keeps them.
            of_first = {one.stream_key for one in first.core.windows}
            assert len(of_first) == len(second.core.windows) == 4
            await asyncio.gather(*map(group.score, windows))
            assert {one.stream_key for one in first.core.windows} == of_first
            first.go_on.clear()
            first.asked.clear()
            scoring = asyncio.gather(*map(group.score, windows))
            await first.asked.wait()
            await first_process.aclose()
            results = await scoring
            alone = FakeEngine()
            for window, result in zip(windows, results, strict=True):
                np.testing.assert_array_equal(result.logits, _logits(alone, window))
            # It comes back, and gets the streams that are new.
            again = HeldEngine()
            async with hosting(url, again):
                await until(lambda: len(group._alive()) == 2)
                await group.score(a_window(key="a new one"))
                assert [one.stream_key for one in again.core.windows][-1:] == ["a new one"]


async def test_a_group_has_one_model_and_waits_for_nobody(url: str):
    other = HeldEngine(FakeEngine())
    other.core.info = replace(other.core.info, name="another")
    async with hosting(f"{url}-2", HeldEngine()), hosting(f"{url}-3", other):
        async with group_of(url, f"{url}-2", f"{url}-3") as group:
            assert group.info.name == "fake"
            await asyncio.gather(*(group.score(a_window(key=f"{one}")) for one in range(6)))
            assert not other.core.windows
            # The first one comes later.
            late = HeldEngine()
            async with hosting(url, late):
                await until(lambda: len(group._alive()) == 2)
                await group.score(a_window(key="seventh"))
                assert late.core.windows
        async with group_of(f"{url}-3", f"{url}-2") as group:
            assert group.info.name == "another"


def _logits(engine: FakeEngine, window: Window) -> FloatArray:
    result = engine.run(window)
    assert isinstance(result, WindowResult)
    return result.logits


async def test_an_answer_that_comes_after_others_were_sent_is_sent_too(url: str):
    near = HeldEngine()
    async with hosting(url, near), connected(url) as far:
        near.go_on.clear()
        late = asyncio.create_task(far.score(a_window(key="late")))
        await until(lambda: near.asked.is_set())
        near.go_on.set()
        near.delay_s = 0.05
        # One after the other: each answer is a message of its own.
        rest = [far.score(a_window(key=f"{number}")) for number in range(3)]
        async with asyncio.timeout(10):
            await asyncio.gather(late, *rest)
