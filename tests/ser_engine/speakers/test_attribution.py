from __future__ import annotations

import numpy as np

from ser_engine.frames import SAMPLE_RATE_HZ
from ser_engine.schema import Event, Frames, Gap, Point, Segment
from ser_engine.speakers.attribution import Attribution
from ser_engine.speakers.live import LiveSpeakers
from tests.ser_engine.speakers.voices import LoudIsSpeech, embedding, talk

# Speaker 1, then speaker 2, whose first seconds are nobody's until the voice is known, then 1.
TALK = ((1, 9.0), (2, 9.0), (1, 6.0))


def attribution(*, leaves_first_out: bool = False) -> Attribution:
    return Attribution(
        LiveSpeakers(LoudIsSpeech(), threshold=0.6, max_speakers=8),
        leaves_first_out=leaves_first_out,
    )


def hear(apart: Attribution, *parts: tuple[int, float]) -> None:
    for block in np.split(talk(*parts), 20):
        apart.speakers.push(block)
        for piece in apart.speakers.take_pieces():
            apart.speakers.accept(piece, embedding(piece))


def segment(start_s: float, end_s: float, *, final: bool = True, label: str = "angry") -> Segment:
    start, end = round(start_s * SAMPLE_RATE_HZ), round(end_s * SAMPLE_RATE_HZ)
    return Segment(start_sample=start, end_sample=end, label=label, confidence=0.7, final=final)


def point(start_s: float, end_s: float, frames: Frames | None = None) -> Point:
    return Point(
        start_sample=round(start_s * SAMPLE_RATE_HZ),
        end_sample=round(end_s * SAMPLE_RATE_HZ),
        posteriors=(0.9, 0.1),
        label="angry",
        confidence=0.9,
        speech_share=1.0,
        provisional=False,
        widened=False,
        frames=frames,
    )


def told(events: list[Event]) -> list[tuple[float, float, str, bool]]:
    """Return start and end, s, who speaks or why it is a gap, and whether it is final."""
    return [
        (
            each.start_s,
            each.end_s,
            each.reason if isinstance(each, Gap) else str(each.speaker or ""),
            getattr(each, "final", True),
        )
        for each in events
    ]


def test_a_segment_is_cut_where_another_person_begins() -> None:
    apart = attribution()
    hear(apart, *TALK, (0, 4.0))
    apart.take([segment(0, 24)])
    parts = told([*apart.release(), *apart.finish()])
    assert [who for _, _, who, _ in parts] == ["speaker 1", "", "speaker 2", "speaker 1"]
    assert parts[0][0] == 0
    assert parts[-1][1] == 24
    # They tile what the segment was.
    assert [end for _, end, _, _ in parts[:-1]] == [start for start, _, _, _ in parts[1:]]
    assert all(final for _, _, _, final in parts)


def test_what_is_announced_comes_true() -> None:
    apart = attribution()
    hear(apart, *TALK, (0, 4.0))
    apart.take([segment(0, 5, final=False), segment(0, 20, final=False), segment(0, 24)])
    parts = told([*apart.release(), *apart.finish()])
    final = [each for each in parts if each[3]]
    assert [end for _, end, _, _ in final[:-1]] == [start for start, _, _, _ in final[1:]]
    for start, end, who, _ in (each for each in parts if not each[3]):
        (came,) = [each for each in final if each[0] == start]
        assert came[2] == who
        assert came[1] >= end


def test_results_wait_until_it_is_decided_who_speaks() -> None:
    apart = attribution()
    hear(apart, (1, 2.0))
    apart.take([point(0.0, 0.5)])
    assert apart.release() == []
    assert apart.released_to == 0
    hear(apart, (1, 4.0))
    assert told(apart.release()) == [(0.0, 0.5, "speaker 1", True)]


def test_the_agent_is_left_out_from_the_first_word() -> None:
    apart = attribution(leaves_first_out=True)
    hear(apart, *TALK, (0, 4.0))
    apart.take([point(1, 1.5), point(15, 15.5), segment(0, 8), segment(8, 24)])
    parts = told(apart.release())
    assert parts[:1] == [(15, 15.5, "speaker 2", True)]
    assert [who for _, _, who, _ in parts[1:]] == [
        "left_out",
        "left_out",
        "",
        "speaker 2",
        "left_out",
    ]
    agent, customer = apart.measures()
    assert agent.left_out
    assert not customer.left_out
    assert agent.labels == {}
    assert customer.labels == {"angry": 1.0}
    assert 0.5 < agent.talk_share < 0.8


def test_who_is_named_later_is_left_out_from_there_on() -> None:
    apart = attribution()
    hear(apart, (1, 12.0), (0, 4.0))
    apart.take([segment(0, 5, final=False)])
    assert told(apart.release()) == [(0, 5, "speaker 1", False)]
    apart.leave_out(0, True)
    apart.take([segment(0, 12)])
    # What was announced stays as it was.
    assert told(apart.release()) == [(0, 5, "speaker 1", True), (5, 12, "left_out", True)]


def test_frames_of_who_is_left_out_are_no_part_of_a_point() -> None:
    apart = attribution(leaves_first_out=True)
    hear(apart, (1, 6.0), (0, 0.5), (2, 12.0), (0, 4.0))
    starts = tuple(range(round(5.8 * SAMPLE_RATE_HZ), 8 * SAMPLE_RATE_HZ, 3200))
    frames = Frames(
        start_samples=starts,
        hop_samples=320,
        posteriors=((0.9, 0.1),) * len(starts),
        labels=("angry",) * len(starts),
    )
    apart.take([point(5.8, 8.0, frames)])
    (left,) = apart.release()
    assert isinstance(left, Point)
    assert left.frames is not None
    # Of the pause the agent is the last who spoke, too.
    assert left.frames.start_samples == starts[4:]
    assert len(left.frames.posteriors) == len(left.frames.labels) == len(starts) - 4
