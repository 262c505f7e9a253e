"""Audio that never came, announced ahead."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ser_engine.config import TimelineConfig
from ser_engine.schema import Event, Gap
from ser_engine.timeline.audio import BRIDGED_SAMPLES
from ser_engine.types import FloatArray, Window
from tests.ser_engine.timeline.streams import (
    TIMELINE,
    answer,
    assert_tiles,
    gap_spans,
    make_audio,
    make_stream,
    scored_slots,
)
from tests.support.fake_engine import FakeEngine

SPEECH = make_audio((56_100, 0.1))
STEP = TIMELINE.step_samples
Span = tuple[int, int]


def drive_lost(
    lost: Iterable[Span],
    cuts: Iterable[int] = (),
    *,
    audio: FloatArray = SPEECH,
    timeline: TimelineConfig = TIMELINE,
    details: bool = False,
) -> tuple[list[Event], list[Window]]:
    """Push ``audio`` with silence in its lost spans, which are announced with the piece they are
    in; return events and the windows run."""
    stream, engine = make_stream(timeline, details=details), FakeEngine()
    audio = audio.copy()
    for start, end in lost:
        audio[start:end] = 0
    events: list[Event] = []
    at = 0
    for stop in sorted({*(cut for cut in cuts if 0 < cut < len(audio)), len(audio)}):
        for start, end in lost:
            stream.audio.lose(max(start, at), min(end, stop))
        while at < stop:
            # As little at a time as a stream with several channels takes.
            until = min(stop, at + stream.audio.until_due)
            events += answer(stream, stream.push(audio[at:until]), engine)
            at = until
    events += answer(stream, stream.finish(), engine) + stream.close()
    assert_tiles(events, len(audio))
    return events, engine.windows


def slot_from(sample: int) -> int:
    """Start of the first slot whose middle is not before ``sample``."""
    return -(-(sample - 160) // 320) * 320


@settings(max_examples=30)
@given(
    drawn=st.lists(
        st.tuples(st.integers(0, 40_000), st.integers(1, 700) | st.integers(12_000, 24_000)),
        max_size=5,
    ),
    cuts=st.lists(st.integers(1, 55_999), max_size=10),
    step_ms=st.sampled_from([100, 700]),
)
def test_chunking_does_not_matter(drawn: list[Span], cuts: list[int], step_ms: int) -> None:
    lost: list[Span] = []
    for start, length in sorted(drawn):
        start = max(start, lost[-1][1] if lost else 0)
        lost.append((start, min(start + length, len(SPEECH))))
    lost = [span for span in lost if span[0] < span[1]]
    timeline = TimelineConfig(1000, step_ms, 40)
    events, _ = drive_lost(lost, timeline=timeline)
    # A cut within a loss may announce it anew in two parts.
    pieces, _ = drive_lost(lost, cuts, timeline=timeline)
    assert _final(pieces) == _final(events)
    detailed, _ = drive_lost(lost, timeline=timeline, details=True)
    assert not {*scored_slots(detailed)} & {
        slot for start, end in lost for slot in range(slot_from(start), slot_from(end), 320)
    }


@pytest.mark.parametrize("length", [320, 5000, BRIDGED_SAMPLES])
def test_up_to_a_second_is_a_gap_of_whole_slots_that_windows_reach_across(length: int) -> None:
    events, windows = drive_lost([(20_000, 20_000 + length)])
    assert gap_spans(events) == [(slot_from(20_000), slot_from(20_000 + length), "lost")]
    if length < TIMELINE.window_samples:
        (across, *_) = [
            window for window in windows if window.start_sample + len(window.samples) > 25_600
        ]
        assert across.start_sample < 20_000
        assert not across.samples[20_000 - across.start_sample :][:length].any()


def test_a_hole_of_less_than_half_a_slot_costs_nothing() -> None:
    assert gap_spans(drive_lost([(32_000, 32_159)])[0]) == []


def test_what_is_beyond_is_a_gap_to_the_sample_and_boundaries_stay() -> None:
    end = 20_000 + BRIDGED_SAMPLES + 1234
    events, windows = drive_lost([(20_000, end)])
    assert gap_spans(events) == [(slot_from(20_000), end, "lost")]
    later = [window for window in windows if window.start_sample >= end]
    assert [window.start_sample + len(window.samples) for window in later] == [
        *range(-(-(end + 400) // STEP) * STEP, len(SPEECH), STEP),
        len(SPEECH),
    ]
    assert not [
        window
        for window in windows
        if window.start_sample < end < window.start_sample + len(window.samples)
    ]


def test_a_long_loss_is_published_while_it_lasts() -> None:
    stream, engine = make_stream(), FakeEngine()
    answer(stream, stream.push(SPEECH[:8000]), engine)
    stream.audio.lose(8000, 1_000_000)
    answer(stream, stream.push(np.zeros(160_000, np.float32)), engine)
    assert stream.accounted_samples == stream.audio.clock_samples == 168_000


def test_a_gap_of_all_channels_follows_what_one_lost_before_it() -> None:
    stream, engine = make_stream(), FakeEngine()
    stream.audio.lose(4000, 4000 + BRIDGED_SAMPLES + 100)
    audio = SPEECH[: 4000 + BRIDGED_SAMPLES + 100].copy()
    audio[4000:] = 0
    events = answer(stream, stream.push(audio[:-50]), engine)
    events += answer(stream, stream.gap("paused", 50), engine) + stream.close()
    end = 4000 + BRIDGED_SAMPLES + 50
    assert gap_spans(events) == [
        (slot_from(4000), end, "lost"),
        (end, end + 50, "paused"),
    ]


def _final(events: Iterable[Event]) -> list[Event]:
    return [event for event in events if not isinstance(event, Gap) or event.final]
