from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ser_engine.config import OfflineConfig
from ser_engine.files.passes import PieceCutter, PieceSpan

SECOND = 16_000
CELLS = 50


def speech(*pauses: tuple[float, float], length_s: float) -> list[bool]:
    """Flags of a recording with pauses (from, to) in seconds."""
    times = np.arange(round(length_s * CELLS)) / CELLS
    return [not any(start <= time < end for start, end in pauses) for time in times]


def cut(
    flags: list[bool],
    config: OfflineConfig | None = None,
    extra_samples: int = 0,
    sizes: tuple[int, ...] = (),
    hangover_ms: int = 0,
) -> list[PieceSpan]:
    cutter = PieceCutter(config or OfflineConfig(), hangover_ms=hangover_ms)
    spans: list[PieceSpan] = []
    bounds = [0, *sorted(min(size, len(flags)) for size in sizes), len(flags)]
    for start, end in itertools.pairwise(bounds):
        spans += cutter.push((end - start) * 320, flags[start:end])
    spans += cutter.push(extra_samples, [])
    return spans + cutter.finish()


def bounds_s(spans: list[PieceSpan]) -> list[tuple[float, float]]:
    return [(span.start_sample / SECOND, span.end_sample / SECOND) for span in spans]


def test_what_fits_into_one_pass_is_one_piece():
    assert bounds_s(cut(speech((12, 14), length_s=30))) == [(0, 30)]


def test_cuts_fall_amid_the_longest_pause_of_the_range():
    flags = speech((5, 9), (12, 12.4), (15, 16), (18, 18.8), (28, 29), length_s=40)
    assert bounds_s(cut(flags)) == [(0, 15.5), (15.5, 28.5), (28.5, 40)]


def test_of_equal_pauses_the_latest():
    assert bounds_s(cut(speech((12, 13), (17, 18), length_s=40)))[0] == (0, 17.5)


def test_without_a_pause_cuts_are_at_the_maximum():
    assert bounds_s(cut(speech(length_s=65))) == [(0, 20), (20, 40), (40, 55), (55, 65)]


@pytest.mark.parametrize("pause", [(6.0, 12.0), (19.0, 27.0)])
def test_of_a_pause_only_what_lies_in_the_range_counts(pause: tuple[float, float]):
    # A pause that reaches past the range is cut amid the part of it that is allowed.
    begin, end = max(pause[0], 10.0), min(pause[1], 20.0)
    ((_, cut_s), *_) = bounds_s(cut(speech(pause, length_s=60)))
    assert cut_s == pytest.approx((begin + end) / 2, abs=0.02)


def test_segments_without_speech_are_marked():
    spans = cut(speech((20, 60), length_s=80))
    marks = {span.has_speech for span in spans if 20 * SECOND <= span.start_sample}
    assert spans[0].has_speech
    assert spans[-1].has_speech
    assert marks == {True, False}
    for span in spans:
        start, end = span.start_sample // 320, span.end_sample // 320
        assert span.has_speech == any(speech((20, 60), length_s=80)[start:end])


def test_the_time_that_speech_is_said_to_last_belongs_to_the_pause():
    # Speech ends at 14.8 s and is said to last to 15.0; at 15.2 it goes on.
    flags = speech((15.0, 15.2), length_s=40)
    assert bounds_s(cut(flags, hangover_ms=200))[0] == (0, 15.0)
    # Long silence after it: the next segment does not begin with speech.
    flags = speech((19.9, 45), length_s=60)
    spans = cut(flags, hangover_ms=200)
    assert bounds_s(spans)[0] == (0, 19.86)
    assert [span.has_speech for span in spans[:2]] == [True, False]


def test_a_short_pass_shortens_the_segments():
    config = OfflineConfig(max_pass_s=5)
    spans = cut(speech((3, 3.5), length_s=12), config)
    assert bounds_s(spans)[0] == (0, 3.26)
    assert all(span.end_sample - span.start_sample + 80 <= 5 * SECOND for span in spans)


@given(
    flags=st.lists(st.booleans(), max_size=400).map(
        lambda seen: [f for f in seen for _ in range(9)]
    ),
    sizes=st.lists(st.integers(0, 4000), max_size=6).map(tuple),
    hangover_ms=st.sampled_from([0, 200, 2000]),
    extra_samples=st.integers(0, 319),
)
def test_segments_tile_the_recording_and_chunks_do_not_matter(
    flags: list[bool], sizes: tuple[int, ...], extra_samples: int, hangover_ms: int
):
    spans = cut(flags, extra_samples=extra_samples, sizes=sizes, hangover_ms=hangover_ms)
    assert spans == cut(flags, extra_samples=extra_samples, hangover_ms=hangover_ms)
    total = len(flags) * 320 + extra_samples
    edges = [0, *(span.end_sample for span in spans)]
    assert [span.start_sample for span in spans] == edges[:-1]
    assert edges[-1] == total
    if total <= 30 * SECOND:
        assert len(spans) == (total > 0)
    else:
        for span in spans:
            assert span.start_sample % 320 == 0
            assert 10 * SECOND <= span.end_sample - span.start_sample <= 20 * SECOND


def test_only_some_30_s_are_held():
    cutter = PieceCutter(OfflineConfig(), hangover_ms=200)
    for _ in range(1000):
        cutter.push(SECOND, [True] * CELLS)
        assert len(cutter._states) <= 30 * CELLS
