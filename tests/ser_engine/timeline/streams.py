"""Making, driving and checking streams."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from ser_engine.config import EngineConfig, SmoothingConfig, TimelineConfig, VadConfig
from ser_engine.schema import Event, Gap, Point, Segment
from ser_engine.timeline import ChannelStream
from ser_engine.types import FloatArray, Window
from tests.support.fake_engine import FakeEngine, LevelDetector

MODEL = FakeEngine().info
TIMELINE = TimelineConfig(window_ms=500, step_ms=100, look_ahead_ms=40, provisional_below_ms=300)
SMOOTHING = SmoothingConfig(span_ms=200, min_dwell_ms=60)


def make_stream(
    timeline: TimelineConfig = TIMELINE,
    smoothing: SmoothingConfig = SMOOTHING,
    *,
    details: bool = False,
    min_silence_ms: int = 0,
) -> ChannelStream:
    config = EngineConfig(
        timeline=timeline, smoothing=smoothing, vad=VadConfig(min_silence_ms=min_silence_ms)
    )
    return ChannelStream(config, MODEL, "key", detector=LevelDetector(), details=details)


def answer(stream: ChannelStream, windows: Iterable[Window], engine: FakeEngine) -> list[Event]:
    events: list[Event] = []
    for window in windows:
        events += stream.accept(window, engine.run(window))
    return events + stream.take_events()


def drive(
    stream: ChannelStream, chunks: Iterable[FloatArray], engine: FakeEngine | None = None
) -> list[Event]:
    """Push chunks, answer every window at once, finish and close."""
    engine = engine or FakeEngine()
    events: list[Event] = []
    for chunk in chunks:
        events += answer(stream, stream.push(chunk), engine)
    events += answer(stream, stream.finish(), engine)
    return events + stream.close()


def make_audio(*parts: tuple[int, float], seed: int = 0) -> FloatArray:
    """Noise of ``(samples, mean level)`` after noise; level 0 is digital silence."""
    rng = np.random.default_rng(seed)
    pieces = [rng.uniform(0.9, 1.1, count) * level for count, level in parts]
    return np.concatenate([np.empty(0), *pieces]).astype(np.float32)


def points(events: Iterable[Event]) -> list[Point]:
    return [event for event in events if isinstance(event, Point)]


def segments(events: Iterable[Event]) -> list[Segment]:
    return [event for event in events if isinstance(event, Segment) and event.final]


def gaps(events: Iterable[Event]) -> list[Gap]:
    return [event for event in events if isinstance(event, Gap) and event.final]


def gap_spans(events: Iterable[Event]) -> list[tuple[int, int, str]]:
    return [(gap.start_sample, gap.end_sample, gap.reason) for gap in gaps(events)]


def assert_tiles(events: Iterable[Event], end_sample: int) -> None:
    """Final segments and gaps follow each other from 0 to ``end_sample``."""
    at = 0
    for event in events:
        if not isinstance(event, Point) and event.final:
            assert event.start_sample == at
            assert event.end_sample > at
            at = event.end_sample
    assert at == end_sample


def scored_slots(events: Iterable[Event]) -> list[int]:
    """Starts of the slots that points of a stream with details were made from."""
    starts: list[int] = []
    for point in points(events):
        assert point.frames is not None
        starts += point.frames.start_samples
    return starts
