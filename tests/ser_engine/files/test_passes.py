from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ser_engine.files.passes import Pass, PassCutter
from ser_engine.frames import num_frames
from ser_engine.types import WindowResult

LENGTH, CONTEXT = 16_000, 3840


def cut(num_samples: int, cuts: list[int]) -> list[Pass]:
    cutter, passes = PassCutter(LENGTH), list[Pass]()
    samples = np.arange(num_samples, dtype=np.float32)
    for part in np.split(samples, sorted(cuts)):
        passes += cutter.push(part)
    assert cutter.heard_samples == num_samples
    return passes + cutter.finish()


@pytest.mark.parametrize("hop", [160, 320])
@given(num_samples=st.integers(400, 60_000), cuts=st.lists(st.integers(0, 60_000), max_size=5))
def test_every_frame_is_kept_once_with_context(num_samples: int, cuts: list[int], hop: int) -> None:
    kept: list[int] = []
    for each in cut(num_samples, cuts):
        window = each.window
        length = len(window.samples)
        assert 400 <= length <= LENGTH
        assert window.start_sample % 320 == 0
        np.testing.assert_array_equal(
            window.samples, np.arange(window.start_sample, window.start_sample + length)
        )
        frames = (length - 400) // hop + 1
        starts = window.start_sample + hop * np.arange(frames)
        nothing = np.zeros((frames, 1), np.float32)
        mine = starts[each.rows(WindowResult(nothing, nothing, hop))].tolist()
        for start in mine:
            assert start - window.start_sample >= min(CONTEXT, start)
            assert window.start_sample + length - start >= min(CONTEXT, num_samples - start)
        kept += mine
    assert kept == list(range(0, num_samples - 399, hop))
    assert hop != 320 or len(kept) == num_frames(num_samples)


@given(num_samples=st.integers(0, 60_000), cuts=st.lists(st.integers(0, 60_000), max_size=9))
def test_how_audio_is_pushed_does_not_matter(num_samples: int, cuts: list[int]) -> None:
    def spans(passes: list[Pass]) -> list[tuple[int, int, int]]:
        return [(p.window.start_sample, len(p.window.samples), p.keep_from) for p in passes]

    assert spans(cut(num_samples, cuts)) == spans(cut(num_samples, []))


def test_what_fits_is_one_pass() -> None:
    (only,) = cut(LENGTH, [])
    assert (only.keep_from, only.keep_to) == (0, None)


def test_too_little_for_a_frame_is_none() -> None:
    assert cut(399, []) == []


def test_no_more_than_a_pass_is_held() -> None:
    cutter = PassCutter(LENGTH)
    for _ in range(100):
        cutter.push(np.zeros(1000, np.float32))
        assert len(cutter._held) <= LENGTH
