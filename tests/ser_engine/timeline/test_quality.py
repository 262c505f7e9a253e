from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ser_engine.config import VadConfig
from ser_engine.resample import Resampler
from ser_engine.timeline import EverythingIsSpeech, make_detector
from ser_engine.timeline.quality import QualityMonitor
from ser_engine.types import FloatArray
from tests.support.fake_engine import LevelDetector

if TYPE_CHECKING:
    from tests.conftest import SpeechClip

RATE = 16_000


def noise(seconds: float, level: float, seed: int = 0) -> FloatArray:
    values = np.random.default_rng(seed).standard_normal(int(seconds * RATE)) * level
    return values.astype(np.float32)


def speech_like(seconds: float, level: float, *, floor: float = 1e-4) -> FloatArray:
    """Bursts of 400 ms with pauses of 200 ms."""
    time = np.arange(int(seconds * RATE)) / RATE
    return noise(seconds, 1.0) * np.where(time % 0.6 < 0.4, level, floor).astype(np.float32)


def codes(audio: FloatArray, rate_hz: int = RATE) -> list[str]:
    monitor = QualityMonitor(EverythingIsSpeech(), rate_hz)
    monitor.push(audio)
    return [finding.code for finding in monitor.take_findings()]


def test_good_audio_has_nothing_wrong():
    assert codes(speech_like(20, 0.05)) == []


def test_flags_are_those_of_the_detector():
    audio = speech_like(2, 0.05, floor=0.0)
    assert QualityMonitor(LevelDetector(), RATE).push(audio) == LevelDetector().push(audio)


def test_clipping_is_reported_once_until_it_has_gone():
    loud, good = np.clip(speech_like(5, 0.8), -1, 1), speech_like(15, 0.05)
    assert codes(loud) == ["clipping"]
    assert codes(np.concatenate([loud, loud])) == ["clipping"]
    assert codes(np.concatenate([loud, good, loud])) == ["clipping", "clipping"]


def test_quiet_speech_is_reported_with_its_level():
    monitor = QualityMonitor(EverythingIsSpeech(), RATE)
    monitor.push(speech_like(5, 0.002, floor=2e-5))
    (finding,) = monitor.take_findings()
    assert finding.code == "too_quiet"
    assert "dBFS" in finding.message
    assert finding.at_s == 2.0


def test_speech_in_noise_is_reported():
    assert codes(speech_like(10, 0.1, floor=0.05)) == ["noisy"]


def test_a_telephone_is_narrow_from_the_start():
    monitor = QualityMonitor(EverythingIsSpeech(), 8000)
    assert [finding.code for finding in monitor.take_findings()] == ["narrow_band"]
    assert monitor.narrow_band_at(0)


def narrow(audio: FloatArray) -> FloatArray:
    """Audio that went through 8 kHz."""
    import soxr

    there = soxr.resample(audio, RATE, 8000)
    resampler = Resampler(8000, 1)
    parts = [resampler.push(there[:, None]), resampler.finish()]
    return np.concatenate(parts)[:, 0]


def test_narrow_audio_is_noticed_at_any_rate_and_marks_the_time():
    monitor = QualityMonitor(EverythingIsSpeech(), 48_000)
    monitor.push(speech_like(12, 0.05))
    monitor.push(narrow(speech_like(24, 0.05)))
    monitor.push(speech_like(12, 0.05))
    (finding,) = monitor.take_findings()
    assert finding.code == "narrow_band"
    assert 12 < finding.at_s <= 24
    assert not monitor.narrow_band_at(12 * RATE)
    assert monitor.narrow_band_at(finding.at_sample)
    assert not monitor.narrow_band_at(48 * RATE)


def test_silence_says_nothing_of_speech():
    monitor = QualityMonitor(LevelDetector(), RATE)
    monitor.push(np.zeros(30 * RATE, dtype=np.float32))
    assert monitor.take_findings() == []


@given(sizes=st.lists(st.integers(0, 30_000), max_size=12))
def test_chunking_does_not_matter(sizes: list[int]):
    audio = np.clip(speech_like(8, 0.8, floor=0.5), -1, 1)
    whole, split = QualityMonitor(LevelDetector(), RATE), QualityMonitor(LevelDetector(), RATE)
    whole.push(audio)
    at = 0
    for size in [*sizes, len(audio)]:
        split.push(audio[at : at + size])
        at += size
    assert split.take_findings() == whole.take_findings()


def test_time_without_audio_moves_the_clock():
    monitor = QualityMonitor(EverythingIsSpeech(), RATE)
    monitor.push(speech_like(0.5, 0.002))
    monitor.skip(10 * RATE)
    monitor.push(speech_like(5, 0.002, floor=2e-5))
    assert [finding.at_s for finding in monitor.take_findings()] == [12.5]


@pytest.mark.needs("real-recordings")
def test_real_recordings_are_judged_rightly(speech_clips: tuple[SpeechClip, ...]):
    for corpus in ("emodb", "nemo_pl"):
        audio = np.concatenate([clip.samples for clip in speech_clips if clip.corpus == corpus] * 2)
        audio = audio * np.float32(0.5 / np.abs(audio).max())

        def judge(samples: FloatArray) -> set[str]:
            monitor = QualityMonitor(make_detector(VadConfig()), RATE)
            monitor.push(np.ascontiguousarray(samples, dtype=np.float32))
            return {finding.code for finding in monitor.take_findings()}

        assert judge(audio) == set(), corpus
        assert judge(np.clip(audio * 12, -1, 1)) >= {"clipping"}, corpus
        assert judge(audio * 0.01) >= {"too_quiet"}, corpus
        assert judge(audio + noise(len(audio) / RATE + 1, 0.06)[: len(audio)]) == {"noisy"}, corpus
        assert judge(narrow(audio)) == {"narrow_band"}, corpus


@pytest.mark.parametrize(
    ("audio", "found"),
    [
        (speech_like(20, 0.05), []),
        (speech_like(5, 0.002, floor=2e-5), ["too_quiet"]),
        (speech_like(10, 0.1, floor=0.05), ["noisy"]),
        (narrow(speech_like(5, 0.05)), ["narrow_band"]),
    ],
)
def test_an_offset_changes_no_judgement(audio: FloatArray, found: list[str]):
    for offset in (0.0, 0.3):
        assert codes(audio + np.float32(offset)) == found


def test_speech_that_an_offset_brings_to_full_scale_is_clipped_and_the_offset_alone_is_not():
    loud = speech_like(5, 0.2)
    assert codes(loud) == []
    assert codes(np.minimum(loud + np.float32(0.8), 1)) == ["clipping"]
    assert "clipping" not in codes(np.ones(5 * RATE, np.float32))
