from __future__ import annotations

from collections.abc import Sequence

from stream_server.alerts import AlertRule
from stream_server.alerts.judgement import Judged, Precision, fit, outcome, precision_by_week
from stream_server.alerts.replay import Timeline
from tests.support.results import LABELS, STEP_S, make_points


def timeline(*angry: float) -> Timeline:
    return Timeline("s", LABELS, tuple(make_points(angry)), len(angry) * STEP_S, has_roles=True)


def test_the_emotion_fell_if_it_is_half_of_what_it_was():
    points = [0.8] * 20 + [0.3] * 20
    found = outcome(timeline(*points).points, [0], 10.0)
    assert found is not None
    assert (found.before, found.after, found.fell) == (0.8, 0.3, True)
    stayed = outcome(timeline(*[0.8] * 40).points, [0], 10.0)
    assert stayed is not None and not stayed.fell


def test_nothing_is_said_of_too_little_speech():
    assert outcome(timeline(*[0.8] * 22).points, [0], 10.0) is None


def test_precision_is_by_rule_and_week():
    monday = 1_795_996_800.0  # 2026-11-30
    found = precision_by_week(
        [("a", monday, "right"), ("a", monday - 1, "wrong"), ("a", monday + 9, None)]
    )
    assert found == [
        Precision(rule="a", week="2026-11-30", right=1, wrong=0, unjudged=1, precision=1.0),
        Precision(rule="a", week="2026-11-23", right=0, wrong=1, unjudged=0, precision=0.0),
    ]


def test_a_threshold_is_fitted_that_keeps_the_right_and_drops_the_wrong():
    rule = AlertRule(name="a", labels=("angry",), threshold=0.6, hold_s=4.0)
    judged: Sequence[tuple[Timeline, Sequence[Judged]]] = [
        (timeline(*[0.9] * 20), [Judged(0, 0.0, 10.0, is_right=True)]),
        (timeline(*[0.65] * 20), [Judged(0, 0.0, 10.0, is_right=False)]),
    ]
    fitted = fit(rule, judged)
    assert (fitted.before.right, fitted.before.wrong) == (1, 1)
    assert (fitted.after.right, fitted.after.wrong, fitted.after.right_lost) == (1, 0, 0)
    # The nearest that does it, and nothing else of the rule is changed.
    assert (fitted.fitted.threshold, fitted.fitted.hold_s) == (0.7, 4.0)


def test_the_least_values_of_measures_are_fitted_too():
    """Nothing but how often somebody was interrupted tells the right from the wrong."""
    rule = AlertRule(
        name="a",
        labels=("angry",),
        threshold=0.6,
        hold_s=4.0,
        measures={"interrupted_lately": 1, "rate_change": 0.1},
    )

    def alert(interrupted: float, *, is_right: bool) -> tuple[Timeline, list[Judged]]:
        figures = {"interrupted_lately": interrupted, "rate_change": 0.2}
        return timeline(*[0.8] * 20), [Judged(0, 0.0, 10.0, is_right, figures)]

    judged = [alert(5, is_right=True), alert(3, is_right=True), alert(2, is_right=False)]
    fitted = fit(rule, judged)
    assert (fitted.before.right, fitted.before.wrong) == (2, 1)
    assert (fitted.after.right, fitted.after.wrong, fitted.after.right_lost) == (2, 0, 0)
    assert fitted.fitted.measures == {"interrupted_lately": 3, "rate_change": 0.1}
    assert (fitted.fitted.threshold, fitted.fitted.hold_s) == (0.6, 4.0)
    # Of an alert of before figures were kept the emotion alone is known: it counts as met.
    judged.append((timeline(*[0.8] * 20), [Judged(0, 0.0, 10.0, is_right=False)]))
    again = fit(rule, judged)
    assert again.fitted.measures["interrupted_lately"] == 3
    assert (again.after.right, again.after.wrong) == (2, 1)


def test_a_rule_that_was_right_stays_as_it_is():
    rule = AlertRule(name="a", labels=("angry",), threshold=0.6, hold_s=4.0)
    judged = [(timeline(*[0.9] * 20), [Judged(0, 0.0, 10.0, is_right=True)])]
    assert fit(rule, judged).fitted == rule
