from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from ser_engine.errors import ConfigError
from ser_engine.frames import SAMPLE_RATE_HZ
from ser_engine.schema import Alert, LastingState
from stream_server.alerts import DEFAULT_RULES, AlertRule
from stream_server.alerts.evaluator import (
    LONGEST_PAUSE_S,
    AlertEvaluator,
    Cooldown,
    check_rules,
)
from stream_server.wire.results import Point
from tests.support.results import LABELS, make_measures, make_point, make_points


def make_rule(**changes: Any) -> AlertRule:
    settings: dict[str, Any] = {
        "name": "angry",
        "labels": ("angry",),
        "threshold": 0.6,
        "clear_threshold": 0.5,
        "hold_s": 2.0,
        "cooldown_s": 5.0,
    }
    return AlertRule(**(settings | changes))


def run(points: Iterable[Point], *rules: AlertRule, finish: bool = False) -> list[Alert]:
    evaluator = AlertEvaluator(rules or (make_rule(),), "s1", LABELS)
    changes = [change for point in points for change in evaluator.feed(point)]
    return changes + (evaluator.finish() if finish else [])


def brief(changes: Iterable[Alert]) -> list[tuple[str, float]]:
    return [(change.state, change.at_sample / SAMPLE_RATE_HZ) for change in changes]


def test_an_alert_is_raised_when_the_rule_held_long_enough():
    (change,) = run(make_points([0.1, 0.8, 0.8, 0.8, 0.9, 0.9]))
    assert (change.state, change.rule, change.severity) == ("raised", "angry", "warning")
    assert (change.channel, change.role, change.labels) == (0, "customer", ("angry",))
    assert change.since_sample == SAMPLE_RATE_HZ // 2
    assert change.at_sample == 5 * SAMPLE_RATE_HZ // 2
    assert change.posterior == pytest.approx(0.9)


def test_a_rule_with_measures_waits_until_they_are_met():
    rule = make_rule(measures={"interrupted_lately": 2})
    evaluator = AlertEvaluator((rule,), "s1", LABELS)
    points = list(make_points([0.8] * 8))
    assert not [change for point in points[:6] for change in evaluator.feed(point)]
    evaluator.measure(make_measures(interrupted_lately=1))
    assert not evaluator.feed(points[6])
    evaluator.measure(make_measures(interrupted_lately=2))
    (change,) = evaluator.feed(points[7])
    # It has held all the while.
    assert (change.state, change.since_sample) == ("raised", 0)
    # It says what they were, then and when it ends.
    evaluator.measure(make_measures(interrupted_lately=3))
    (end,) = evaluator.finish()
    assert [each.measures for each in (change, end)] == [
        {"interrupted_lately": 2.0},
        {"interrupted_lately": 3.0},
    ]


def test_a_rule_with_a_measure_that_is_not_known_is_refused():
    with pytest.raises(ConfigError, match="got the measures shouting, expected some of talk_s"):
        make_rule(measures={"shouting": 1})


def test_it_is_cleared_below_the_lower_threshold():
    changes = run(make_points([0.8] * 6 + [0.55] * 4 + [0.4]))
    assert brief(changes) == [("raised", 2.0), ("cleared", 5.5)]
    assert changes[0].alert_id == changes[1].alert_id == "s1-1"
    assert changes[1].since_sample == 0
    assert changes[1].posterior == pytest.approx(0.4)


def test_a_value_between_the_thresholds_goes_on_but_does_not_begin():
    assert brief(run(make_points([0.8, 0.55, 0.55, 0.55]))) == [("raised", 2.0)]
    assert run(make_points([0.55] * 20)) == []


def test_falling_below_before_the_time_is_up_begins_anew():
    assert brief(run(make_points([0.8, 0.8, 0.8, 0.4, 0.8, 0.8, 0.8, 0.8]))) == [("raised", 4.0)]


def test_posteriors_of_all_labels_are_added():
    rule = make_rule(labels=("angry", "sad"), hold_s=0)
    assert run([make_point(angry=0.3, sad=0.2)], rule) == []
    (change,) = run([make_point(angry=0.4, sad=0.2)], rule)
    assert change.posterior == pytest.approx(0.6)


def test_only_the_roles_of_the_rule_are_watched():
    rule = make_rule(roles=("customer", "caller"), hold_s=0)
    assert run([make_point(angry=0.9, role="agent")], rule) == []
    assert len(run([make_point(angry=0.9, role="caller")], rule)) == 1


