from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ser_engine.config import SmoothingConfig
from ser_engine.timeline.smoothing import UNCLEAR, Decision, LabelTracker, LogitPool, softmax

HOP = 320
CONFIG = SmoothingConfig(
    span_ms=200, activation_threshold=0.5, deactivation_threshold=0.3, min_dwell_ms=60
)
A, B = (0.9, 0.1, 0.0), (0.1, 0.9, 0.0)
WEAK_B = (0.35, 0.45, 0.2)
NOBODY = (0.25, 0.4, 0.35)


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


def run(*posteriors: tuple[float, ...], config: SmoothingConfig = CONFIG) -> list[Decision]:
    tracker = LabelTracker(config)
    return [
        tracker.push(index * HOP, (index + 1) * HOP, posterior)
        for index, posterior in enumerate(posteriors)
    ]


def test_the_first_label_settles_when_it_has_lasted() -> None:
    decisions = run(A, B, B, B)
    assert [decision.label for decision in decisions] == [0, 1, 1, 1]
    assert [decision.settled for decision in decisions] == [False, False, False, True]


def test_a_change_that_lasts_is_dated_back_to_its_first_frame() -> None:
    decisions = run(A, A, A, B, B, B, B)
    assert decisions[3:] == [
        Decision(0, settled=True, doubt_since=3 * HOP),
        Decision(0, settled=True, doubt_since=3 * HOP),
        Decision(1, settled=True, changed_at=3 * HOP),
        Decision(1, settled=True),
    ]


def test_a_change_that_does_not_last_leaves_no_trace() -> None:
    decisions = run(A, A, A, B, B, A, B, B)
    assert {decision.label for decision in decisions} == {0}
    assert decisions[5] == Decision(0, settled=True)
    assert decisions[6].doubt_since == 6 * HOP


def test_a_stronger_class_below_activation_does_not_take_over() -> None:
    assert {decision.label for decision in run(A, A, A, *[WEAK_B] * 9)} == {0}


def test_a_label_below_deactivation_gives_way_to_the_strongest() -> None:
    assert run(A, A, A, NOBODY, NOBODY, NOBODY)[-1] == Decision(1, True, changed_at=3 * HOP)


def test_a_label_below_deactivation_stays_while_it_is_the_strongest() -> None:
    assert {d.label for d in run(A, A, A, *[(0.29, 0.28, 0.28)] * 9)} == {0}


def test_the_stronger_class_wins_where_thresholds_are_low() -> None:
    config = SmoothingConfig(activation_threshold=0.2, deactivation_threshold=0.1, min_dwell_ms=0)
    assert {d.label for d in run(*[(0.6, 0.4, 0.0)] * 5, config=config)} == {0}


def test_without_dwell_changes_are_immediate() -> None:
    config = SmoothingConfig(min_dwell_ms=0)
    decisions = run(A, B, A, config=config)
    assert [decision.label for decision in decisions] == [0, 1, 0]
    assert [decision.changed_at for decision in decisions] == [None, HOP, 2 * HOP]


def test_dwell_counts_speech_and_outlives_short_silences() -> None:
    tracker = LabelTracker(CONFIG)
    for index in range(3):
        tracker.push(index * HOP, (index + 1) * HOP, A)
    tracker.push(3 * HOP, 4 * HOP, B)
    assert tracker.push(9 * HOP, 10 * HOP, B).label == 0
    assert tracker.push(10 * HOP, 11 * HOP, B) == Decision(1, True, changed_at=3 * HOP)


@pytest.mark.parametrize(("silent_slots", "label"), [(9, 0), (10, 1)])
def test_a_silence_as_long_as_the_span_ends_the_label(silent_slots: int, label: int) -> None:
    tracker = LabelTracker(CONFIG)
    for index in range(3):
        tracker.push(index * HOP, (index + 1) * HOP, A)
    start = (3 + silent_slots) * HOP
    assert tracker.push(start, start + HOP, B).label == label


