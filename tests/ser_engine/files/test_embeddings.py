from __future__ import annotations

import sys

import numpy as np
import pytest

from ser_engine.errors import EmbeddingError, RuntimeUnavailableError
from ser_engine.files.embeddings import Embedding, cluster, cosine_matrix, nearest, project, stack


def embedding(*values: float, name: str = "a", model: str = "") -> Embedding:
    return Embedding(name, np.array(values, dtype=np.float32), model)


def groups_of_three(rng: np.random.Generator) -> np.ndarray:
    """Return 6, 4 and 2 vectors around three directions, of different lengths."""
    centres = np.eye(3, 16)[[0] * 6 + [1] * 4 + [2] * 2]
    rows = centres + rng.normal(0, 0.02, centres.shape)
    return np.asarray(rows * rng.uniform(0.5, 5, (12, 1)))


def test_directions_are_compared_not_lengths():
    rows = stack([embedding(1, 0), embedding(9, 0), embedding(0, 2), embedding(-3, 0)])
    expected = [[1, 1, 0, -1], [1, 1, 0, -1], [0, 0, 1, 0], [-1, -1, 0, 1]]
    np.testing.assert_allclose(cosine_matrix(rows), expected, atol=1e-12)


def test_similarity_never_leaves_its_range(rng: np.random.Generator):
    rows = np.repeat(rng.normal(size=(1, 768)), 50, axis=0)
    assert np.abs(cosine_matrix(rows)).max() <= 1.0


def test_the_nearest_come_first():
    rows = np.array([[0.0, 1.0], [1.0, 0.1], [1.0, 0.0], [-1.0, 0.0]])
    assert [index for index, _ in nearest(np.array([2.0, 0.0]), rows, 3)] == [2, 1, 0]
    assert nearest(np.array([2.0, 0.0]), rows, 9)[-1] == (3, -1.0)


@pytest.mark.parametrize(
    ("embeddings", "message"),
    [
        ([], "got no embedding"),
        ([embedding(1, 0), embedding(1, 0, 0, name="b")], r"shape \(3,\) \(b\) and \(2,\) \(a\)"),
        (
            [embedding(1, model="base"), embedding(1), embedding(1, name="b", model="seed")],
            r"models base \(a\) and seed \(b\)",
        ),
        ([embedding(1, 0), embedding(0, 0, name="b")], r"length 0.0 \(b\)"),
        ([embedding(1, float("nan"), name="b")], r"length nan \(b\)"),
        ([Embedding("b", np.zeros((2, 2), np.float32))], "shape"),
    ],
)
def test_what_cannot_be_compared_is_refused(embeddings: list[Embedding], message: str):
    with pytest.raises(EmbeddingError, match=message):
        stack(embeddings)


@pytest.mark.needs("scikit-learn")
def test_groups_are_found_and_numbered_by_size(rng: np.random.Generator):
    rows = groups_of_three(rng)
    assert cluster(rows, 3) == [0] * 6 + [1] * 4 + [2] * 2
    order = rng.permutation(12)
    assert cluster(rows[order], 3) == [([0] * 6 + [1] * 4 + [2] * 2)[index] for index in order]


@pytest.mark.needs("scikit-learn")
@pytest.mark.parametrize("count", [0, 13])
def test_more_groups_than_recordings_are_refused(count: int, rng: np.random.Generator):
    with pytest.raises(EmbeddingError, match="expected 1 to 12"):
        cluster(groups_of_three(rng), count)


@pytest.mark.needs("scikit-learn")
def test_more_groups_than_different_recordings_are_refused():
    with pytest.raises(EmbeddingError, match="1 different"):
        cluster(np.ones((5, 3)), 2)


def test_without_scikit_learn_the_error_says_how_to_get_it(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(sys.modules, "sklearn.cluster", None)
    with pytest.raises(RuntimeUnavailableError, match=r"emotion-monitor\[embeddings\]"):
        cluster(groups_of_three(rng), 2)


def test_the_picture_keeps_groups_apart(rng: np.random.Generator):
    points, shares = project(groups_of_three(rng))
    assert points.shape == (12, 2)
    assert 0.9 < sum(shares) <= 1.0
    assert shares[0] >= shares[1]
    spread = np.linalg.norm(points[:6] - points[:6].mean(axis=0), axis=1).max()
    assert spread < np.linalg.norm(points[:6].mean(axis=0) - points[6:10].mean(axis=0)) / 5
    np.testing.assert_allclose(points.mean(axis=0), 0, atol=1e-12)


@pytest.mark.parametrize("count", [1, 2])
def test_few_recordings_have_a_picture(count: int, rng: np.random.Generator):
    points, shares = project(rng.normal(size=(count, 8)))
    assert points.shape == (count, 2)
    assert np.isfinite(points).all()
    assert shares == pytest.approx((count - 1.0, 0.0))
