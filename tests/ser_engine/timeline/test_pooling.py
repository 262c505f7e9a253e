from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ser_engine.timeline.smoothing import LogitPool, softmax

HOP = 320


def test_softmax_sums_to_one() -> None:
    posteriors = softmax(np.array([[0.0, 1.0, -2.0], [1e4, -1e4, 1e4]], np.float32))
    np.testing.assert_allclose(posteriors.sum(axis=-1), 1)
    np.testing.assert_allclose(posteriors[1], [0.5, 0, 0.5])


def test_softmax_gives_unlearned_classes_nothing() -> None:
    logits = np.array([[0.0, -np.inf, 0.0], [-np.inf, -np.inf, -np.inf]])
    np.testing.assert_array_equal(softmax(logits), [[0.5, 0, 0.5], [0, 0, 0]])


def test_pool_averages_the_trailing_span() -> None:
    pool = LogitPool(3 * HOP, 1)
    pooled = pool.push(np.arange(5) * HOP, np.array([[1.0], [2.0], [3.0], [7.0], [8.0]]))
    np.testing.assert_allclose(pooled[:, 0], [1, 1.5, 2, 4, 6])


def test_time_without_frames_ages_the_pool() -> None:
    pool = LogitPool(3 * HOP, 1)
    pool.push(np.array([0, HOP]), np.array([[1.0], [2.0]]))
    # The frame at 3 * HOP still sees the one at HOP; the one at 9 * HOP sees none.
    pooled = pool.push(np.array([3 * HOP, 9 * HOP]), np.array([[4.0], [5.0]]))
    np.testing.assert_allclose(pooled[:, 0], [3, 5])
    assert len(pool) == 1


def test_unlearned_classes_stay_unlearned() -> None:
    pool = LogitPool(3 * HOP, 2)
    logits = np.column_stack([np.arange(9.0), np.full(9, -np.inf)])
    pooled = pool.push(np.arange(9) * HOP, logits)
    assert np.isneginf(pooled[:, 1]).all()
    assert np.isfinite(pooled[:, 0]).all()


@given(st.lists(st.integers(0, 40), max_size=8))
def test_grouping_does_not_matter(cuts: list[int]) -> None:
    rng = np.random.default_rng(1)
    starts, logits = np.arange(40) * HOP, rng.standard_normal((40, 3))
    whole = LogitPool(7 * HOP, 3).push(starts, logits)
    pool = LogitPool(7 * HOP, 3)
    pieces = zip(np.split(starts, sorted(cuts)), np.split(logits, sorted(cuts)), strict=True)
    np.testing.assert_array_equal(np.concatenate([pool.push(*piece) for piece in pieces]), whole)
    assert len(pool) <= 7
