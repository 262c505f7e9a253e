from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ser_engine.config import VadConfig
from ser_engine.timeline.speech import EverythingIsSpeech, WebRtcDetector, make_detector
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
