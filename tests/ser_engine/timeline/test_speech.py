from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ser_engine.config import VadConfig
from ser_engine.timeline.channel import make_detector
from ser_engine.timeline.speech import (
    EverythingIsSpeech,
    WebRtcDetector,
    sound_powers,
)
from ser_engine.types import FloatArray

if TYPE_CHECKING:
    from tests.conftest import SpeechClip

RATE = 16_000


def buzz(num_samples: int, level: float = 0.2) -> FloatArray:
    """Something the detector takes for a voice: a gliding 140 Hz pulse train, filtered."""
    time = np.arange(num_samples) / RATE
    phase = np.cumsum(140 + 20 * np.sin(2 * np.pi * 3 * time)) / RATE
    harmonics = sum(np.sin(2 * np.pi * k * phase) / k for k in range(1, 20))
    envelope = 0.6 + 0.4 * np.sin(2 * np.pi * 4 * time)
    return (level * harmonics * envelope / 2).astype(np.float32)


@pytest.mark.parametrize("detector", ["webrtc", "off"])
@given(cuts=st.lists(st.integers(0, 16_000), max_size=20))
def test_chunking_does_not_matter(detector: str, cuts: list[int]) -> None:
    audio = np.concatenate([np.zeros(5000, np.float32), buzz(7000), np.zeros(4000, np.float32)])
    audio[:2_100] += np.float32(0.2)
    config = VadConfig(detector=detector)  # type: ignore[arg-type]
    whole = make_detector(config).push(audio)
    pieces = make_detector(config)
    flags = [flag for part in np.split(audio, sorted(cuts)) for flag in pieces.push(part)]
    assert flags == whole
    assert len(flags) == 50


def test_voice_is_speech_and_silence_is_not() -> None:
    detector = WebRtcDetector(VadConfig(hangover_ms=0))
    flags = detector.push(np.concatenate([np.zeros(RATE, np.float32), buzz(RATE)]))
    assert not any(flags[:50])
    assert np.mean(flags[55:]) > 0.8


def test_quiet_voice_is_silence() -> None:
    voice = buzz(RATE)
    quiet = voice * (0.0005 / voice.std())  # -66 dBFS
    assert not any(WebRtcDetector(VadConfig(min_level_dbfs=-60)).push(quiet))
    assert any(WebRtcDetector(VadConfig(min_level_dbfs=-80)).push(quiet))


@pytest.mark.parametrize("hangover_ms", [0, 100, 200])
def test_speech_lasts_for_the_hangover(hangover_ms: int) -> None:
    audio = np.concatenate([buzz(RATE // 2), np.zeros(RATE, np.float32)])
    plain = WebRtcDetector(VadConfig(hangover_ms=0)).push(audio)
    held = WebRtcDetector(VadConfig(hangover_ms=hangover_ms)).push(audio)
    last = max(index for index, flag in enumerate(plain) if flag)
    assert all(held[last : last + hangover_ms // 20 + 1])
    assert not any(held[last + hangover_ms // 20 + 1 :])


@pytest.mark.parametrize("make", [EverythingIsSpeech, lambda: WebRtcDetector(VadConfig())])
def test_a_gap_begins_a_new_slot(make: type[EverythingIsSpeech]) -> None:
    detector = make()
    first = detector.push(buzz(6400))
    detector.push(buzz(319))
    detector.skip(1)
    assert detector.push(buzz(6400)) == first


def test_overdriven_audio_is_clipped() -> None:
    assert any(WebRtcDetector(VadConfig()).push(buzz(RATE, level=30.0)))


@pytest.mark.needs("shared-data")
def test_acted_clips_are_mostly_speech(speech_clips: tuple[SpeechClip, ...]) -> None:
    for clip in speech_clips:
        share = float(np.mean(WebRtcDetector(VadConfig()).push(clip.samples)))
        assert share > 0.3, clip.path.name


_TIME = np.arange(5 * RATE) / RATE

OFFSETS = {
    "constant": np.full(5 * RATE, -0.5),
    "drifts": 0.3 * np.sin(2 * np.pi * 0.2 * _TIME),
    "wavers": 0.2 * np.sin(2 * np.pi * 2 * _TIME),
    "steps": 0.3 * (np.floor(_TIME * 3.1) % 2),  # within slots, not between them
    "drifts and steps": 0.2 * np.sin(2 * np.pi * 0.3 * _TIME) + 0.1 * (np.floor(_TIME * 2.3) % 2),
    "fades": 0.8 * np.exp(-_TIME),
}


@pytest.mark.parametrize("offset", OFFSETS.values(), ids=OFFSETS)
def test_an_offset_is_no_speech_and_hides_none(offset: FloatArray) -> None:
    hiss = np.random.default_rng(0).normal(0, 3e-4, 5 * RATE)
    assert not any(WebRtcDetector(VadConfig()).push((hiss + offset).astype(np.float32)))
    voice = WebRtcDetector(VadConfig()).push((hiss + offset + buzz(5 * RATE)).astype(np.float32))
    assert np.mean(voice) > 0.9


def test_the_power_of_a_sound_is_without_its_offset() -> None:
    hum = np.sin(2 * np.pi * 100 * _TIME[:RATE])
    slots = (0.1 * hum + 0.4).astype(np.float32).reshape(-1, 320)
    assert 10 * np.log10(sound_powers(slots) / 0.005) == pytest.approx(-0.4, abs=0.4)
    hiss = np.random.default_rng(0).normal(0, 0.1, (50, 320)).astype(np.float32)
    assert sound_powers(hiss + np.float32(0.2)) == pytest.approx(hiss.var(axis=1), rel=0.05)
    assert not sound_powers(np.full((2, 320), 0.1, np.float32)).any()
    # A click is a sound.
    click = np.zeros((1, 320), np.float32)
    click[0, 100] = 1.0
    assert sound_powers(click) > 2e-3