# Doubt: with 0.5 and a margin of 0.05.
SURE, EDGE, DOUBT = (0.7, 0.2, 0.1), (0.52, 0.38, 0.1), (0.4, 0.35, 0.25)


def doubting(*posteriors: tuple[float, ...]) -> list[Decision]:
    tracker = LabelTracker(CONFIG, abstain_below=0.5)
    return [
        tracker.push(index * HOP, (index + 1) * HOP, posterior)
        for index, posterior in enumerate(posteriors)
    ]


def test_a_label_that_is_lost_for_long_gives_way_to_none_from_where_it_was_lost() -> None:
    decisions = doubting(SURE, SURE, SURE, DOUBT, DOUBT, DOUBT, DOUBT)
    assert [decision.said() for decision in decisions] == [0, 0, 0, *[UNCLEAR] * 4]
    assert decisions[4] == Decision(0, settled=True, doubt_since=3 * HOP, is_lost=True)
    assert decisions[5] == Decision(UNCLEAR, settled=True, changed_at=3 * HOP)


def test_a_short_dip_is_not_said_and_changes_nothing() -> None:
    decisions = doubting(SURE, SURE, SURE, DOUBT, DOUBT, SURE, SURE)
    assert [decision.label for decision in decisions] == [0] * 7
    assert [decision.said() for decision in decisions[3:]] == [UNCLEAR, UNCLEAR, 0, 0]


def test_at_the_edge_nothing_flickers() -> None:
    # Above the threshold and below threshold and margin: what was said stays, and so does doubt.
    assert {each.said() for each in doubting(SURE, SURE, SURE, *[EDGE] * 9)} == {0}
    assert {each.said() for each in doubting(*[DOUBT] * 3, *[EDGE] * 9)} == {UNCLEAR}
    assert doubting(SURE, SURE, SURE, DOUBT, EDGE)[-1].said() == UNCLEAR


def test_out_of_doubt_a_label_has_to_last_and_is_dated_back() -> None:
    decisions = doubting(DOUBT, DOUBT, SURE, SURE, SURE, SURE)
    assert [decision.said() for decision in decisions] == [*[UNCLEAR] * 4, 0, 0]
    assert decisions[4] == Decision(0, settled=True, changed_at=2 * HOP)


def test_a_change_of_label_leaves_no_sliver_of_doubt() -> None:
    decisions = doubting(SURE, SURE, SURE, DOUBT, *[B] * 3)
    assert [decision.label for decision in decisions] == [0] * 6 + [1]
    assert decisions[6].changed_at == 3 * HOP


def test_labels_that_take_turns_while_one_is_lost_are_doubt() -> None:
    other = (0.1, 0.1, 0.8)
    decisions = doubting(SURE, SURE, SURE, B, B, other, other, B, B, other)
    assert {decision.label for decision in decisions[6:]} == {UNCLEAR}


@given(
    st.lists(st.tuples(*[st.floats(0.01, 1)] * 3), max_size=80),
    st.sampled_from([0.3, 0.5, 0.7]),
    st.sampled_from([0.0, 0.05, 0.2]),
)
def test_no_frame_says_a_label_below_the_threshold(
    weights: list[tuple[float, float, float]], abstain_below: float, margin: float
) -> None:
    tracker = LabelTracker(dataclasses.replace(CONFIG, abstain_margin=margin), abstain_below)
    for index, row in enumerate(weights):
        posterior = [weight / sum(row) for weight in row]
        said = tracker.push(index * HOP, (index + 1) * HOP, posterior).said()
        assert said == UNCLEAR or posterior[said] >= abstain_below


