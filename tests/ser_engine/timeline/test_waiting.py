"""Speech that has just begun may wait for the next window."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ser_engine.config import TimelineConfig
from ser_engine.schema import Event
from tests.ser_engine.timeline.streams import (
    assert_tiles,
    drive,
    gap_spans,
    make_audio,
    make_stream,
    points,
)
from tests.support.fake_engine import FakeEngine

SLOT = 320
STEP = 10 * SLOT
TIMELINE = TimelineConfig(
    window_ms=1000, step_ms=200, look_ahead_ms=100, min_new_speech_ms=100, provisional_below_ms=0
)


def due_at(boundary: int) -> int:
    """The first sample that is not due at a boundary, counted from 1."""
    return boundary * STEP - TIMELINE.look_ahead_samples


def spoken(start: int, end: int, length: int = 60 * SLOT) -> tuple[list[Event], list[int]]:
    """Events of one utterance, and where the windows end that it took, in steps."""
    audio = make_audio((start, 0.0), (end - start, 0.1), (length - end, 0.0))
    engine = FakeEngine()
    events = drive(make_stream(TIMELINE), [audio], engine)
    assert_tiles(events, length)
    return events, [window.end_sample // STEP for window in engine.windows]


def test_speech_that_has_just_begun_waits_for_the_next_window_and_is_one_point_with_it() -> None:
    begins = due_at(3) - 4 * SLOT
    events, windows = spoken(begins, due_at(4) - 2 * SLOT)
    assert windows == [4]
    (point,) = points(events)
    assert (point.start_sample, point.end_sample) == (begins, due_at(4))
    assert not point.widened


def test_enough_speech_does_not_wait() -> None:
    _, windows = spoken(due_at(3) - 5 * SLOT, due_at(4) - 2 * SLOT)
    assert windows == [3, 4]


def test_what_has_waited_waits_no_more_however_short_it_is() -> None:
    events, windows = spoken(due_at(3) - SLOT, due_at(3))
    assert windows == [4]
    assert [reason for _, _, reason in gap_spans(events)] == ["silence", "silence"]


@pytest.mark.parametrize("slots_before", range(1, 11))
def test_after_waiting_a_window_can_still_be_skipped_at_no_loss(slots_before: int) -> None:
    """Promise 5, where the window leaves room for a wait of half a step."""
    timeline = TimelineConfig(window_ms=600, step_ms=200, look_ahead_ms=100, min_new_speech_ms=100)
    begins, again = due_at(3) - slots_before * SLOT, due_at(4)
    quiet = again - begins - 2 * SLOT
    audio = make_audio((begins, 0.0), (2 * SLOT, 0.1), (quiet, 0.0), (60 * SLOT - again, 0.1))
    stream, engine = make_stream(timeline), FakeEngine()
    events: list[Event] = []
    windows = (
        window
        for push in (*np.split(audio, range(STEP, len(audio), STEP)), None)
        for window in (stream.finish() if push is None else stream.push(push))
    )
    for number, window in enumerate(windows):
        # Every second one is skipped, at once, so that its speech falls to the next.
        if number % 2:
            events += stream.accept(window, engine.run(window))
        else:
            events += stream.skip(window)
    events += stream.close()
    lost = [span for span in gap_spans(events) if span[2] == "overload"]
    assert [span for span in lost if span[0] < 40 * SLOT] == []


@settings(max_examples=30)
@given(
    lengths=st.lists(st.tuples(st.integers(1, 12), st.integers(1, 12)), max_size=6),
    cuts=st.lists(st.integers(0, 30_000), max_size=8),
)
def test_chunking_does_not_matter(lengths: list[tuple[int, int]], cuts: list[int]) -> None:
    parts = [
        part for silent, loud in lengths for part in ((silent * SLOT, 0.0), (loud * SLOT, 0.1))
    ]
    audio = make_audio(*parts, (4000, 0.2))
    whole = drive(make_stream(TIMELINE), [audio])
    assert_tiles(whole, len(audio))
    chunks = np.split(audio, sorted(min(cut, len(audio)) for cut in cuts))
    assert drive(make_stream(TIMELINE), chunks) == whole
    assert [span for span in gap_spans(whole) if span[2] != "silence"] == []
