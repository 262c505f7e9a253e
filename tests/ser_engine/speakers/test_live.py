from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ser_engine.frames import SAMPLE_RATE_HZ
from ser_engine.speakers import Diariser
from ser_engine.speakers.clustering import LiveVoices
from ser_engine.speakers.live import DECIDED_AFTER_S, NEW_VOICE_PIECES, LiveSpeakers, Spoken
from ser_engine.speakers.pieces import STEP_S, VoicePiece
from ser_engine.types import FloatArray
from tests.ser_engine.speakers.voices import LoudIsSpeech, embedding, talk


def speakers(threshold: float = 0.6) -> LiveSpeakers:
    return LiveSpeakers(LoudIsSpeech(), threshold=threshold, max_speakers=8)


def spoken(
    audio: FloatArray, splits: Sequence[int] = (), answer_after: Sequence[int] = ()
) -> list[Spoken]:
    """Push the audio in blocks; answer what was cut some blocks later, at the end all of it."""
    live = speakers()
    waiting: deque[VoicePiece] = deque()
    found: list[Spoken] = []
    for number, block in enumerate(np.split(audio, sorted(min(s, len(audio)) for s in splits))):
        live.push(block)
        waiting += live.take_pieces()
        if not answer_after or number % len(answer_after) in answer_after:
            while waiting:
                piece = waiting.pop()  # the newest first: order does not matter
                live.accept(piece, embedding(piece))
        found += live.take_spoken()
    live.flush()
    for piece in [*waiting, *live.take_pieces()]:
        live.accept(piece, embedding(piece))
    assert live.decided_to == len(audio)
    return found + live.take_spoken()


def who(found: list[Spoken], at_s: float) -> int | None:
    (each,) = [s for s in found if s.start_sample <= at_s * SAMPLE_RATE_HZ < s.end_sample]
    return each.speaker


def test_a_voice_that_comes_back_has_its_number() -> None:
    found = spoken(talk((1, 9.0), (0, 0.5), (2, 9.0), (0, 1.0), (1, 5.0), (0, 0.5), (2, 3.0)))
    assert [who(found, at_s) for at_s in (5, 17, 22, 27)] == [0, 1, 0, 1]


def test_a_new_voice_is_nobody_until_it_was_heard_for_a_while() -> None:
    found = spoken(talk((1, 9.0), (0, 0.5), (2, 12.0)))
    assert who(found, 0.1) == 0  # the first is known at once
    assert who(found, 9.6) is None
    assert who(found, 18.0) == 1


def test_a_piece_that_was_not_heard_is_nobodys() -> None:
    live = speakers()
    live.push(talk((1, 1.5), (0, 10.0)))
    (piece,) = live.take_pieces()
    assert live.take_spoken() == []
    live.accept(piece, None)
    assert live.take_spoken() == [Spoken(0, int(1.5 * SAMPLE_RATE_HZ), None)]


def test_it_is_decided_in_time() -> None:
    live = speakers()
    behind: list[float] = []
    for block in np.split(talk((1, 40.0)), 400):
        live.push(block)
        for piece in live.take_pieces():
            live.accept(piece, embedding(piece))
        behind.append((len(behind) + 1) * 0.1 - live.decided_to / SAMPLE_RATE_HZ)
    # The first piece counts for a step and a half.
    assert max(behind) <= DECIDED_AFTER_S + 1.5 * STEP_S + 0.1


def test_a_gap_ends_a_run() -> None:
    live = speakers()
    live.push(talk((1, 1.0)))
    live.skip(20 * SAMPLE_RATE_HZ)
    live.push(talk((1, 1.0)))
    live.flush()
    for piece in live.take_pieces():
        live.accept(piece, embedding(piece))
    spans = [(each.start_sample, each.end_sample) for each in live.take_spoken()]
    assert spans == [(0, 16_000), (21 * 16_000, 22 * 16_000)]


@settings(max_examples=15, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 2), st.floats(0.02, 5)), min_size=1, max_size=6),
    st.lists(st.integers(0, 300_000), max_size=5),
    st.sets(st.integers(0, 3), max_size=3),
)
def test_neither_splits_nor_late_answers_change_who_speaks(
    parts: list[tuple[int, float]], splits: list[int], answer_after: set[int]
) -> None:
    audio = talk(*parts)
    assert spoken(audio, splits, sorted(answer_after)) == spoken(audio)


def test_a_stream_differs_from_its_recording_by_what_new_voices_begin_with() -> None:
    rng = np.random.default_rng(0)
    people = [1, 2, 3, 1, 3, 2, 1, 2, 3]
    audio = talk(*(part for each in people for part in ((each, rng.uniform(3, 8)), (0, 0.4))))
    diariser = Diariser(LoudIsSpeech(), threshold=0.6, max_speakers=8)
    for piece in [*diariser.push(audio), *diariser.finish()]:
        diariser.accept(piece, embedding(piece))
    recorded = diariser.turns()
    live = spoken(audio)
    assert live[0].start_sample == recorded[0].start_sample
    assert live[-1].end_sample == recorded[-1].end_sample
    # Numbers are of who spoke first in both, so they are the same ones.
    shared = sum(
        max(0, min(a.end_sample, b.end_sample) - max(a.start_sample, b.start_sample))
        for a in live
        for b in recorded
        if a.speaker == b.speaker
    )
    speech = sum(each.end_sample - each.start_sample for each in recorded)
    differs_s = (speech - shared) / SAMPLE_RATE_HZ
    new_voices = len({each.speaker for each in recorded}) - 1
    assert 0 < differs_s <= new_voices * (NEW_VOICE_PIECES + 1) * STEP_S


def test_an_hour_takes_no_more_memory() -> None:
    live = speakers()
    voices = live._voices
    rng = np.random.default_rng(0)
    centres = np.linalg.qr(rng.normal(size=(64, 3)))[0].T
    for number in range(200):
        vector = centres[number % 3] + rng.normal(size=64) * 0.05
        voices.add((vector / np.linalg.norm(vector)).astype(np.float32))
        voices.next_voice()
    assert len(voices._sums) <= 64
    assert not voices._waiting


def test_two_that_turn_out_to_be_one_keep_their_names_and_it_is_told() -> None:
    voices = LiveVoices(0.5, 8, NEW_VOICE_PIECES)
    east, north = np.eye(2, dtype=np.float32)
    middle = (east + north) / np.float32(np.sqrt(2))
    given = []
    for vector in [east] * 6 + [north] * 6 + [middle] * 30:
        voices.add(vector)
        given.append(voices.next_voice())
    assert given[5] == 0
    assert given[11] == 1
    assert given[-1] in (0, 1)
    assert voices.same_as == {1 - given[-1]: given[-1]}


@pytest.mark.parametrize("most", [1, 2])
def test_there_are_no_more_voices_than_may_be(most: int) -> None:
    voices = LiveVoices(0.9, most, 1)
    for number in range(40):
        voices.add(np.eye(4, dtype=np.float32)[number % 4])
        assert voices.next_voice() in (*range(most), None)