def test_channels_and_rules_do_not_mix():
    rules = (make_rule(name="a", hold_s=1.0), make_rule(name="b", hold_s=2.0))
    points = [
        point
        for number in range(4)
        for point in (
            make_point(number * 0.5, angry=0.9, channel=0),
            make_point(number * 0.5, angry=0.9 if number else 0.1, channel=1),
        )
    ]
    changes = run(points, *rules)
    found = {(change.rule, change.channel): change.at_sample for change in changes}
    assert found == {("a", 0): 16_000, ("a", 1): 24_000, ("b", 0): 32_000}
    assert len({change.alert_id for change in changes}) == 3


def test_silence_within_a_point_does_not_count():
    points = [make_point(number * 0.5, angry=0.9, speech_share=0.5) for number in range(10)]
    assert brief(run(points)) == [("raised", 4.0)]


def test_a_short_pause_neither_counts_nor_resets():
    pause_s = float(LONGEST_PAUSE_S)
    points = [*make_points([0.8, 0.8]), *make_points([0.8, 0.8], start_s=1.0 + pause_s)]
    assert brief(run(points)) == [("raised", 2.0 + pause_s)]


def test_a_long_pause_resets():
    pause_s = LONGEST_PAUSE_S + 0.5
    points = [*make_points([0.8, 0.8, 0.8]), *make_points([0.8] * 4, start_s=1.5 + pause_s)]
    assert brief(run(points)) == [("raised", 3.5 + pause_s)]


def test_an_alert_lasts_through_any_silence():
    points = [*make_points([0.8] * 4), *make_points([0.8] * 8 + [0.1], start_s=600.0)]
    assert brief(run(points)) == [("raised", 2.0), ("cleared", 604.5)]


def test_it_is_not_raised_again_before_the_cooldown_is_over():
    values = [0.8] * 4 + [0.1] + [0.8] * 20
    assert brief(run(make_points(values))) == [("raised", 2.0), ("cleared", 2.5), ("raised", 7.5)]


def test_what_was_cleared_in_the_stream_that_is_continued_cools_down_here():
    points = list(make_points([0.8] * 12))
    cooldown = Cooldown("angry", 0, 4 * SAMPLE_RATE_HZ)
    # It is told by a database, after the first point or before it.
    for told_after in (0, 1):
        evaluator = AlertEvaluator((make_rule(),), "s2", LABELS)
        changes = [change for point in points[:told_after] for change in evaluator.feed(point)]
        evaluator.cool([cooldown, Cooldown("another", 0, 10**9), Cooldown("angry", 1, 10**9)])
        changes += [change for point in points[told_after:] for change in evaluator.feed(point)]
        assert brief(changes) == [("raised", 4.0)]


def test_the_end_of_the_stream_clears():
    changes = run(make_points([0.8] * 5), finish=True)
    assert brief(changes) == [("raised", 2.0), ("cleared", 2.5)]
    assert run(make_points([0.8] * 3), finish=True) == []


def test_the_number_of_alerts_is_counted():
    evaluator = AlertEvaluator((make_rule(hold_s=0, cooldown_s=0),), "s1", LABELS)
    for point in make_points([0.8, 0.1, 0.8]):
        evaluator.feed(point)
    assert evaluator.num_raised == 2


def test_labels_the_model_lacks_are_one_error():
    rules = (make_rule(labels=("angry", "bored")), make_rule(name="b", labels=("tired",)))
    with pytest.raises(ConfigError) as caught:
        check_rules(rules, LABELS)
    message = str(caught.value)
    assert "bored in 'angry'; tired in 'b'" in message
    assert "angry, happy, neutral, sad" in message
    check_rules((make_rule(),), LABELS)


def test_the_default_rules_fit_the_nine_classes():
    nine = "angry disgusted fearful happy neutral other sad surprised unknown".split()
    check_rules(DEFAULT_RULES, nine)


def test_a_label_the_model_lacks_is_never_heard():
    assert run(make_points([0.9] * 10), make_rule(labels=("bored",))) == []


def test_an_alert_says_when_and_by_which_rule():
    (change,) = run(make_points([0.8] * 4))
    assert change.alert_id == "s1-1"
    assert (change.since_s, change.at_s) == (0.0, 2.0)
    assert (change.state, change.rule, change.severity) == ("raised", "angry", "warning")


