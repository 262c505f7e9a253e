from __future__ import annotations

import dataclasses

import pytest

from ser_engine.errors import ConfigError
from stream_server.alerts import AlertRule
from stream_server.alerts.replay import Replay, Timeline, replay, timelines_of
from stream_server.wire.results import Measures, in_envelope
from tests.support.results import LABELS, make_measures, make_opened, make_points

RULE = AlertRule(
    name="angry", labels=("angry",), roles=("customer",), threshold=0.6, hold_s=2.0, cooldown_s=0.0
)


def make_timeline(values: list[float], *, has_roles: bool = True) -> Timeline:
    points = tuple(make_points(values))
    return Timeline("a call", LABELS, points, len(values) * 0.5, has_roles)


def test_alerts_are_counted_with_where_they_were():
    result = replay([RULE], [make_timeline([0.1, *[0.8] * 6, 0.1, 0.1, *[0.8] * 5])])
    (count,) = result.rules
    assert [(one.since_s, one.raised_s, one.cleared_s) for one in count.alerts] == [
        (0.5, 2.5, 4.0),
        (4.5, 6.5, 7.0),
    ]
    assert count.alert_s == 2.0
    assert result.duration_s == 7.0
    assert result.per_hour(count) == pytest.approx(2 * 3600 / 7)
    assert {one.timeline for one in count.alerts} == {"a call"}


def test_timelines_are_counted_together():
    result = replay([RULE], [make_timeline([0.8] * 8), make_timeline([0.1] * 8)])
    assert len(result.rules[0].alerts) == 1
    assert result.duration_s == 8.0


def test_measures_come_where_they_came():
    rule = dataclasses.replace(RULE, measures={"interrupted_lately": 2})
    points = list(make_points([0.9] * 30))
    figures = make_measures(interrupted_lately=2)
    measures = in_envelope(Measures, figures, stream_id="s1", seq=99)
    late = [*points[:20], measures, *points[20:]]
    for results, raised in ((points, []), (late, [10.5])):
        (timeline,) = timelines_of([make_opened(), *results])
        (count,) = replay((rule,), (timeline,)).rules
        assert [alert.raised_s for alert in count.alerts] == raised


def test_where_nobody_said_who_speaks_every_rule_is_tried():
    rule = AlertRule(name="driver", labels=("angry",), roles=("driver",), hold_s=0)
    timeline = make_timeline([0.8])
    assert replay([rule], [timeline]).rules[0].alerts == ()
    unknown = make_timeline([0.8], has_roles=False)
    assert len(replay([rule], [unknown]).rules[0].alerts) == 1


def test_a_label_the_timeline_lacks_is_an_error():
    with pytest.raises(ConfigError, match="bored in 'b'"):
        replay([AlertRule(name="b", labels=("bored",))], [make_timeline([0.1])])


def test_no_time_is_no_rate():
    result = replay([RULE], [])
    assert isinstance(result, Replay)
    assert result.per_hour(result.rules[0]) == 0.0
