from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import pytest

from ser_engine.config import VadConfig
from ser_engine.errors import RuntimeUnavailableError
from ser_engine.timeline import make_detector
from ser_engine.timeline import silero as vad_silero
from ser_engine.types import FloatArray

if TYPE_CHECKING:
    from tests.conftest import SpeechClip

CONFIG = VadConfig(detector="silero", hangover_ms=0)
RATE = 16_000


@pytest.fixture
def no_shared_network() -> Iterator[None]:
    vad_silero._shared_network.cache_clear()
    yield
    vad_silero._shared_network.cache_clear()


def share(flags: list[bool]) -> float:
    return sum(flags) / len(flags)


@pytest.mark.needs("silero", "onnxruntime", "shared-data")
def test_speech_is_told_from_silence_and_noise(speech_clips: tuple[SpeechClip, ...]):
    noise = np.random.default_rng(0).standard_normal(2 * RATE).astype(np.float32) * np.float32(0.02)
    for clip in speech_clips:
        speech = clip.samples * np.float32(0.3 / np.abs(clip.samples).max())
        detector = make_detector(CONFIG)
        assert share(detector.push(noise)) < 0.05
        assert share(detector.push(speech)) > 0.3, clip.corpus
        detector.push(np.zeros(RATE // 5, dtype=np.float32))
        assert share(detector.push(np.zeros(RATE, dtype=np.float32))) == 0


@pytest.mark.needs("silero", "onnxruntime", "shared-data")
def test_how_audio_is_split_does_not_matter(
    speech_clips: tuple[SpeechClip, ...], rng: np.random.Generator
):
    audio = np.concatenate([speech_clips[0].samples[:20_000], np.zeros(5000, dtype=np.float32)])
    config = VadConfig(detector="silero")
    whole = make_detector(config).push(audio)
    assert len(whole) == len(audio) // 320
    assert True in whole
    for _ in range(5):
        detector, flags = make_detector(config), list[bool]()
        for part in np.split(audio, np.sort(rng.integers(0, len(audio), 40))):
            flags += detector.push(part)
        assert flags == whole


@pytest.mark.needs("silero", "onnxruntime", "shared-data")
def test_a_gap_forgets_everything(speech_clips: tuple[SpeechClip, ...]):
    audio: FloatArray = speech_clips[0].samples[:16_001]
    detector = make_detector(CONFIG)
    first = detector.push(audio)
    detector.skip(1)
    assert detector.push(audio) == first


@pytest.mark.needs("silero", "onnxruntime", "shared-data")
def test_quiet_frames_are_silence(speech_clips: tuple[SpeechClip, ...]):
    detector = make_detector(VadConfig(detector="silero", min_level_dbfs=0))
    assert not any(detector.push(speech_clips[0].samples))


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch, no_shared_network: None):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(RuntimeUnavailableError, match=r"pip install 'emotion-monitor\[silero\]'"):
        make_detector(CONFIG)
