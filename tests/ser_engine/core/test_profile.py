"""Which windows an engine chooses for streams by what it has measured."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from ser_engine.config import BatchingConfig, EngineConfig, TimelineConfig
from ser_engine.core.batcher import Batcher
from ser_engine.core.profile import candidates, choose
from ser_engine.types import Window
from tests.support.fake_core import FakeCore, TimedWorker
from tests.support.virtual_time import current_loop, virtual_time

AUTO = TimelineConfig(profile="auto")
ECONOMY = (3000, 1000)


def of(timeline: TimelineConfig) -> tuple[int, int]:
    return timeline.window_ms, timeline.step_ms


def chosen(a_window_s: float, wanted: int, *, more_s: float | None = None) -> TimelineConfig:
    """What is chosen where a window of 4 s takes so long, and each further one of a batch."""
    config = EngineConfig(timeline=replace(AUTO, wanted_streams=wanted))
    trial = choose(config)
    try:
        windows = next(trial)
        while True:
            windows = trial.send(_pass_s(windows, a_window_s, more_s))
    except StopIteration as ended:
        timeline: TimelineConfig = ended.value
        return timeline


def _pass_s(windows: list[Window], a_window_s: float, more_s: float | None) -> float:
    # Those of one pass may be stacked, and each follows the one before it by its step.
    assert len({len(window.samples) for window in windows}) == 1
    seconds = a_window_s * len(windows[0].samples) / 64_000
    return seconds + (len(windows) - 1) * (seconds if more_s is None else more_s)


@pytest.mark.parametrize(
    ("a_window_s", "wanted", "expected"),
    [
        (0.37, 1, (4000, 500)),
        (0.38, 1, ECONOMY),
        (0.09, 4, (4000, 500)),
        (0.1, 4, ECONOMY),
        (0.24, 4, ECONOMY),
        (0.26, 4, (3000, 2000)),
        (9.0, 100, (3000, 2000)),
    ],
)
def test_the_dearest_profile_that_leaves_room_is_taken(
    a_window_s: float, wanted: int, expected: tuple[int, int]
) -> None:
    timeline = chosen(a_window_s, wanted)
    assert of(timeline) == expected
    assert timeline.profile == ("live" if expected == (4000, 500) else "economy")


def test_what_a_batch_saves_is_counted() -> None:
    assert of(chosen(0.02, 60)) == (3000, 2000)
    assert of(chosen(0.02, 60, more_s=0.001)) == (4000, 500)


def test_economy_is_never_dearer_than_what_is_set() -> None:
    assert of(TimelineConfig(profile="economy")) == ECONOMY
    set_lower = TimelineConfig(window_ms=2000, step_ms=1200, profile="economy")
    assert of(set_lower) == (2000, 1200)
    assert replace(set_lower, frame_hop_ms=10) == replace(
        TimelineConfig(2000, 1200, profile="economy"), frame_hop_ms=10
    )
    short = TimelineConfig(window_ms=500, step_ms=100, look_ahead_ms=40, profile="economy")
    assert of(short) == (500, 460)
    assert [of(each) for each in candidates(replace(AUTO, step_ms=2500))] == [
        (4000, 2500),
        (3000, 2500),
        (3000, 2500),
    ]


@virtual_time
async def test_an_engine_measures_when_it_starts_and_forgets_what_it_measured_with() -> None:
    core = FakeCore()
    seconds = iter([0.0])  # to be made
    batcher = Batcher(
        lambda: core,
        EngineConfig(timeline=replace(AUTO, wanted_streams=3), batching=BatchingConfig()),
        # A pass of one window takes as long as one of three.
        make_worker=lambda: TimedWorker(lambda: next(seconds, 0.45)),
    )
    await batcher.start()
    try:
        # Three windows take 0.675 s: more than a step of 0.5, less than one of 1.0.
        assert of(batcher.config.timeline) == ECONOMY
        await asyncio.sleep(2)  # The core forgets in its worker, one stream after the other.
        assert sorted(set(core.forgotten)) == ["profile/0", "profile/1", "profile/2"]
        assert current_loop().time() < 15
    finally:
        await batcher.aclose()


@virtual_time
async def test_a_core_that_cannot_be_measured_leaves_the_windows_as_they_were_set() -> None:
    core = FakeCore()
    core.poisoned = {0: RuntimeError("no")}
    batcher = Batcher(
        lambda: core, EngineConfig(timeline=AUTO), make_worker=lambda: TimedWorker(lambda: 0.0)
    )
    await batcher.start()
    assert batcher.config.timeline == replace(AUTO, profile="live")
    await batcher.aclose()
