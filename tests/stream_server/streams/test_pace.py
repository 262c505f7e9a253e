from __future__ import annotations

import pytest

from stream_server.streams.pace import Pace


def warnings(
    share: float, rate_hz: int = 8000, *, seconds: int = 40, is_live: bool = True
) -> list[tuple[str, str]]:
    """Return the warnings for audio that comes evenly at ``share`` times real time."""
    pace = Pace(is_live=is_live, rate_hz=rate_hz, started_s=0.0)
    chunks = [number / 50 for number in range(1, 50 * seconds)]
    return [found for at_s in chunks if (found := pace.take(share * at_s, at_s)) is not None]


@pytest.mark.parametrize(
    ("told_hz", "real_hz"),
    [(8000, 16_000), (16_000, 24_000), (8000, 48_000), (16_000, 44_100), (8000, 24_000)],
)
def test_a_higher_rate_than_told_is_named_and_no_recording_is_spoken_of(told_hz: int, real_hz: int):
    ((code, message),) = warnings(real_hz / told_hz, told_hz)
    assert code == "faster_than_real_time"
    assert f"the {told_hz} Hz that were told; likely its rate is {real_hz} Hz" in message
    assert "live" not in message


@pytest.mark.parametrize(
    ("told_hz", "real_hz"), [(16_000, 8000), (48_000, 16_000), (48_000, 44_100)]
)
def test_a_lower_rate_than_told_is_named(told_hz: int, real_hz: int):
    ((code, message),) = warnings(real_hz / told_hz, told_hz)
    assert code == "clock_drift"
    assert f"likely its rate is {real_hz} Hz" in message


def test_twice_and_half_may_be_channels_too():
    assert "two channels or samples of twice the size" in warnings(2.0)[0][1]
    assert "one channel or samples of half the size" in warnings(0.5, 16_000)[0][1]


@pytest.mark.parametrize("share", [0.98, 1.0, 1.02])
def test_a_clock_that_is_a_little_off_is_not_warned_of(share: float):
    assert warnings(share) == []


def test_a_recording_is_told_to_say_so_and_not_warned_once_it_does():
    ((code, message),) = warnings(100.0)
    assert code == "faster_than_real_time"
    assert "send 'live': false" in message
    assert warnings(100.0, is_live=False) == warnings(0.5, is_live=False) == []


def test_audio_that_was_late_and_audio_with_pauses_is_not_of_another_rate():
    pace = Pace(is_live=True, rate_hz=16_000, started_s=0.0)
    received_s, found = 0.0, []
    for number in range(1, 50 * 60):
        at_s = number / 50
        # Sent only while somebody speaks, 1.3 s of every 2; a stall of a second is caught up.
        if at_s % 2 < 1.3 and not 20 < at_s < 21:
            received_s += 1.02 if at_s == 21.02 else 0.02
            found.append(pace.take(received_s, at_s))
    assert not any(found)
