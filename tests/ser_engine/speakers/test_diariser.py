from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ser_engine.frames import HOP_SAMPLES, SAMPLE_RATE_HZ
from ser_engine.speakers import Diariser, Turn
from ser_engine.types import FloatArray
from tests.ser_engine.speakers.voices import LoudIsSpeech, embedding, talk


def turns(audio: FloatArray, splits: Sequence[int] = (), threshold: float = 0.6) -> list[Turn]:
    diariser = Diariser(LoudIsSpeech(), threshold=threshold, max_speakers=8)
    for block in np.split(audio, sorted(min(split, len(audio)) for split in splits)):
        for piece in diariser.push(block):
            diariser.accept(piece, embedding(piece))
    for piece in diariser.finish():
        diariser.accept(piece, embedding(piece))
    return list(diariser.turns())


def seconds(found: list[Turn]) -> list[tuple[float, float, int]]:
    return [(turn.start_s, turn.end_s, turn.speaker) for turn in found]


def test_two_people_with_a_pause_between_them() -> None:
    found = turns(talk((0, 1.0), (1, 4.0), (0, 0.5), (2, 5.0), (0, 1.0), (1, 3.0)))
    assert seconds(found) == [(1.0, 5.0, 0), (5.5, 10.5, 1), (11.5, 14.5, 0)]


def test_a_change_without_a_pause_is_found_within_a_step() -> None:
    first, second = turns(talk((1, 6.0), (2, 6.0)))
    assert (first.speaker, second.speaker) == (0, 1)
    assert first.end_sample == second.start_sample
    assert first.end_s == pytest.approx(6.0, abs=0.75)


def test_a_short_word_goes_to_who_spoke_before() -> None:
    found = turns(talk((1, 6.0), (0, 1.0), (2, 0.3), (0, 1.0), (2, 6.0)))
    assert seconds(found) == [(0.0, 6.0, 0), (7.0, 7.3, 0), (8.3, 14.3, 1)]


def test_a_short_word_at_the_start_goes_to_who_speaks_next() -> None:
    assert {turn.speaker for turn in turns(talk((1, 0.2), (0, 1.0), (1, 4.0)))} == {0}


def test_silence_has_no_turns() -> None:
    assert turns(talk((0, 5.0))) == []


def test_a_voice_heard_once_is_taken_for_the_nearest() -> None:
    found = turns(talk((1, 6.0), (0, 1.0), (2, 1.0), (0, 1.0), (1, 6.0)))
    assert {turn.speaker for turn in found} == {0}


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 3), st.floats(0.02, 6)), min_size=1, max_size=8),
    st.lists(st.integers(0, 300_000), max_size=6),
)
def test_speech_is_covered_once_however_it_is_split(
    parts: list[tuple[int, float]], splits: list[int]
) -> None:
    audio = talk(*parts)
    found = turns(audio)
    assert turns(audio, splits) == found
    whole = len(audio) // HOP_SAMPLES
    cells = audio[: whole * HOP_SAMPLES].reshape(whole, HOP_SAMPLES)
    times_covered = [0] * whole
    for turn in found:
        for cell in range(turn.start_sample // HOP_SAMPLES, turn.end_sample // HOP_SAMPLES):
            times_covered[cell] += 1
    assert times_covered == [int(cell.any()) for cell in cells]


def test_a_long_recording_takes_little_memory() -> None:
    diariser = Diariser(LoudIsSpeech(), threshold=0.6, max_speakers=8)
    longest = 0
    for _ in range(600):
        for piece in diariser.push(talk((1, 1.0))):
            diariser.accept(piece, embedding(piece))
        longest = max(longest, len(diariser._cutter._held))
    assert longest < 6 * SAMPLE_RATE_HZ
