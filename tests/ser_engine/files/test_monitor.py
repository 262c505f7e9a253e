from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from ser_engine.config import VadConfig
from ser_engine.files import monitor
from ser_engine.files.audio import AudioFile
from ser_engine.files.monitor import ChannelMonitor
from ser_engine.timeline import EverythingIsSpeech
from ser_engine.types import FloatArray
from tests.support.fake_engine import square

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import SpeechClip

RATE = 16_000


def warnings(audio: FloatArray, rate_hz: int = RATE, *, splits: int = 1) -> list[str]:
    heard = ChannelMonitor(VadConfig(), rate_hz)
    for part in np.array_split(audio, splits):
        heard.push(part)
    found = heard.warnings()
    assert all(warning.message for warning in found)
    return [warning.code for warning in found]


@pytest.fixture
def speech(speech_clips: tuple[SpeechClip, ...]) -> FloatArray:
    """A good recording, 1.8 s: too short for a verdict over seconds."""
    clip = next(clip for clip in speech_clips if clip.corpus == "emodb")
    return clip.samples[:28_800]


@pytest.mark.needs("shared-data")
def test_good_recordings_have_nothing_wrong(speech_clips: tuple[SpeechClip, ...]):
    good = [clip for clip in speech_clips if clip.corpus != "ravdess"]
    assert [warnings(clip.samples) for clip in good] == [[]] * len(good)


@pytest.mark.needs("shared-data")
@pytest.mark.parametrize("splits", [1, 7, 100])
def test_what_is_wrong_with_a_short_recording_is_said(speech: FloatArray, splits: int):
    noise = np.random.default_rng(0).standard_normal(len(speech)).astype(np.float32)
    level = float(np.sqrt(np.square(speech).mean()))

    def said(audio: FloatArray) -> list[str]:
        return warnings(audio.astype(np.float32), splits=splits)

    assert said(np.clip(speech * 20, -1, 1)) == ["clipping"]
    assert said(speech * 0.002 / level) == ["too_quiet"]
    assert said(speech + noise * level * 0.7) == ["noisy"]
    assert said(speech[:12_000]) == ["short"]
    assert "silent" in said(noise * 1e-5)


@pytest.mark.needs("shared-data")
def test_a_telephone_is_narrow(shared_data: Path):
    with AudioFile(shared_data / "calls" / "phone_call_mono_8k.wav") as file:
        heard = ChannelMonitor(VadConfig(), file.rate_hz)
        for block in file.blocks():
            heard.push(block[0])
    (warning,) = heard.warnings()
    assert (warning.code, warning.at_s) == ("narrow_band", 0)


def test_silence_is_silent_and_nothing_else():
    assert warnings(np.zeros(5 * RATE, np.float32)) == ["silent"]
    assert warnings(np.zeros(500, np.float32)) == ["silent", "short"]


class Deaf(EverythingIsSpeech):
    """Hears no speech."""

    def push(self, samples: FloatArray) -> list[bool]:
        return [False for _ in super().push(samples)]


def test_a_sound_without_speech_is_said_to_be_none(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(monitor, "make_detector", lambda config: Deaf())
    heard = ChannelMonitor(VadConfig(), RATE)
    heard.push(square(5 * RATE, 0.1))
    (warning,) = heard.warnings()
    assert warning.code == "silent"
    assert warning.message.startswith("no speech was heard")


def test_each_thing_is_said_once():
    bursts = np.concatenate([square(3 * RATE, 1.0), square(15 * RATE, 0.01)] * 3)
    assert warnings(bursts).count("clipping") == 1


def test_the_level():
    heard = ChannelMonitor(VadConfig(), RATE)
    assert heard.level_dbfs == -np.inf
    heard.push(square(1000, 0.1) + np.float32(0.3))
    assert heard.level_dbfs == pytest.approx(-20, abs=0.3)


def test_an_offset_is_silence():
    heard = ChannelMonitor(VadConfig(), RATE)
    for part in np.split(np.full(5 * RATE, 0.2, np.float32), [100, 7_001, 40_000]):
        heard.push(part)
    assert heard.level_dbfs == -np.inf
    (warning,) = heard.warnings()
    assert (warning.code, warning.message.split(":")[0]) == ("silent", "silence")
