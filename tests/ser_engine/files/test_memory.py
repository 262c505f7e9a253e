"""A job holds no more of a long recording than of its first third."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from types import FunctionType, GeneratorType, ModuleType

import numpy as np
import pytest

from ser_engine.config import EngineConfig, TimelineConfig
from ser_engine.files import AnalysisJob, AnalysisOptions, Granularity
from ser_engine.types import FloatArray
from tests.ser_engine.files.jobs import RATE, make_job, silence, voiced
from tests.support.fake_engine import FakeEngine, LevelDetector


class LongSource:
    """A long recording, made as it is read."""

    rate_hz = RATE

    def __init__(self, hours: float, channels: int) -> None:
        self.header_s = hours * 3600
        self.channels = channels

    def blocks(self) -> Iterator[FloatArray]:
        pattern = np.concatenate([voiced(9, 0.1), silence(1), voiced(5, 0.2), silence(1)])
        for _ in range(round(self.header_s / 16)):
            yield np.stack([pattern] * self.channels)


def held_seconds(job: AnalysisJob) -> float:
    """Audio in all arrays that a job holds on to; its results are of another form."""
    seen: set[int] = set()
    total = 0
    waiting: list[object] = [job]
    while waiting:
        one = waiting.pop()
        one = one.base if isinstance(one, np.ndarray) and one.base is not None else one
        if id(one) in seen:
            continue
        seen.add(id(one))
        match one:
            case np.ndarray():
                is_audio = one.dtype == np.float32 and (one.ndim == 1 or len(one) <= 2)
                total += one.size if is_audio else 0
            case FunctionType():
                waiting += one.__closure__ or ()
            case GeneratorType():
                waiting += one.gi_frame.f_locals.values() if one.gi_frame else ()
            case type() | ModuleType():
                pass
            case _:
                waiting += gc.get_referents(one)
    return total / RATE


@pytest.mark.parametrize(
    ("granularity", "hours", "channels"),
    [("utterance", 0.6, 1), ("frame", 0.2, 2), ("stream", 0.2, 2)],
)
def test_memory_does_not_grow_with_the_length(
    granularity: Granularity, hours: float, channels: int, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("ser_engine.files.job.make_detector", lambda config: LevelDetector())
    config = EngineConfig(timeline=TimelineConfig(4000, 4000, 0))
    job = make_job(LongSource(hours, channels), AnalysisOptions(granularity), config)
    engine = FakeEngine()
    held: list[tuple[float, float]] = []
    rounds = 0
    while not job.is_done:
        windows = job.take_windows(4)
        rounds += 1
        if rounds % 4 == 0:
            held.append((job.progress * hours * 60, held_seconds(job)))
        for pending in windows:
            job.answer(pending, engine.run(pending.window))
        engine.windows.clear()
    most_at_first = max(seconds for minutes, seconds in held if minutes < hours * 20)
    assert most_at_first > 30
    assert max(seconds for _, seconds in held) <= 1.05 * most_at_first
    # A block, what is cut from next, the windows that wait.
    assert max(seconds for _, seconds in held) < 150 * channels
    assert job.finish().duration_s == hours * 3600
