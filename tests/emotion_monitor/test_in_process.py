from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import numpy as np
import pytest

from emotion_monitor import in_process
from emotion_monitor.in_process import live_emotions
from mic_client.sources import ArraySource, Chunk, Lost, SourceItem
from ser_engine import EngineConfig, Event, Gap, Point, Segment
from ser_engine.config import VadConfig
from ser_engine.types import FloatArray
from stream_server.wire.audio_format import AudioFormat
from tests.support.fake_engine import FakeEngine

CONFIG = EngineConfig(vad=VadConfig(detector="off"))


@pytest.fixture(autouse=True)
def engine(monkeypatch: pytest.MonkeyPatch) -> FakeEngine:
    engine = FakeEngine()
    monkeypatch.setattr(in_process, "open_engine", lambda config: engine)
    return engine


def levels(rate_hz: int) -> FloatArray:
    """Two channels, of which the first gets louder after 3 s and the second softer."""
    first = np.repeat(np.array([0.1, 0.2], np.float32), 3 * rate_hz)
    return np.stack([first, first[::-1]], axis=1)


async def events_of(source: ArraySource | Broken) -> list[tuple[int, Event]]:
    return [found async for found in live_emotions(source, CONFIG)]


class Broken:
    """A live source of 8 kHz audio, of which a second is lost."""

    format = AudioFormat("pcm_s16le", 8_000, 1)
    is_live = is_real_time = True
    is_closed = False

    async def __aiter__(self) -> AsyncIterator[SourceItem]:
        second = Chunk(np.full(8_000, 3_277, "<i2").tobytes())
        for item in (second, second, Lost(8_000), second):
            yield item

    async def aclose(self) -> None:
        self.is_closed = True


def test_each_channel_has_a_timeline_of_its_own() -> None:
    source = ArraySource(levels(16_000), 16_000, speed=float("inf"))
    events = asyncio.run(events_of(source))
    for channel, labels in ((0, ["angry", "happy"]), (1, ["happy", "angry"])):
        own = [event for number, event in events if number == channel]
        assert [e.label for e in own if isinstance(e, Segment) and e.final] == labels
        assert sum(isinstance(event, Point) for event in own) > 5


def test_what_was_lost_is_a_gap_at_its_place() -> None:
    source = Broken()
    events = [event for _, event in asyncio.run(events_of(source))]
    tiles = [e for e in events if not isinstance(e, Point) and e.final]
    assert [(e.start_sample, e.end_sample) for e in tiles if isinstance(e, Gap)] == [
        (32_000, 48_000)
    ]
    assert tiles[-1].end_sample == 64_000
    assert source.is_closed


def test_the_source_is_closed_when_nobody_listens_any_more() -> None:
    source = Broken()

    async def first() -> None:
        events = live_emotions(source, CONFIG)
        async for _ in events:
            break
        await events.aclose()  # type: ignore[attr-defined]

    asyncio.run(first())
    assert source.is_closed
