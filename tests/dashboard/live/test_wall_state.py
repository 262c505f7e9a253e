"""What the wall knows of streams, without sockets."""

from __future__ import annotations

import math
from dataclasses import replace

import msgspec
import pytest

from dashboard.config import WallConfig
from dashboard.live.tiles import Tile
from dashboard.live.wall_state import WallState
from tests.support.results import (
    make_alert,
    make_closed,
    make_gap,
    make_opened,
    make_point,
    make_points,
    make_segment,
)

CONFIG = WallConfig(weights={"angry": 1.0, "sad": 0.5}, memory_s=1.0)


def wall(config: WallConfig = CONFIG, *results) -> WallState:
    state = WallState(config)
    state.feed([make_opened(), *results])
    return state


def tile_of(state: WallState, stream_id: str = "s1") -> Tile:
    tile = state.tile(stream_id)
    assert tile is not None
    return tile


def test_a_tile_tells_how_a_stream_stands():
    state = wall(
        CONFIG, make_segment(0.0, 0.5), make_point(0.0, 0.5, angry=0.75), make_alert(at_s=0.5)
    )
    tile = tile_of(state)
    assert (tile.name, tile.roles, tile.duration_s) == ("a call", ["customer"], 0.5)
    (channel,) = tile.channels
    assert (channel.label, channel.confidence, channel.since_s) == ("angry", 0.75, 0.0)
    assert channel.speaking
    (alert,) = tile.alerts
    assert (alert.rule, alert.severity, alert.acknowledged) == (
        "customer stays angry",
        "critical",
        False,
    )


def test_silence_keeps_the_last_label():
    state = wall(CONFIG, make_point(0.0, 0.5, angry=0.75), make_gap(0.5, 3.0))
    (channel,) = tile_of(state).channels
    assert (channel.label, channel.speaking) == ("angry", False)
    assert tile_of(state).duration_s == 3.0


def test_a_silence_that_comes_late_does_not_end_speech():
    """The gap before a point may be published with it, or after it."""
    state = wall(CONFIG, make_point(1.0, 1.5), make_gap(0.0, 1.0))
    assert tile_of(state).channels[0].speaking


def test_the_worst_is_an_average_over_the_recent_past():
    points = list(make_points([1.0, 1.0]))
    worst = tile_of(wall(CONFIG, *points)).worst
    assert worst == pytest.approx(1 - math.exp(-1.0), abs=1e-3)
    later = wall(CONFIG, *points, make_gap(1.0, 2.0))
    assert tile_of(later).worst == pytest.approx(worst * math.exp(-1.0), abs=1e-3)


def test_emotions_weigh_as_the_settings_say():
    sad = tile_of(wall(CONFIG, make_point(0.0, 10.0, sad=1.0))).worst
    angry = tile_of(wall(CONFIG, make_point(0.0, 10.0, angry=1.0))).worst
    happy = tile_of(wall(CONFIG, make_point(0.0, 10.0, happy=1.0))).worst
    assert (sad, angry, happy) == pytest.approx((0.5, 1.0, 0.0), abs=1e-3)


def test_an_open_alert_comes_before_any_mood_until_somebody_deals_with_it():
    state = wall(CONFIG, make_alert(alert_id="a1"))
    assert tile_of(state).worst == 2.0
    assert state.acknowledge("a1") == {"s1"}
    assert tile_of(state).worst == 0.0
    assert tile_of(state).alerts[0].acknowledged
    assert state.acknowledge("another") == set()


def test_a_cleared_alert_stays_until_somebody_acknowledges_it():
    state = wall(CONFIG, make_alert(), make_alert("cleared", at_s=9.0, seq=2))
    (alert,) = tile_of(state).alerts
    assert (alert.cleared_s, alert.acknowledged) == (9.0, False)
    assert tile_of(state).worst == 1.0  # Half of what it was.
    assert state.acknowledge("s1-1") == {"s1"}
    assert (tile_of(state).alerts, tile_of(state).worst) == ([], 0.0)


def test_an_acknowledged_alert_is_gone_once_it_is_cleared():
    state = wall(CONFIG, make_alert())
    state.acknowledge("s1-1")
    state.feed([make_alert("cleared", at_s=9.0, seq=2)])
    assert tile_of(state).alerts == []


