from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ser_engine.core.features import bucket_of, pack, row_frames, runs_of


@pytest.mark.parametrize(
    ("needed", "runs"),
    [
        ("", []),
        ("....", []),
        ("####", [(0, 4)]),
        ("#..##", [(0, 1), (3, 5)]),
        ("#.##.#..#", [(0, 6), (8, 9)]),
    ],
)
def test_runs_of_needed_frames(needed: str, runs: list[tuple[int, int]]) -> None:
    assert runs_of(np.array([mark == "#" for mark in needed], dtype=bool)) == runs


@given(needed=st.lists(st.booleans(), min_size=1, max_size=300), capacity=st.integers(1, 60))
def test_every_needed_frame_has_one_place_and_no_two_runs_touch(
    needed: list[bool], capacity: int
) -> None:
    runs = runs_of(np.array(needed))

    rows = pack(runs, capacity)

    placed: list[int] = []
    for row in rows:
        assert row_frames(row) <= capacity
        assert row[0].offset == 0
        for before, after in itertools.pairwise(row):
            assert after.offset == before.offset + (before.stop - before.first) + 1
        placed += [frame for each in row for frame in range(each.first, each.stop)]
    assert placed == [frame for first, stop in runs for frame in range(first, stop)]


def test_a_bucket_is_the_smallest_that_holds_the_frames() -> None:
    assert [bucket_of(frames, (25, 50, 199)) for frames in (1, 25, 26, 199)] == [25, 25, 50, 199]
