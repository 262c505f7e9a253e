from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ser_engine.resample import Resampler, to_clock
from ser_engine.types import FloatArray

RATES_HZ = (8000, 11_025, 16_000, 22_050, 32_000, 44_100, 48_000)


def run(resampler: Resampler, audio: FloatArray, sizes: list[int]) -> FloatArray:
    parts, at = [], 0
    for size in [*sizes, len(audio)]:
        parts.append(resampler.push(audio[at : at + size]))
        at += size
    return np.concatenate([*parts, resampler.finish()])


def tone(rate_hz: int, num_samples: int, channels: int = 1) -> FloatArray:
    time = np.arange(num_samples) / rate_hz
    columns = [0.5 * np.sin(2 * np.pi * 200 * (1 + index) * time) for index in range(channels)]
    return np.stack(columns, axis=1).astype(np.float32)


@given(
    rate_hz=st.one_of(st.sampled_from(RATES_HZ), st.integers(8000, 48_000)),
    stretches=st.lists(st.integers(0, 6000), min_size=1, max_size=4),
    gap=st.integers(0, 5000),
)
def test_positions_never_drift(rate_hz: int, stretches: list[int], gap: int):
    resampler = Resampler(rate_hz, 1)
    at = 0
    for length in stretches:
        heard = run(resampler, tone(rate_hz, length), [length // 3])
        assert len(heard) == to_clock(at + length, rate_hz) - to_clock(at, rate_hz)
        at += length + gap
        resampler.begin(at)


@pytest.mark.parametrize("rate_hz", RATES_HZ)
@given(sizes=st.lists(st.integers(0, 900), max_size=12))
def test_chunking_does_not_matter(rate_hz: int, sizes: list[int]):
    audio = np.random.default_rng(0).uniform(-1, 1, (9000, 2)).astype(np.float32)
    whole = run(Resampler(rate_hz, 2), audio, [])
    np.testing.assert_array_equal(run(Resampler(rate_hz, 2), audio, sizes), whole)


@pytest.mark.parametrize("rate_hz", RATES_HZ)
def test_audio_stays_where_it_was(rate_hz: int):
    heard = run(Resampler(rate_hz, 2), tone(rate_hz, rate_hz, 2), [1000, 3000])
    expected = tone(16_000, 16_000, 2)
    # The very ends are next to a silence that the filter hears.
    np.testing.assert_allclose(heard[400:-400], expected[400:-400], atol=2e-3)


def test_16_khz_passes_untouched():
    resampler, audio = Resampler(16_000, 1), tone(16_000, 1000)
    assert resampler.is_free
    assert resampler.push(audio) is audio
    assert len(resampler.finish()) == 0


@pytest.mark.parametrize(("rate_hz", "longest_ms"), [(8000, 62), (44_100, 23), (48_000, 21)])
def test_little_is_held_back(rate_hz: int, longest_ms: float):
    resampler, given_samples = Resampler(rate_hz, 1), 0
    block = rate_hz // 100
    for number in range(1, 200):
        given_samples += len(resampler.push(tone(rate_hz, block)))
        lag = to_clock(number * block, rate_hz) - given_samples
        assert lag <= longest_ms * 16
