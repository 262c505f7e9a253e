from __future__ import annotations

import numpy as np
import pytest

from ser_engine.config import EngineConfig
from ser_engine.files import analyze
from ser_engine.schema import Gap
from ser_engine.timeline.channel import ChannelStream
from ser_engine.timeline.music import MusicFinder
from ser_engine.timeline.silero import SileroDetector
from ser_engine.timeline.slots import MUSIC
from ser_engine.types import FloatArray
from tests.support.fake_engine import FakeEngine
from training.tones import hold_music

RATE = 16_000


def melody(seconds: float) -> FloatArray:
    made = hold_music(int(seconds * RATE), np.random.default_rng(0))
    return made * np.float32(0.1 / np.abs(made).max())


def found(audio: FloatArray, *, is_speech: bool = False) -> list[bool]:
    finder = MusicFinder()
    slots = audio[: len(audio) // 320 * 320].reshape(-1, 320)
    return [
        finder.push(slot, is_loud=float(np.square(slot).mean()) > 1e-6, is_speech=is_speech)
        for slot in slots
    ]


def test_a_channel_has_one_gap_of_music_once_it_is_known() -> None:
    audio = np.concatenate([melody(10.0), np.zeros(3 * RATE, np.float32)])
    stream = ChannelStream(EngineConfig(), FakeEngine().info, "s/0")
    gaps: list[Gap] = []
    for start in range(0, len(audio), 1600):
        assert not stream.push(audio[start : start + 1600])
        gaps += [event for event in stream.take_events() if isinstance(event, Gap)]
    stream.finish()
    gaps += [event for event in stream.close() if isinstance(event, Gap)]
    final = [(gap.reason, gap.start_s, gap.end_s) for gap in gaps if gap.final]
    assert [reason for reason, _, _ in final] == ["silence", "music", "silence"]
    assert final[1][1] == pytest.approx(2.0, abs=0.7)
    assert final[1][2] == pytest.approx(11.0, abs=0.1)  # a pause of a second belongs to it


def test_chunking_does_not_matter() -> None:
    audio = np.concatenate([melody(4.0), np.zeros(RATE // 2, np.float32), melody(3.0)])

    def states(chunk_samples: int) -> list[int]:
        detector = SileroDetector(EngineConfig().vad)
        pushed = (audio[at : at + chunk_samples] for at in range(0, len(audio), chunk_samples))
        return [state for chunk in pushed for state in detector.push(chunk)]

    assert states(len(audio)) == states(317) == states(8_000)
    assert MUSIC in states(len(audio))


def test_noise_hum_and_a_steady_chord_are_no_music() -> None:
    time = np.arange(8 * RATE) / RATE
    noise = np.random.default_rng(0).standard_normal(len(time)).astype(np.float32)
    brown = np.cumsum(noise) - np.convolve(np.cumsum(noise), np.ones(800) / 800, "same")
    hum = sum(np.sin(2 * np.pi * 50 * k * time) / k for k in range(1, 30))
    chord = sum(np.sin(2 * np.pi * hz * time) for hz in (440, 554, 659, 880))
    for audio in (0.02 * noise, 0.001 * brown, 0.02 * hum + 0.001 * noise, 0.02 * chord):
        assert not any(found(np.asarray(audio, np.float32)))


def test_where_somebody_speaks_there_is_no_music() -> None:
    assert any(found(melody(6.0)))
    assert not any(found(melody(6.0), is_speech=True))


def test_a_file_of_music_says_so() -> None:
    (channel,) = analyze(melody(8.0), engine=FakeEngine()).channels
    (warning,) = [each for each in channel.warnings if each.code == "silent"]
    assert "nobody speaks, there are" in warning.message
    assert "s of music" in warning.message