@given(st.lists(st.sampled_from([A, B, WEAK_B, NOBODY, (0.0, 0.0, 1.0), EDGE, DOUBT]), max_size=60))
@pytest.mark.parametrize("follow", [run, doubting])
def test_what_is_certain_is_never_dated_over(
    follow: Callable[..., list[Decision]], posteriors: list[tuple[float, ...]]
) -> None:
    certain = 0
    for index, decision in enumerate(follow(*posteriors)):
        if decision.changed_at is not None:
            assert decision.changed_at >= certain
        if decision.settled and decision.doubt_since is None and decision.changed_at is None:
            certain = (index + 1) * HOP


# Neutral, here the second class, needs 0.2, and 2 s of speech below it to be lost.
CALM, FAINT, FADED = (0.35, 0.4, 0.25), (0.45, 0.1, 0.45), (0.4, 0.35, 0.25)


def resting(*posteriors: tuple[float, ...]) -> list[int]:
    tracker = LabelTracker(CONFIG, abstain_below=0.5, labels=("angry", "neutral", "sad"))
    return [
        tracker.push(index * HOP, (index + 1) * HOP, posterior).said()
        for index, posterior in enumerate(posteriors)
    ]


def test_neutral_is_said_where_an_emotion_would_be_unclear() -> None:
    assert set(resting(*[CALM] * 9)) == {1}
    assert resting(*[SURE] * 3, *[FADED] * 3, *[CALM] * 3)[-4:] == [UNCLEAR] * 3 + [1]


def test_neutral_outlives_a_faint_moment_and_is_lost_after_long() -> None:
    said = resting(*[CALM] * 3, *[FAINT] * 115)
    assert said[:103] == [1] * 103
    assert said[103:] == [UNCLEAR] * 15


def test_neutral_outlasts_a_pause_and_an_emotion_does_not() -> None:
    pause = 100 * HOP
    for before, after in ((CALM, [1] * 5), (SURE, [UNCLEAR] * 5)):
        tracker = LabelTracker(CONFIG, abstain_below=0.5, labels=("angry", "neutral", "sad"))
        for start in range(0, 5 * HOP, HOP):
            tracker.push(start, start + HOP, before)
        said = [
            tracker.push(start, start + HOP, FAINT).said()
            for start in range(pause, pause + 5 * HOP, HOP)
        ]
        assert said == after
        # What is believed after the pause takes over as ever.
        for start in range(pause + 5 * HOP, pause + 9 * HOP, HOP):
            decision = tracker.push(start, start + HOP, SURE)
        assert decision.said() == 0


def test_an_emotion_that_is_believed_ends_neutral_at_once() -> None:
    assert resting(*[CALM] * 3, *[SURE] * 3) == [1] * 5 + [0]


@pytest.mark.parametrize("seed", range(8))
def test_what_is_steady_is_the_same_looked_at_together(seed: int) -> None:
    draw = np.random.default_rng(seed)
    config = SmoothingConfig(span_ms=200, min_dwell_ms=60)
    names = ("angry", "neutral", "sad")
    alone, together = (LabelTracker(config, 0.4, names) for _ in range(2))
    start, taken = 0, 0
    for _ in range(300):
        # Stretches with a strongest class, some of them in doubt, and pauses short and long.
        start += 320 * int(draw.choice((0, 0, 0, 3, 12)))
        count, leaning = int(draw.integers(1, 8)), draw.dirichlet((0.4, 0.4, 0.4))
        posteriors = draw.dirichlet(40 * leaning + 0.5, count)
        starts = start + 320 * np.arange(count)
        expected = [
            alone.push(at, at + 320, row)
            for at, row in zip(starts.tolist(), posteriors.tolist(), strict=True)
        ]
        steady = together.push_steady(starts, 320, posteriors)
        taken += steady is not None
        assert (
            [steady] * count
            if steady is not None
            else [
                together.push(at, at + 320, row)
                for at, row in zip(starts.tolist(), posteriors.tolist(), strict=True)
            ]
        ) == expected
        start = int(starts[-1]) + 320
    assert 30 < taken < 270