def test_a_tile_has_one_alert_for_each_rule_and_counts_the_others():
    state = wall(CONFIG)
    for number in range(5):
        alert_id, at_s = f"a{number}", 10.0 * number
        state.feed([make_alert(alert_id=alert_id, at_s=at_s)])
        if number < 4:
            state.feed([make_alert("cleared", alert_id=alert_id, at_s=at_s + 5)])
    state.feed([make_alert(alert_id="other", rule="driver is upset", at_s=60.0)])
    first, other = tile_of(state).alerts
    assert (first.alert_id, first.cleared_s, first.times) == ("a4", None, 5)
    assert (other.alert_id, other.times) == ("other", 1)
    state.acknowledge("a4")
    first, _ = tile_of(state).alerts
    assert (first.alert_id, first.times) == ("a3", 4)


def test_the_worst_stream_comes_first():
    state = WallState(CONFIG)
    state.feed([make_opened("a"), make_opened("b"), make_opened("c")])
    state.feed([make_point(0.0, 1.0, angry=0.2, stream_id="a")])
    state.feed([make_point(0.0, 1.0, angry=0.9, stream_id="b")])
    assert state.stream_ids() == ["b", "a", "c"]
    assert [tile.stream_id for tile in state.tiles()] == ["b", "a", "c"]


def test_the_trend_has_a_value_every_five_seconds():
    angry = [0.9] * 10 + [0.1] * 10 + [0.8] * 2
    trend = tile_of(wall(CONFIG, *make_points(angry))).channels[0].trend
    assert trend == [(0.0, "angry", 0.9), (5.0, "neutral", 0.9)]


def test_what_is_unclear_brings_no_call_to_the_front():
    points = [msgspec.structs.replace(each, label=None) for each in make_points([0.45] * 20)]
    tile = tile_of(wall(CONFIG, *points))
    (channel, *_) = tile.channels
    assert (channel.label, channel.confidence, channel.speaking) == (None, 0.55, True)
    assert {label for _, label, _ in channel.trend} == {None}
    assert tile.worst == 0


def test_the_trend_leaves_silence_out_and_forgets():
    points = [make_point(start, angry=1.0) for start in (0.0, 20.0, 199.0)]
    trend = tile_of(wall(CONFIG, *points)).channels[0].trend
    assert [start for start, *_ in trend] == [20.0]


def test_a_long_stream_takes_no_more_memory():
    state = wall(CONFIG, *make_points([0.5] * 2000))
    assert len(tile_of(state).channels[0].trend) <= 36


def test_a_closed_stream_is_gone_but_not_forgotten_at_once():
    state = wall()
    assert "s1" in state
    assert state.feed([make_closed()]) == {"s1"}
    assert "s1" not in state
    assert state.is_recent("s1")
    assert state.tile("s1") is None
    assert len(state) == 0


def test_streams_that_began_before_are_not_known():
    state = WallState(CONFIG)
    assert state.feed([make_point()]) == set()


def test_time_by_label_is_summed():
    state = wall(CONFIG, *make_points([0.9, 0.9, 0.1]))
    assert state.label_s("s1") == {"angry": 1.0, "neutral": 0.5}
    assert state.label_s("another") == {}


def test_texts_are_made_anew_only_after_a_change():
    state = wall(CONFIG, make_point(angry=0.9))
    text = state.changed_text("s1", with_trend=False)
    assert state.changed_text("s1", with_trend=False) is text
    assert b"trend" not in text
    assert b"trend" in state.changed_text("s1", with_trend=True)
    state.feed([make_point(0.5, angry=0.1, seq=2)])
    assert state.changed_text("s1", with_trend=False) is not text
    assert msgspec.json.decode(state.whole_text("s1"), type=Tile) == tile_of(state)


def test_a_model_with_other_labels_is_shown_too():
    opened = msgspec.structs.replace(make_opened(), labels=("angry", "calm"))
    state = WallState(replace(CONFIG, weights={}))
    state.feed([opened, make_point(0.0, 1.0, angry=0.4)])
    assert tile_of(state).worst == 0.0
