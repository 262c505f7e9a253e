"""Measures of accuracy, on plain arrays."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ser_engine.frames import HOP_SAMPLES, SAMPLE_RATE_HZ
from ser_engine.schema import Point, Segment


def recalls(truth: Sequence[str], answers: Sequence[str]) -> dict[str, float]:
    """Return the share of each class of ``truth`` that was answered right."""
    pairs = list(zip(truth, answers, strict=True))
    found = {}
    for name in sorted(set(truth)):
        of_class = [answer == name for is_, answer in pairs if is_ == name]
        found[name] = sum(of_class) / len(of_class)
    return found


def unweighted_average_recall(truth: Sequence[str], answers: Sequence[str]) -> float:
    """Return the mean recall over the classes that occur in ``truth``; 0 if none does."""
    found = recalls(truth, answers)
    # A quick run may draw no clip of the classes that are asked for.
    return sum(found.values()) / max(1, len(found))


def confusion_matrix(
    truth: Sequence[str], answers: Sequence[str], names: Sequence[str]
) -> npt.NDArray[np.int64]:
    """Return counts (truth, answers) in the order of ``names``."""
    counts = np.zeros((len(names), len(names)), dtype=np.int64)
    for is_, answer in zip(truth, answers, strict=True):
        counts[names.index(is_), names.index(answer)] += 1
    return counts


def expected_calibration_error(
    posteriors: npt.NDArray[np.float64], truth: npt.NDArray[np.int64], bins: int = 15
) -> float:
    """Return the mean gap between confidence and accuracy (Guo et al., arXiv 1706.04599).

    ``posteriors``: (items, classes). The bins are of equal width over confidence.
    """
    confidence = posteriors.max(axis=1)
    right = posteriors.argmax(axis=1) == truth
    place = np.minimum((confidence * bins).astype(int), bins - 1)
    error = 0.0
    for index in range(bins):
        inside = place == index
        if inside.any():
            error += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    return float(error)


def diarisation_error(
    truth: Sequence[tuple[int, int, str]], segments: Sequence[Segment]
) -> tuple[int, int]:
    """Return cells of acted speech that bear no or another label, and all such cells.

    EDER (Wang et al., arXiv 2306.12991) without false alarms: what the label is between words is
    nobody's error.

    ``truth``: (start sample, stop sample, emotion) of the speech, in order; ``segments``: final
    ones.
    """
    wrong = total = 0
    for start, stop, emotion in truth:
        for sample in range(start, stop, HOP_SAMPLES):
            total += 1
            label = next(
                (s.label for s in segments if s.start_sample <= sample < s.end_sample), None
            )
            wrong += label != emotion
    return wrong, total


def label_delay_s(
    points: Sequence[Point], change_sample: int, emotion: str, look_ahead_samples: int
) -> float | None:
    """Return how long after a change the first point with the new label was published.

    ``look_ahead_samples``: audio beyond its end that a point waits for.

    Returns:
        seconds of stream time, computing time aside; None where the label never came, or was
        there before the change.
    """
    before = [point for point in points if point.end_sample <= change_sample]
    if before and before[-1].label == emotion:
        return None
    for point in points:
        published = point.end_sample + look_ahead_samples
        if point.end_sample > change_sample and point.label == emotion:
            return (published - change_sample) / SAMPLE_RATE_HZ
    return None


def binary_recall(truth: npt.NDArray[np.bool_], answers: npt.NDArray[np.bool_]) -> float:
    """Return the mean of the recalls of a class and of all others."""
    return float((answers[truth].mean() + (~answers[~truth]).mean()) / 2)


def area_under_curve(truth: npt.NDArray[np.bool_], scores: npt.NDArray[np.float64]) -> float:
    """Return how often an item of the class scores above one that is not; ties count half."""
    order = np.argsort(scores, kind="stable")
    ranks = np.empty(len(scores))
    ranks[order] = np.arange(1, len(scores) + 1)
    values, group = np.unique(scores, return_inverse=True)
    mean_rank = np.bincount(group, ranks, len(values)) / np.bincount(group, minlength=len(values))
    positives = int(truth.sum())
    above = mean_rank[group][truth].sum() - positives * (positives + 1) / 2
    return float(above / (positives * (len(truth) - positives)))


def risk_coverage(
    confidence: npt.NDArray[np.float64],
    right: npt.NDArray[np.bool_],
    coverages: Sequence[float] = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0),
) -> list[dict[str, float]]:
    """Return the share of errors among the most confident items, for shares of all items.

    Geifman & El-Yaniv 2017, arXiv 1705.08500.
    """
    order = np.argsort(-confidence, kind="stable")
    rows = []
    for coverage in coverages:
        count = max(1, round(coverage * len(order)))
        kept = order[:count]
        rows.append(
            {
                "coverage": coverage,
                "risk": float(1 - right[kept].mean()),
                "confidence_at_least": float(confidence[kept[-1]]),
            }
        )
    return rows
