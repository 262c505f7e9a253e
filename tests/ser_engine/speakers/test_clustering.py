from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ser_engine.speakers import OnlineClustering
from ser_engine.types import FloatArray


def voices(count: int, of: int, noise: float, seed: int = 0) -> list[tuple[int, FloatArray]]:
    """Vectors around ``of`` directions: who it was, and the vector."""
    random = np.random.default_rng(seed)
    centres = np.linalg.qr(random.normal(size=(64, of)))[0].T
    result = []
    for _ in range(count):
        who = int(random.integers(of))
        vector = centres[who] + random.normal(size=64) * noise / 8
        result.append((who, (vector / np.linalg.norm(vector)).astype(np.float32)))
    return result


@pytest.mark.parametrize("of", [1, 2, 5])
def test_voices_that_differ_are_told_apart(of: int) -> None:
    clusters = OnlineClustering(0.5, 8)
    heard = voices(200, of, noise=0.7)
    groups = [clusters.add(vector) for _, vector in heard]
    pairs = {(who, clusters.find(group)) for (who, _), group in zip(heard, groups, strict=True)}
    assert len(pairs) == len({who for who, _ in heard}) == len({group for _, group in pairs})


def test_groups_that_come_near_become_one_under_the_older_number() -> None:
    clusters = OnlineClustering(0.65, 8)
    east, north = np.eye(2, dtype=np.float32)
    between = ((east + north) / np.sqrt(2)).astype(np.float32)
    first, second = clusters.add(east), clusters.add(north)
    assert first != second
    for _ in range(20):
        clusters.add(between)
    assert clusters.find(second) == clusters.find(first) == first


def test_more_voices_than_may_be_join_the_nearest() -> None:
    clusters = OnlineClustering(0.5, 2)
    groups = [clusters.add(vector) for vector in np.eye(5, dtype=np.float32)]
    assert {clusters.find(group) for group in groups} == {0, 1}


def test_small_groups_dissolve_and_the_last_one_stays() -> None:
    clusters = OnlineClustering(0.5, 8)
    east, north = np.eye(2, dtype=np.float32)
    for _ in range(3):
        clusters.add(east)
    slip = clusters.add(north)
    clusters.dissolve_smaller_than(2)
    assert clusters.find(slip) == 0
    clusters.dissolve_smaller_than(100)
    assert clusters.find(0) == 0


@settings(max_examples=50)
@given(st.lists(st.integers(0, 9), max_size=60), st.floats(-1, 1), st.integers(1, 4))
def test_there_are_never_more_groups_than_may_be(
    picks: list[int], threshold: float, most: int
) -> None:
    clusters = OnlineClustering(threshold, most)
    vectors = [vector for _, vector in voices(10, 4, noise=2.0, seed=3)]
    groups = [clusters.add(vectors[pick]) for pick in picks]
    assert len({clusters.find(group) for group in groups}) <= most
