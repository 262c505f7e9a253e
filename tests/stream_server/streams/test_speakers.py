from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence

import msgspec
import numpy as np
import pytest

from ser_engine.config import EngineConfig, SpeakersConfig
from ser_engine.errors import CheckpointError
from ser_engine.speakers.pieces import VoicePiece
from ser_engine.types import FloatArray
from stream_server.streams.hearing import MAX_WAITING, VoiceLane, Voices
from stream_server.streams.session import Session
from stream_server.wire.results import Flushed, Gap, Marked, Point, Result, Segment
from tests.stream_server.streams.sessions import (
    CONFIG,
    answer,
    babble,
    check_tiling,
    encode,
    gap_spans,
    make_session,
    points,
    summary,
    tiles,
)
from tests.support.fake_engine import FakeEngine

RATE = 16_000


class PitchIsVoice:
    """Embeds by where the energy of the voice lies: :func:`babble` has a pitch a channel."""

    name = "pitch"

    def embed(self, pieces: Sequence[FloatArray]) -> list[FloatArray]:
        return [self._embed(piece) for piece in pieces]

    def _embed(self, piece: FloatArray) -> FloatArray:
        energy = np.abs(np.fft.rfft(piece)) ** 2
        hz = np.fft.rfftfreq(len(piece), 1 / RATE)
        bands = [energy[(hz > low) & (hz < low + 50)].sum() for low in (95, 155, 215)]
        vector = np.array(bands, dtype=np.float32)
        return vector / np.float32(np.linalg.norm(vector))


VOICES = PitchIsVoice()


def call(*turns: tuple[int, float]) -> FloatArray:
    """Return one channel in which people, 0, 1, …, take turns of so many seconds."""
    parts = []
    for who, seconds in turns:
        parts.append(babble(round(seconds * RATE), channels=who + 1)[:, who])
    return np.concatenate(parts)


CALL = call((0, 8), (1, 10), (0, 6), (1, 6))


def hear(session: Session) -> None:
    for channel, piece in session.take_pieces():
        session.answer_voice(channel, piece, *VOICES.embed([piece.samples]))


def drive(
    session: Session, data: bytes, sizes: Iterable[int] = (), mark_at: int = -1
) -> list[Result]:
    """Stream data in messages of ``sizes``, then the rest; what is asked is answered at once."""
    engine = FakeEngine()
    session.opened(at=1.0)
    ends = sorted({*np.cumsum([*sizes], dtype=int).tolist(), mark_at, len(data)} - {-1})
    start = 0
    for end in ends:
        session.receive(data[start:end])
        start = end
        while session.has_backlog:
            answer(session, session.advance(), engine)
            hear(session)
        if end == mark_at:
            session.mark("here")
    answer(session, session.finish(), engine)
    hear(session)
    session.close("stopped", at=2.0)
    return session.take_results()


def pcm(*channels: FloatArray) -> bytes:
    return encode(np.stack(channels, axis=1), "pcm_s16le")


def test_results_say_who_speaks_and_the_summary_adds_up() -> None:
    session = make_session(speakers={0: "apart"})
    results = drive(session, pcm(CALL))
    check_tiling(results, len(CALL))
    said = {point.speaker for point in points(results)}
    assert {"speaker 1", "speaker 2"} <= said
    labels = {each.speaker for each in tiles(results) if isinstance(each, Segment)}
    assert {"speaker 1", "speaker 2"} <= labels
    measures = summary(results).measures
    assert measures is not None
    assert measures.channels[0].speakers
    one, two = measures.channels[0].speakers
    assert (one.name, two.name) == ("speaker 1", "speaker 2")
    assert one.talk_s > 5
    assert two.talk_s > 5
    assert one.talk_share + two.talk_share <= 1


def test_the_agent_who_speaks_first_has_no_results() -> None:
    whole = drive(make_session(speakers={0: "apart"}), pcm(CALL))
    results = drive(make_session(speakers={0: "agent_first"}), pcm(CALL))
    check_tiling(results, len(CALL))
    kept = [each for each in points(whole) if each.speaker != "speaker 1"]
    assert [each.start_sample for each in points(results)] == [each.start_sample for each in kept]
    assert "speaker 1" not in {each.speaker for each in tiles(results) if isinstance(each, Segment)}
    assert "left_out" in {reason for _, _, reason in gap_spans(results)}
    assert summary(results).channels[0].gap_s["left_out"] > 5


