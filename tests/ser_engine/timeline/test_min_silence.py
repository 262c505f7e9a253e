"""Silences too short to mean anything do not split a segment."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ser_engine.config import TimelineConfig
from tests.ser_engine.timeline.streams import (
    assert_tiles,
    drive,
    gap_spans,
    make_audio,
    make_stream,
    segments,
)

SLOT = 320
TIMELINE = TimelineConfig(window_ms=1000, step_ms=200, look_ahead_ms=100)


def silences(lengths: list[int], *, min_silence_ms: int = 80) -> list[tuple[int, int, str]]:
    """Gaps of speech of 13 slots each with silences of that many slots between."""
    parts = [part for slots in lengths for part in ((13 * SLOT, 0.1), (slots * SLOT, 0.0))]
    audio = make_audio(*parts, (13 * SLOT + 80, 0.1))
    events = drive(make_stream(TIMELINE, min_silence_ms=min_silence_ms), [audio])
    assert_tiles(events, len(audio))
    return gap_spans(events)


@pytest.mark.parametrize("phase", range(10))
def test_only_long_silences_are_gaps_wherever_boundaries_are(phase: int):
    found = silences([phase + 4, 1, 2, 3, 4, 5])
    assert [(end - start) // SLOT for start, end, _ in found] == [phase + 4, 4, 5]


def test_without_a_minimum_every_silence_is_a_gap():
    assert len(silences([1, 2, 3], min_silence_ms=0)) == 3


def test_no_more_than_the_look_ahead_is_waited_for():
    assert [
        (end - start) // SLOT for start, end, _ in silences([4, 5, 6], min_silence_ms=2000)
    ] == [
        5,
        6,
    ]


def test_silence_at_the_start_and_at_the_end_stays_silence():
    audio = make_audio((SLOT, 0.0), (20 * SLOT, 0.1), (SLOT + 80, 0.0))
    events = drive(make_stream(TIMELINE, min_silence_ms=80), [audio])
    assert [reason for _, _, reason in gap_spans(events)] == ["silence", "silence"]


def test_what_was_flushed_is_not_altered():
    stream = make_stream(TIMELINE, min_silence_ms=80)
    first = make_audio((20 * SLOT, 0.1), (2 * SLOT + 80, 0.0))
    second = make_audio((20 * SLOT, 0.1))
    # The flush publishes both silent slots, before the speech that shows how short they are.
    stream.push(first)
    for window in stream.flush():
        stream.skip(window)
    stream.push(second)
    stream.finish()
    events = stream.close()
    spans = gap_spans(events)
    assert (20 * SLOT, 22 * SLOT, "silence") in spans


@settings(max_examples=30)
@given(
    lengths=st.lists(st.integers(1, 8), max_size=5),
    cuts=st.lists(st.integers(0, 20_000), max_size=8),
)
def test_chunking_does_not_matter(lengths: list[int], cuts: list[int]):
    parts = [part for slots in lengths for part in ((5 * SLOT, 0.1), (slots * SLOT, 0.0))]
    audio = make_audio(*parts, (4000, 0.2))
    whole = drive(make_stream(TIMELINE, min_silence_ms=80), [audio])
    chunks = np.split(audio, sorted(min(cut, len(audio)) for cut in cuts))
    assert drive(make_stream(TIMELINE, min_silence_ms=80), chunks) == whole
    assert sum(each.end_sample - each.start_sample for each in segments(whole)) > 0
