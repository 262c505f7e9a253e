from __future__ import annotations

import numpy as np
import pytest

from benchmarks.accuracy_metrics import (
    confusion_matrix,
    diarisation_error,
    expected_calibration_error,
    label_delay_s,
    recalls,
    unweighted_average_recall,
)
from ser_engine.schema import Point, Segment

TRUTH = ["angry", "angry", "angry", "sad"]
ANSWERS = ["angry", "angry", "sad", "happy"]


def test_every_class_counts_the_same() -> None:
    assert recalls(TRUTH, ANSWERS) == {"angry": pytest.approx(2 / 3), "sad": 0}
    assert unweighted_average_recall(TRUTH, ANSWERS) == pytest.approx(1 / 3)


def test_confusions_are_counted_by_truth_and_answer() -> None:
    counts = confusion_matrix(TRUTH, ANSWERS, ["angry", "happy", "sad"])
    assert counts.tolist() == [[2, 0, 1], [0, 0, 0], [0, 1, 0]]


def test_calibration_error_is_the_gap_between_confidence_and_accuracy() -> None:
    posteriors = np.array([[0.8, 0.2]] * 10)
    assert expected_calibration_error(posteriors, np.array([0] * 8 + [1] * 2)) == pytest.approx(0)
    assert expected_calibration_error(posteriors, np.array([0] * 5 + [1] * 5)) == pytest.approx(0.3)
    sure = np.array([[1.0, 0.0]])
    assert expected_calibration_error(sure, np.array([1])) == pytest.approx(1)


def test_speech_without_its_label_is_an_error_and_pauses_are_not() -> None:
    segments = [
        segment(0, 3200, "angry"),
        segment(4800, 6400, "sad"),
    ]
    truth = [(0, 3200, "angry"), (3840, 6400, "sad")]
    assert diarisation_error(truth, segments) == (3, 18)


def point(start: int, end: int, label: str) -> Point:
    return Point(
        start_sample=start,
        end_sample=end,
        posteriors=(),
        label=label,
        confidence=1.0,
        speech_share=1.0,
        provisional=False,
        widened=False,
    )


def segment(start: int, end: int, label: str) -> Segment:
    return Segment(start_sample=start, end_sample=end, label=label, confidence=0.9, final=True)


def test_delay_runs_from_the_change_to_when_the_point_is_published() -> None:
    points = [point(0, 8000, "angry"), point(8000, 16000, "angry"), point(16000, 24000, "neutral")]
    assert label_delay_s(points, 12000, "neutral", 3840) == pytest.approx(
        (24000 + 3840 - 12000) / 16000
    )
    assert label_delay_s(points, 12000, "sad", 3840) is None
    assert label_delay_s(points[2:], 24000, "neutral", 3840) is None
