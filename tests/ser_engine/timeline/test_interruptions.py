"""Flushes and gaps in the middle of a stream."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ser_engine.schema import Event
from ser_engine.types import FloatArray
from tests.ser_engine.timeline.streams import (
    answer,
    assert_tiles,
    drive,
    gap_spans,
    make_audio,
    make_stream,
    points,
    scored_slots,
    segments,
)
from tests.support.fake_engine import FakeEngine, logits_of_position

SPEECH = make_audio((16_000, 0.1))


def test_flush_scores_what_is_there_and_the_stream_goes_on() -> None:
    stream, engine = make_stream(details=True), FakeEngine(logits_of_position)
    events = answer(stream, stream.push(SPEECH[:5000]), engine)
    events += answer(stream, stream.flush(), engine)
    assert points(events)[-1].end_sample == 15 * 320
    assert stream.flush() == []
    events += answer(stream, stream.push(SPEECH[5000:]), engine)
    events += answer(stream, stream.finish(), engine)
    events += stream.close()
    assert_tiles(events, 16_000)
    assert scored_slots(events) == list(range(0, 49 * 320, 320))


@pytest.mark.parametrize("finish", [True, False])
def test_flush_at_a_boundary_gives_the_same_however_answers_come(finish: bool) -> None:
    def run(*, at_once: bool) -> list[Event]:
        stream, engine = make_stream(), FakeEngine()
        windows = stream.push(SPEECH[:3200])
        events = answer(stream, windows, engine) if at_once else []
        tail = stream.finish() if finish else stream.flush()
        events += answer(stream, tail if at_once else windows + tail, engine)
        return events + stream.close()

    assert run(at_once=True) == run(at_once=False)
    assert [point.end_sample for point in points(run(at_once=True))] == [960, 2560, 2880]


def test_flush_of_too_little_audio_waits() -> None:
    stream = make_stream()
    stream.push(SPEECH[:399])
    assert stream.flush() == []
    stream.push(SPEECH[399:400])
    assert len(stream.flush()) == 1


def test_a_gap_moves_the_clock_and_cuts_the_context() -> None:
    stream, engine = make_stream(details=True), FakeEngine(logits_of_position)
    events = answer(stream, stream.push(SPEECH[:5000]), engine)
    events += answer(stream, stream.gap("lost", 777), engine)
    assert stream.audio.clock_samples == 5777
    windows = stream.push(SPEECH[5000:8200])
    assert [(window.start_sample, len(window.samples)) for window in windows] == [
        (5777, 1600),
        (5777, 3200),
    ]
    np.testing.assert_array_equal(windows[1].samples, SPEECH[5000:8200])
    events += answer(stream, windows, engine)
    events += answer(stream, stream.finish(), engine)
    events += stream.close()
    assert gap_spans(events) == [(5000, 5777, "lost")]
    assert_tiles(events, 8977)
    assert scored_slots(events) == [*range(0, 4800, 320), *range(5777, 5777 + 9 * 320, 320)]


def test_gaps_without_audio_between_merge() -> None:
    stream = make_stream()
    for samples in (100, 200, 0, 300):
        stream.gap("paused", samples)
    stream.gap("lost", 50)
    assert gap_spans(stream.close()) == [(0, 600, "paused"), (600, 650, "lost")]


def test_gaps_wait_for_the_answers_before_them() -> None:
    stream, engine = make_stream(), FakeEngine()
    windows = stream.push(SPEECH[:1600]) + stream.gap("paused", 100_000)
    stream.gap("paused", 100_000)
    windows += stream.push(SPEECH[:100])
    windows += stream.gap("discarded", 1)
    windows += stream.push(SPEECH[:1600])
    assert stream.take_events() == []
    events = answer(stream, windows, engine)
    events += answer(stream, stream.finish(), engine) + stream.close()
    assert gap_spans(events) == [
        (1600, 201_600, "paused"),
        (201_600, 201_700, "too_short"),
        (201_700, 201_701, "discarded"),
    ]
    assert_tiles(events, 203_301)


def test_answering_after_a_gap_gives_up_what_was_before() -> None:
    stream, engine = make_stream(), FakeEngine()
    stream.push(SPEECH[:5000])
    stream.gap("lost", 320)
    (window,) = stream.push(SPEECH[:1600])
    events = stream.accept(window, engine.run(window))
    assert gap_spans(events)[:1] == [(0, 5000, "overload")]


def test_the_label_outlives_a_gap_shorter_than_the_smoothing_span() -> None:
    def label_after(gap_samples: int) -> str | None:
        stream, engine = make_stream(), FakeEngine()
        answer(stream, stream.push(make_audio((8000, 0.1))), engine)
        answer(stream, stream.gap("lost", gap_samples), engine)
        # Too little to change the label, enough to set one.
        events = answer(stream, stream.push(make_audio((1600, 0.2))), engine)
        return points(events)[-1].label

    assert label_after(320) == "angry"
    assert label_after(16_000) == "happy"


def test_a_negative_gap_is_refused() -> None:
    with pytest.raises(ValueError, match="-1"):
        make_stream().gap("lost", -1)


Action = tuple[str, int]


@given(
    st.lists(
        st.tuples(st.sampled_from(["speech", "silence", "flush", "gap"]), st.integers(0, 5000)),
        max_size=20,
    )
)
def test_any_course_of_events_accounts_for_all(course: list[Action]) -> None:
    stream, engine = make_stream(details=True), FakeEngine()
    clock, events = 0, list[Event]()
    for action, count in course:
        if action == "flush":
            events += answer(stream, stream.flush(), engine)
            continue
        clock += count
        if action == "gap":
            events += answer(stream, stream.gap("paused", count), engine)
        else:
            audio: FloatArray = make_audio((count, 0.1 * (action == "speech")))
            events += answer(stream, stream.push(audio), engine)
    events += answer(stream, stream.finish(), engine) + stream.close()
    assert stream.accounted_samples == clock
    assert_tiles(events, clock)
    slots = scored_slots(events)
    assert slots == sorted(set(slots))
    assert {reason for _, _, reason in gap_spans(events)} <= {"silence", "paused", "too_short"}


def test_segments_end_where_the_stream_ends() -> None:
    events = drive(make_stream(), [SPEECH[:5079]])
    assert segments(events)[-1].end_sample == 5079
