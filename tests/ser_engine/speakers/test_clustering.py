from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ser_engine.speakers import clustering
from ser_engine.speakers.clustering import Clustering
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


def groups_of(
    vectors: list[FloatArray], threshold: float, most: int = 8, smallest: int = 1
) -> list[int]:
    found = Clustering(threshold, most)
    for vector in vectors:
        found.add(vector)
    return found.groups(smallest)


@pytest.mark.parametrize("of", [1, 2, 5])
def test_voices_that_differ_are_told_apart(of: int) -> None:
    heard = voices(200, of, noise=0.9)
    groups = groups_of([vector for _, vector in heard], 0.3, smallest=2)
    pairs = set(zip((who for who, _ in heard), groups, strict=True))
    assert len(pairs) == len({who for who, _ in heard}) == len(set(groups))


@pytest.mark.needs("scipy")
@pytest.mark.parametrize("threshold", [0.0, 0.2, 0.5])
def test_it_is_average_linkage(threshold: float) -> None:
    from scipy.cluster.hierarchy import fcluster, linkage

    vectors = [vector for _, vector in voices(60, 6, noise=1.5)]
    theirs = fcluster(
        linkage(np.array(vectors), "average", metric="cosine"), 1 - threshold, "distance"
    )
    ours = groups_of(vectors, threshold, most=60)
    assert len(set(zip(ours, theirs, strict=True))) == len(set(ours)) == len(set(theirs)) > 1


def test_groups_are_numbered_as_they_come() -> None:
    east, north, west = np.eye(3, dtype=np.float32)
    assert groups_of([north, north, east, north, west, east], 0.5) == [0, 0, 1, 0, 2, 1]


def test_the_most_alike_become_one_where_there_are_too_many() -> None:
    angles = np.deg2rad([0, 80, 90, 180])
    vectors = list(np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32))
    assert groups_of(vectors, 0.99, most=3) == [0, 1, 1, 2]


def test_small_groups_join_their_nearest_and_the_largest_stays() -> None:
    east, north = np.eye(2, dtype=np.float32)
    assert groups_of([east, east, east, north], 0.5, smallest=2) == [0, 0, 0, 0]
    assert groups_of([north, east, east], 0.5, smallest=100) == [0, 0, 0]


def test_a_long_recording_takes_no_more_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clustering, "_MOST_GROUPS", 40)
    heard = voices(400, 3, noise=0.9)
    found = Clustering(0.3, 8)
    for _, vector in heard:
        found.add(vector)
        assert len(found._sums) <= 40
    groups = found.groups(2)
    assert len(set(zip((who for who, _ in heard), groups, strict=True))) == len(set(groups)) == 3


@settings(max_examples=50)
@given(st.lists(st.integers(0, 9), max_size=60), st.floats(-1, 1), st.integers(1, 4))
def test_there_are_never_more_groups_than_may_be(
    picks: list[int], threshold: float, most: int
) -> None:
    vectors = [vector for _, vector in voices(10, 4, noise=2.0, seed=3)]
    groups = groups_of([vectors[pick] for pick in picks], threshold, most)
    assert len(groups) == len(picks)
    assert sorted(set(groups)) == list(range(len(set(groups))))
    assert len(set(groups)) <= most