def test_splits_change_nothing() -> None:
    part = CALL[4 * RATE : 16 * RATE]
    data = pcm(part, np.roll(part, 5 * RATE))

    def run(sizes: Iterable[int]) -> list[bytes]:
        roles = ("customer", "speaker")
        session = make_session(roles=roles, speakers={0: "apart", 1: "agent_first"})
        return [msgspec.json.encode(each) for each in drive(session, data, sizes)]

    assert run([640] * 700) == run([64_000, 33, 500_000]) == run(())


def test_a_mark_comes_after_the_results_before_it() -> None:
    session = make_session(speakers={0: "apart"})
    results = drive(session, pcm(CALL), mark_at=2 * 10 * RATE)
    (mark,) = [each for each in results if isinstance(each, Marked)]
    before = [each for each in points(results) if each.end_sample <= 10 * RATE - 1600]
    assert before
    assert all(each.seq < mark.seq for each in before)


def test_a_flush_waits_for_no_audio() -> None:
    session, engine = make_session(speakers={0: "apart"}), FakeEngine()
    session.opened(at=1.0)
    session.receive(pcm(CALL[: 3 * RATE]))
    while session.has_backlog:
        answer(session, session.advance(), engine)
    answer(session, session.flush(), engine)
    assert not [each for each in session.take_results() if isinstance(each, Flushed | Point)]
    hear(session)
    results = session.take_results()
    assert isinstance(results[-1], Flushed)
    assert {each.speaker for each in points(results)} == {"speaker 1"}


def test_who_is_named_by_somebody_is_left_out() -> None:
    session, engine = make_session(speakers={0: "apart"}), FakeEngine()
    session.opened(at=1.0)
    session.receive(pcm(CALL[: 6 * RATE]))
    while session.has_backlog:
        answer(session, session.advance(), engine)
        hear(session)
    assert not session.leave_out(0, "speaker 2", True)
    assert not session.leave_out(1, "speaker 1", True)
    assert session.leave_out(0, "speaker 1", True)
    session.take_results()
    answer(session, session.finish(), engine)
    hear(session)
    session.close("stopped", at=2.0)
    results = session.take_results()
    assert points(results) == []
    assert {each.reason for each in tiles(results) if isinstance(each, Gap)} >= {"left_out"}


async def test_a_live_stream_gives_up_what_waits_too_long() -> None:
    session = make_session(speakers={0: "apart"})
    answered: list[tuple[int, VoicePiece, FloatArray | None]] = []
    session.answer_voice = lambda *args: answered.append(args)  # type: ignore[method-assign]

    class Never(Voices):
        async def embed(self, piece: VoicePiece) -> FloatArray | None:
            await asyncio.get_running_loop().create_future()
            return None

    lane = VoiceLane(session, Never(EngineConfig()), lambda: None)
    pieces = [VoicePiece(np.zeros(8_000, np.float32), n, n + 1, n + 1) for n in range(20)]
    for piece in pieces:
        await lane.put(0, piece, patient=False)
    # None is in the thread yet: its task had no turn.
    assert [each[1] for each in answered] == pieces[: 20 - MAX_WAITING]
    assert all(each[2] is None for each in answered)
    await lane.aclose()


async def test_a_recording_waits_until_its_voices_were_heard() -> None:
    session = make_session(speakers={0: "apart"})
    answered: list[tuple[int, VoicePiece, FloatArray | None]] = []
    session.answer_voice = lambda *args: answered.append(args)  # type: ignore[method-assign]
    voices = Voices(EngineConfig(), VOICES)
    lane = VoiceLane(session, voices, lambda: None)
    piece = VoicePiece(CALL[:RATE], 0, RATE, RATE)
    await lane.put(0, piece, patient=True)
    ((channel, heard, vector),) = answered
    assert (channel, heard) == (0, piece)
    assert vector is not None
    assert np.linalg.norm(vector) == pytest.approx(1)
    voices.close()


async def test_a_model_that_fails_is_nobodys_voice() -> None:
    voices = Voices(EngineConfig(speakers=SpeakersConfig(model="/no/such/file")))
    with pytest.raises(CheckpointError, match="no file or folder"):
        voices.check()
    piece = VoicePiece(np.zeros(8_000, np.float32), 0, 8_000, 8_000)
    assert await voices.embed(piece) is None
    voices.close()


def test_nobody_is_told_apart_unless_it_is_asked_for() -> None:
    session = make_session(config=CONFIG)
    drive(session, pcm(CALL[: 4 * RATE]))
    assert session.take_pieces() == []
