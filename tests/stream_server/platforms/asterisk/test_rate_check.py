from __future__ import annotations

import pytest

from stream_server.platforms.asterisk.call import RateCheck


def warnings(frames: list[tuple[float, int]]) -> list[str]:
    check = RateCheck(8000)
    return [text for at_s, samples in frames if (text := check.take(samples, at_s))]


def regular(samples: int, seconds: int = 30) -> list[tuple[float, int]]:
    return [(number / 50, samples) for number in range(50 * seconds)]


def test_mu_law_in_frames_of_16_bits_is_named_once():
    (text,) = warnings(regular(80))
    assert "0.50 times the 8000 Hz" in text
    assert "8 kHz mu-law" in text
    assert "16-bit" in text


def test_twice_the_rate_is_named():
    (text,) = warnings(regular(320))
    assert "twice the rate" in text


@pytest.mark.parametrize("gap_s", [0.0, 3.0, 20.0])
def test_a_call_with_pauses_and_bursts_is_not_warned_of(gap_s: float):
    frames = regular(160)
    paused = [(at_s + gap_s * (at_s > 4), samples) for at_s, samples in frames]
    # A stall: what was sent in 400 ms comes at once.
    late = [(max(at_s, 7.0) if 6.6 < at_s < 7.0 else at_s, count) for at_s, count in paused]
    assert warnings(late) == []
