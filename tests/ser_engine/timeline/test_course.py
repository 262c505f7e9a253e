from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET

from ser_engine.schema import Gap, GapReason, Segment
from ser_engine.timeline.course import Course, whole_of

RATE = 16_000


def tiles_of(course: str) -> list[Segment | Gap]:
    """Return a tile a second: ``a``/``n`` labels, ``?`` unclear, ``.`` silent, ``x`` lost, ``l`` of
    somebody who is left out.
    """
    labels = {"a": "angry", "n": "neutral", "?": None}
    reasons: dict[str, GapReason] = {".": "silence", "x": "lost", "l": "left_out"}
    tiles: list[Segment | Gap] = []
    for second, what in enumerate(course):
        start, end = second * RATE, (second + 1) * RATE
        if what in reasons:
            reason = reasons[what]
            tile: Segment | Gap = Gap(start_sample=start, end_sample=end, reason=reason, final=True)
        else:
            tile = Segment(
                start_sample=start,
                end_sample=end,
                label=labels[what],
                confidence=0.6,
                final=True,
            )
        tiles.append(tile)
    return tiles


def test_shares_are_those_of_the_speech_and_silence_one_of_all_time() -> None:
    whole = whole_of(tiles_of("aaan??..xx"))
    assert whole is not None
    shares = whole.shares
    assert shares.left_out is UNSET
    assert (shares.duration_s, shares.speech_s) == (10, 6)
    assert shares.labels == {"angry": 0.5, "neutral": pytest.approx(1 / 6, abs=1e-6)}
    assert shares.unclear == pytest.approx(1 / 3, abs=1e-6)
    assert (shares.silence, shares.missing) == (0.2, 0.2)


def test_time_of_somebody_who_is_left_out_is_no_loss() -> None:
    whole = whole_of(tiles_of("aall.x"))
    assert whole is not None
    shares = whole.shares
    assert shares.left_out == pytest.approx(1 / 3, abs=1e-6)
    assert (shares.speech_s, shares.labels) == (2.0, {"angry": 1.0})
    assert shares.missing == pytest.approx(1 / 6, abs=1e-6)


def test_the_course_is_told_by_quarters_and_as_a_trend() -> None:
    whole = whole_of(tiles_of("aaann.nn"))
    assert whole is not None
    assert [quarter.labels.get("angry", 0) for quarter in whole.quarters] == [1, 0.5, 0, 0]
    assert [quarter.silence for quarter in whole.quarters] == [0, 0, 0.5, 0]
    assert whole.trend == {"angry": -0.5, "neutral": 0.5}


def test_a_quarter_without_speech_has_no_trend() -> None:
    whole = whole_of(tiles_of("..aannna"))
    assert whole is not None
    assert whole.trend == {}


def test_nothing_has_no_whole() -> None:
    assert Course().whole() is None


@given(st.text("an?.xl", min_size=1, max_size=60))
def test_nothing_is_left_out_or_counted_twice(course: str) -> None:
    whole = whole_of(reversed(tiles_of(course)))
    assert whole is not None
    for shares in (whole.shares, *whole.quarters):
        assert sum(shares.labels.values()) + shares.unclear == pytest.approx(
            1.0 if shares.speech_s else 0.0, abs=1e-5
        )
        speech_share = shares.speech_s / shares.duration_s
        without = shares.silence + shares.missing + (shares.left_out or 0.0)
        assert speech_share + without == pytest.approx(1, abs=1e-5)
    assert sum(quarter.duration_s for quarter in whole.quarters) == pytest.approx(len(course))
