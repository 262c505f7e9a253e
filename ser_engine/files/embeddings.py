"""What embeddings of recordings are good for: how alike they are, groups, the nearest, a picture.

An embedding is one vector a recording, ``(dim,)``: the mean of the encoder's frames. Vectors of two
models cannot be compared, not even where they have one size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ser_engine.errors import EmbeddingError, RuntimeUnavailableError, how_to_install
from ser_engine.types import FloatArray

Float64Array = npt.NDArray[np.float64]

_SEED = 0
_RESTARTS = 10


@dataclass(frozen=True, slots=True, eq=False)
class Embedding:
    """A recording as a vector.

    Attributes:
        vector: float32 ``(dim,)``.
        model: what made it, as far as is known, else "".
    """

    name: str
    vector: FloatArray
    model: str = ""


def stack(embeddings: Sequence[Embedding]) -> Float64Array:
    """Return embeddings as rows ``(recordings, dim)``.

    Raises:
        EmbeddingError: there is none, they are of different sizes or models, or one is no
            direction: it holds NaN or infinity, or is zero.
    """
    if not embeddings:
        raise EmbeddingError("got no embedding, expected at least one")
    first = embeddings[0]
    for each in embeddings:
        if each.vector.ndim != 1 or each.vector.shape != first.vector.shape:
            raise EmbeddingError(
                f"got embeddings of shape {each.vector.shape} ({each.name}) and"
                f" {first.vector.shape} ({first.name}), expected all of one model"
            )
    known = [each for each in embeddings if each.model]
    for each in known:
        if each.model != known[0].model:
            raise EmbeddingError(
                f"got embeddings of the models {known[0].model} ({known[0].name}) and"
                f" {each.model} ({each.name}), expected all of one model; analyse them again"
            )
    rows = np.stack([each.vector for each in embeddings]).astype(np.float64)
    norms = np.linalg.norm(rows, axis=1)
    for each, norm in zip(embeddings, norms.tolist(), strict=True):
        if not np.isfinite(norm) or norm == 0:
            raise EmbeddingError(
                f"got an embedding of length {norm} ({each.name}), expected a finite one above 0"
            )
    return rows


def cosine_matrix(rows: Float64Array) -> Float64Array:
    """Return how alike rows ``(recordings, dim)`` are: ``(recordings, recordings)``, −1 to 1."""
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    alike: Float64Array = np.clip(unit @ unit.T, -1.0, 1.0)
    return alike


def nearest(query: Float64Array, rows: Float64Array, count: int) -> list[tuple[int, float]]:
    """Return the rows most like a vector, with their cosine similarity, the most alike first.

    Args:
        query: ``(dim,)``.
        rows: ``(recordings, dim)``.
        count: how many, at least 1; fewer where there are fewer.
    """
    unit = query / np.linalg.norm(query)
    alike = np.clip(rows @ unit / np.linalg.norm(rows, axis=1), -1.0, 1.0)
    order = np.argsort(-alike, kind="stable")[:count]
    return [(int(index), float(alike[index])) for index in order]


def cluster(rows: Float64Array, count: int) -> list[int]:
    """Return the group of each row: K-means on directions, numbered by size, the largest 0.

    The same rows give the same groups: the start of K-means is drawn with a fixed seed.

    Args:
        rows: ``(recordings, dim)``.
        count: number of groups, 1 to the number of rows.

    Raises:
        EmbeddingError: there are fewer rows than groups.
        RuntimeUnavailableError: scikit-learn is not installed.
    """
    if not 1 <= count <= len(rows):
        raise EmbeddingError(
            f"got {count} groups for {len(rows)} recordings, expected 1 to {len(rows)}"
        )
    try:
        from sklearn.cluster import KMeans
    except ImportError as error:
        raise RuntimeUnavailableError(
            f"groups need the package scikit-learn; {how_to_install('embeddings')}"
        ) from error
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    if len(np.unique(unit, axis=0)) < count:
        raise EmbeddingError(
            f"got {count} groups for {len(np.unique(unit, axis=0))} different embeddings, expected"
            " no more groups than those"
        )
    found = KMeans(n_clusters=count, n_init=_RESTARTS, random_state=_SEED).fit_predict(unit)
    sizes = np.bincount(found, minlength=count)
    firsts = [int(np.flatnonzero(found == group)[0]) for group in range(count)]
    order = sorted(range(count), key=lambda group: (-sizes[group], firsts[group]))
    place = {group: index for index, group in enumerate(order)}
    return [place[int(group)] for group in found]


def project(rows: Float64Array) -> tuple[Float64Array, tuple[float, float]]:
    """Return rows as points in a plane: their first two principal components.

    Returns:
        ``(recordings, 2)``, of directions, centred; and what share of the variance either axis
        shows, 0 to 1. An axis that does not exist, with one or two recordings, is 0.
    """
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    centred = unit - unit.mean(axis=0)
    left, strengths, axes = np.linalg.svd(centred, full_matrices=False)
    points = np.zeros((len(rows), 2))
    kept = min(2, len(strengths))
    points[:, :kept] = left[:, :kept] * strengths[:kept]
    # The sign of an axis is arbitrary: its largest weight is made positive.
    for axis in range(kept):
        if axes[axis][np.abs(axes[axis]).argmax()] < 0:
            points[:, axis] *= -1
    total = float(np.square(strengths).sum())
    shares = [float(each) ** 2 / total if total > 0 else 0.0 for each in strengths[:kept]]
    shares += [0.0] * (2 - kept)
    return points, (shares[0], shares[1])