def test_an_alert_says_how_the_channel_had_been():
    points = make_points([0.1] * 40 + [0.9] * 60)
    labelled = [
        replace(one, label="angry" if one.posteriors[0] > 0.5 else "neutral") for one in points
    ]
    raised, cleared = run(labelled, finish=True)
    # 2 s of anger are an alert, but not yet what the last half minute was like.
    assert raised.lasting == LastingState(label="neutral", since_s=0.0)
    assert isinstance(cleared.lasting, LastingState)
    assert (cleared.lasting.label, cleared.lasting.before) == ("angry", "neutral")
    assert cleared.lasting.since_s == 20.0


@st.composite
def timelines(draw: st.DrawFn) -> list[Point]:
    """Points of one channel in order: steps of 20 ms, pauses, values on a coarse grid."""
    points, at = [], 0
    for _ in range(draw(st.integers(0, 40))):
        at += draw(st.sampled_from([0, 0, 0, 0, 25, 50 * LONGEST_PAUSE_S, 50 * 16]))
        length = draw(st.integers(1, 100))
        angry = draw(st.sampled_from([0.0, 0.4, 0.5, 0.55, 0.6, 0.9]))
        points.append(make_point(at / 50, (at + length) / 50, angry=angry))
        at += length
    return points


RULES = st.builds(
    make_rule,
    hold_s=st.sampled_from([0.0, 0.5, 2.0, 6.0]),
    cooldown_s=st.sampled_from([0.0, 1.0, 10.0]),
    clear_threshold=st.sampled_from([None, 0.0, 0.3, 0.5, 0.6]),
)


@given(timelines(), RULES)
def test_raised_and_cleared_take_turns_and_the_end_clears(points: list[Point], rule: AlertRule):
    states = [change.state for change in run(points, rule, finish=True)]
    assert states == ["raised", "cleared"] * (len(states) // 2)


@given(timelines(), RULES)
def test_hold_and_cooldown_are_kept(points: list[Point], rule: AlertRule):
    cleared_at = None
    for change in run(points, rule, finish=True):
        if change.state == "cleared":
            cleared_at = change.at_sample
            continue
        span = (change.since_sample, change.at_sample)
        held = [one for one in points if span[0] <= one.start_sample and one.end_sample <= span[1]]
        speech_s = sum(one.end_sample - one.start_sample for one in held) / SAMPLE_RATE_HZ
        assert speech_s >= rule.hold_s
        assert all(one.posteriors[0] >= rule.clear_below for one in held)
        assert held[0].posteriors[0] >= rule.threshold
        if cleared_at is not None:
            assert change.at_sample >= cleared_at + rule.cooldown_s * SAMPLE_RATE_HZ


@given(timelines(), RULES, st.data())
def test_how_a_span_is_cut_into_points_does_not_matter(
    points: list[Point], rule: AlertRule, data: st.DataObject
):
    """Finer points may tell of an alert earlier, within the coarse one, but of the same ones."""
    cut: list[Point] = []
    for point in points:
        frames = (point.end_sample - point.start_sample) // 320
        middle_s = point.start_s + data.draw(st.integers(0, frames)) / 50
        angry = point.posteriors[0]
        if point.start_s < middle_s < point.end_s:
            cut.append(make_point(point.start_s, middle_s, angry=angry))
            cut.append(make_point(middle_s, point.end_s, angry=angry))
        else:
            cut.append(point)
    whole, fine = run(points, rule, finish=True), run(cut, rule, finish=True)
    starts = {point.end_sample: point.start_sample for point in points}
    if rule.cooldown_s == 0:
        assert [(one.state, one.since_sample) for one in fine] == [
            (one.state, one.since_sample) for one in whole
        ]
        for coarse_change, fine_change in zip(whole, fine, strict=True):
            assert starts[coarse_change.at_sample] <= fine_change.at_sample
            assert fine_change.at_sample <= coarse_change.at_sample


@given(timelines(), RULES)
def test_other_channels_between_the_points_do_not_matter(points: list[Point], rule: AlertRule):
    alone = brief(run(points, rule))
    mixed: list[Point] = []
    for point in points:
        other = make_point(point.start_s, point.end_s, angry=0.9, channel=1)
        mixed += [other, point]
    changes = [change for change in run(mixed, rule) if change.channel == 0]
    assert brief(changes) == alone
