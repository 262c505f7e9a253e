from __future__ import annotations

import asyncio
from collections.abc import Iterable

import numpy as np
import pytest

from ser_engine.config import EngineConfig
from ser_engine.timeline.silero import SileroDetector, hear_together
from ser_engine.types import FloatArray
from stream_server.streams import hearing
from stream_server.streams.session import Session
from stream_server.wire.audio_format import Encoding
from stream_server.wire.results import Result
from tests.stream_server.streams.sessions import answer, babble, drive, make_session
from tests.support.fake_engine import FakeEngine
from tests.support.virtual_time import current_loop, virtual_time

NUM_STREAMS = 10


@pytest.fixture
def together(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many channels were heard in each turn."""
    counts: list[int] = []

    def count(coming: Iterable[tuple[SileroDetector, FloatArray]]) -> None:
        parts = list(coming)
        counts.append(len(parts))
        hear_together(parts)

    monkeypatch.setattr(hearing, "hear_together", count)
    return counts


def new_session(index: int) -> Session:
    encoding: Encoding = "pcm_s16le" if index % 2 else "mulaw"
    rate_hz, roles = (16_000, ("speaker",)) if index % 2 else (8_000, ("customer", "agent"))
    # Steps of half a second, as by default: the detector is Silero's.
    return make_session(encoding, rate_hz, roles, config=EngineConfig())


def audio_of(index: int) -> bytes:
    if index % 2:
        pcm = np.roll(babble(4 * 16_000), 777 * index) * 32_000
        return pcm.astype("<i2").tobytes()
    return np.random.default_rng(index).integers(0, 256, 2 * 4 * 8_000, np.uint8).tobytes()


async def live(index: int, shared: hearing.SharedHearing) -> list[Result]:
    session, engine, data = new_session(index), FakeEngine(), audio_of(index)
    session.opened(at=1.0)
    await asyncio.sleep(0.037 * index)
    size = len(data) // 200
    for start in range(0, len(data), size):
        session.receive(data[start : start + size])
        while session.has_backlog:
            await shared.turn(session)
            answer(session, session.advance(), engine)
        await asyncio.sleep(0.02)
    answer(session, session.finish(), engine)
    session.close("stopped", at=2.0)
    return session.take_results()


@virtual_time
async def test_streams_that_hear_together_have_the_results_of_each_alone(together: list[int]):
    shared = hearing.SharedHearing()
    results = await asyncio.gather(*(live(index, shared) for index in range(NUM_STREAMS)))
    # Among them whole turns: some streams have two channels.
    assert max(together) > NUM_STREAMS / 4
    assert sum(together) > NUM_STREAMS * 8
    for index in range(NUM_STREAMS):
        alone = drive(new_session(index), audio_of(index), engine=FakeEngine())
        assert results[index] == alone


@virtual_time
async def test_a_stream_among_few_does_not_wait(together: list[int]):
    loop = asyncio.get_running_loop()
    began = loop.time()
    session, shared = new_session(1), hearing.SharedHearing()
    for _ in range(hearing.MIN_BLOCKS_A_S - 1):
        await shared.turn(session)
    assert loop.time() == began
    assert together == []


@virtual_time
async def test_a_session_that_ends_while_it_waits_is_left_out(together: list[int]):
    shared, session, engine = hearing.SharedHearing(), new_session(1), FakeEngine()
    session.opened(at=1.0)
    session.receive(audio_of(1)[:16_000])
    waits = [asyncio.create_task(shared.turn(session)) for _ in range(hearing.MIN_BLOCKS_A_S)]
    await asyncio.sleep(0)
    answer(session, session.finish(), engine)
    session.close("stopped", at=2.0)
    await asyncio.gather(*waits)
    assert together == [0]


@virtual_time
async def test_turns_are_longer_while_the_loop_is_late(together: list[int]):
    loop, shared, session = current_loop(), hearing.SharedHearing(), new_session(1)

    async def turn_s(busy_s: float = 0.0) -> float:
        began = loop.time()
        # As many as it takes for one to wait.
        waits = [asyncio.create_task(shared.turn(session)) for _ in range(hearing.MIN_BLOCKS_A_S)]
        await asyncio.sleep(0)
        loop.advance(busy_s)
        await asyncio.gather(*waits)
        return loop.time() - began

    assert await turn_s() == pytest.approx(hearing.TURN_S)
    assert await turn_s(busy_s=hearing.TURN_S + 0.01) == pytest.approx(hearing.TURN_S + 0.01)
    assert await turn_s(busy_s=5) == pytest.approx(5)
    assert await turn_s() == pytest.approx(hearing.LONGEST_TURN_S)
    assert await turn_s() == pytest.approx(hearing.TURN_S)
