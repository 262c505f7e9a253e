from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ser_engine.frames import HOP_SAMPLES
from ser_engine.schema import ChannelMeasures, Measures
from ser_engine.timeline.conversation import SLOTS_A_S, Conversation
from ser_engine.timeline.slots import TONE
from ser_engine.timeline.speech import NO_POWERS
from ser_engine.timeline.voice import VoiceMeter
from ser_engine.types import FloatArray

RATE = 16_000
SLOTS_A_MARK = SLOTS_A_S // 5


class Scripted:
    """A detector whose decisions are known before."""

    def __init__(self, flags: list[bool]) -> None:
        self.powers = NO_POWERS
        self._flags = flags
        self._samples = 0

    def push(self, samples: FloatArray) -> Sequence[int]:
        before, self._samples = self._samples, self._samples + len(samples)
        return self._flags[before // HOP_SAMPLES : self._samples // HOP_SAMPLES]

    def skip(self, num_samples: int) -> None:
        self._samples += num_samples


def flags_of(script: str) -> list[bool]:
    """Return the flags of a script: a mark is 0.2 s, ``#`` speech."""
    return [mark == "#" for mark in script for _ in range(SLOTS_A_MARK)]


def measured(*scripts: str) -> Measures:
    conversation = Conversation()
    for channel, script in enumerate(scripts):
        detector = conversation.listen(channel, Scripted(flags_of(script)), voice=False)
        detector.push(np.zeros(len(script) * RATE // 5, dtype=np.float32))
    return conversation.measures()


def test_time_is_talk_overlap_and_silence() -> None:
    measures = measured("#####.....###..", "....##....##...")
    assert [each.talk_s for each in measures.channels] == [1.6, 0.8]
    assert measures.channels[0].talk_share == pytest.approx(2 / 3, abs=1e-6)
    assert (measures.overlap_s, measures.silence_s, measures.at_s) == (0.6, 1.2, 3.0)


@pytest.mark.parametrize(
    ("victim", "other", "is_one"),
    [
        # Begins while the other has been speaking, both speak for a while, the other gives way.
        ("##########..........", "......#########.....", True),
        # The other goes on: it did not give way.
        ("##################..", "......#########.....", False),
        # A sign of listening, in the middle and at the end.
        ("##################..", "......##............", False),
        ("##########..........", "........####........", False),
        # Turns follow each other with 0.2 s of both.
        ("##########..........", ".........##########.", False),
        # Both begin at once: nobody had the floor yet.
        ("..####..............", "...#########........", False),
    ],
)
def test_an_interruption_is_when_somebody_gives_way(victim: str, other: str, is_one: bool) -> None:
    first, second = measured(victim, other).channels
    assert (second.interruptions, first.interrupted, first.interrupted_lately) == (is_one,) * 3
    assert (first.interruptions, second.interrupted) == (0, 0)


def test_what_was_a_while_ago_is_not_lately() -> None:
    quiet = "." * 300
    first = measured("##########......" + quiet, "......#######..." + quiet).channels[0]
    assert (first.interrupted, first.interrupted_lately) == (1, 0)


def test_a_turn_goes_over_pauses_and_signs_of_listening_and_ends_with_the_next() -> None:
    first, second = measured(
        "##########...##########..................#####",
        "..........##...........##########.............",
    ).channels
    assert (first.turns, second.turns) == (2, 1)
    assert (first.longest_turn_s, second.longest_turn_s) == (4.6, 2.0)


def test_a_gap_is_missing_not_silence() -> None:
    conversation = Conversation()
    detector = conversation.listen(0, Scripted([True] * 100), voice=False)
    detector.push(np.zeros(RATE, dtype=np.float32))
    detector.skip(RATE)
    measures = conversation.measures()
    assert (measures.missing_s, measures.silence_s, measures.channels[0].talk_s) == (1, 0, 1)


def test_nobody_speaks_in_a_tone() -> None:
    class Tones(Scripted):
        def push(self, samples: FloatArray) -> Sequence[int]:
            return [TONE for _ in super().push(samples)]

    conversation = Conversation()
    conversation.listen(0, Tones([True] * 50)).push(np.zeros(RATE, dtype=np.float32))
    measures = conversation.measures()
    assert (measures.silence_s, measures.channels[0].talk_s) == (1, 0)


def voice_of(pitch_hz: float, syllables_per_s: float, level: float, seconds: int) -> FloatArray:
    """Return a buzz with a pitch, in syllables with dips to a tenth between."""
    time = np.arange(seconds * RATE) / RATE
    buzz = sum(np.sin(2 * np.pi * pitch_hz * k * time) / k for k in range(1, 9))
    swell = 0.55 - 0.45 * np.cos(2 * np.pi * syllables_per_s * time)
    return (level * swell * buzz).astype(np.float32)


def all_speech(*parts: FloatArray, sizes: tuple[int, ...] = (8000,)) -> ChannelMeasures:
    audio = np.concatenate(parts)
    conversation = Conversation()
    detector = conversation.listen(0, Scripted([True] * (len(audio) // HOP_SAMPLES)))
    at = step = 0
    while at < len(audio):
        size = sizes[step % len(sizes)]
        detector.push(audio[at : at + size])
        at, step = at + size, step + 1
    conversation.finish()
    return conversation.measures().channels[0]


def test_pitch_rate_and_level_are_those_of_the_voice() -> None:
    for pitch_hz, rate in ((90.0, 3.0), (210.0, 5.0), (420.0, 4.0)):
        voice = all_speech(voice_of(pitch_hz, rate, 0.1, 8)).voice
        assert voice is not None
        assert voice.pitch_hz == pytest.approx(pitch_hz, rel=0.02)
        assert voice.pitch_range_st is not None and voice.pitch_range_st < 1
        assert voice.syllables_per_s == pytest.approx(rate, abs=0.3)
        power = float(np.square(voice_of(pitch_hz, rate, 0.1, 8)).mean())
        assert voice.level_dbfs == pytest.approx(10 * np.log10(power), abs=0.3)


def test_noise_has_no_pitch_and_no_syllables(rng: np.random.Generator) -> None:
    voice = all_speech((rng.standard_normal(8 * RATE) * 0.1).astype(np.float32)).voice
    assert voice is not None
    assert voice.pitch_hz is None
    assert voice.syllables_per_s is not None and voice.syllables_per_s < 0.5


def test_changes_are_against_the_speakers_own_start() -> None:
    calm, upset = voice_of(150, 3, 0.05, 32), voice_of(200, 4.5, 0.2, 40)
    assert all_speech(calm).changes() == {}
    changes = all_speech(calm, upset).changes()
    assert changes["level_change_db"] == pytest.approx(12.0, abs=0.5)
    assert changes["pitch_change_st"] == pytest.approx(12 * np.log2(200 / 150), abs=0.5)
    assert changes["rate_change"] == pytest.approx(0.5, abs=0.1)


@settings(max_examples=4, deadline=None)
@given(sizes=st.lists(st.integers(111, 40_000), min_size=1, max_size=5))
def test_how_the_audio_is_split_does_not_matter(sizes: list[int]) -> None:
    audio = voice_of(140, 4, 0.1, 9)
    assert all_speech(audio, sizes=tuple(sizes)) == all_speech(audio)


def test_a_meter_forgets_what_it_has_measured() -> None:
    meter = VoiceMeter()
    slots = voice_of(140, 4, 0.1, 10).reshape(-1, HOP_SAMPLES)
    for _ in range(30):
        meter.take(slots, [True] * len(slots))
    recent = meter.recent()
    assert recent is not None and 30 <= recent.speech_s < 34
