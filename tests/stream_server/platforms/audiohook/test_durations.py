from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream_server.platforms.audiohook.messages import (
    MAX_DURATION_NS,
    NS_PER_S,
    format_duration,
    parse_duration,
    ticks_of,
    to_duration,
)


@pytest.mark.parametrize(
    ("text", "expected_ns"),
    [
        ("PT0S", 0),
        ("PT1.2S", 1_200_000_000),
        ("PT.5S", 500_000_000),
        ("PT5.S", 5 * NS_PER_S),
        ("PT0.000125S", 125_000),
        ("PT0,2S", 200_000_000),
        ("PT0.6000000000000001S", 600_000_000),
        ("PT1M2.5S", 62_500_000_000),
        ("PT1.5H", 5400 * NS_PER_S),
        ("PT2H30M", 9000 * NS_PER_S),
        ("P1DT1H", 25 * 3600 * NS_PER_S),
        ("P7D", MAX_DURATION_NS),
        # To the nearest nanosecond, halves up.
        ("PT0.0000000004S", 0),
        ("PT0.0000000005S", 1),
    ],
)
def test_what_is_a_duration(text: str, expected_ns: int):
    assert parse_duration(text) == expected_ns


@pytest.mark.parametrize(
    "text",
    [
        *("", "P", "PT", "PTS", "PT.S", "1.2", "PT1.2", "T1S", "pt1s", "PT-1S", "PT+1S", "PT1e3S"),
        *("PT1.5M2S", "PT1S1M", "PT1S ", " PT1S", "PT1S\n", "P1W", "P1M", "PT1_0S", "PT\uff11S"),
        *("PT604800.000000001S", "P8D", "PT" + "9" * 15 + "S", "PT" + "1" * 16 + "S"),
    ],
)
def test_what_is_none(text: str):
    with pytest.raises(ValueError, match="got a duration"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("duration_ns", "expected"),
    [(0, "PT0S"), (NS_PER_S, "PT1S"), (1_200_000_000, "PT1.2S"), (62_500, "PT0.0000625S")],
)
def test_how_durations_are_written(duration_ns: int, expected: str):
    assert format_duration(duration_ns) == expected


@given(st.integers(0, MAX_DURATION_NS))
def test_what_is_written_is_read_as_it_was(duration_ns: int):
    assert parse_duration(format_duration(duration_ns)) == duration_ns


@given(st.integers(0, 7 * 24 * 3600 * 8000), st.sampled_from([8000, 11_025, 16_000, 48_000]))
def test_a_position_in_samples_survives(ticks: int, rate_hz: int):
    assert ticks_of(to_duration(ticks, rate_hz), rate_hz) == ticks


@given(st.text())
def test_no_text_makes_it_fail_otherwise(text: str):
    try:
        duration_ns = parse_duration(text)
    except ValueError:
        return
    assert 0 <= duration_ns <= MAX_DURATION_NS
