from __future__ import annotations

import asyncio
from collections.abc import Iterable
from pathlib import Path

import msgspec
import numpy as np
import pytest
import soundfile

from examples.voice_agent import (
    MIN_INTERVAL_S,
    NOTE_MARK,
    Listener,
    Note,
    PushedAudio,
    ToneTracker,
    follow,
    recording,
)
from mic_client.sources import Chunk, Lost, SourceItem
from stream_server.wire.audio_format import AudioFormat
from stream_server.wire.results import Point, Result, StreamOpened
from tests.support.feeds import serve_feed
from tests.support.live_lab import chunks, level, live_lab, pcm
from tests.support.results import make_closed, make_gap, make_opened, make_point
from tests.support.virtual_time import virtual_time


def speech(*parts: tuple[str, float], start_s: float = 0.0, sure: float = 0.9) -> list[Point]:
    """Return points: emotions and for how many seconds each."""
    points = []
    at_s = start_s
    for emotion, seconds in parts:
        for _ in range(round(seconds / 0.5)):
            named = {emotion: sure} if emotion != "neutral" else {}
            points.append(make_point(at_s, **named))  # type: ignore[arg-type]
            at_s += 0.5
    return points


def notes_of(results: Iterable[Result], tracker: ToneTracker | None = None) -> list[Note]:
    tracker = tracker or ToneTracker()
    return [note for result in results if (note := tracker.update(result)) is not None]


def test_what_lasts_is_told_once():
    (note,) = notes_of(speech(("neutral", 5), ("angry", 20)))
    assert (note.emotion, note.at_s, note.lasted_s) == ("angry", 7.0, 2.0)
    assert note.confidence == pytest.approx(0.9)


def test_a_word_in_passing_is_not():
    assert notes_of(speech(*[("angry", 1.5), ("neutral", 1.5)] * 10)) == []


def test_the_end_is_told_too():
    told = notes_of(speech(("angry", 20), ("neutral", 20)))
    assert [note.emotion for note in told] == ["angry", "neutral"]


def test_nothing_is_said_of_somebody_who_sounds_as_usual():
    assert notes_of(speech(("neutral", 60))) == []


def test_not_more_often_than_agreed():
    told = notes_of(speech(*[("angry", 3), ("sad", 3)] * 10))
    gaps_s = np.diff([note.at_s for note in told])
    assert len(told) > 2
    assert min(gaps_s) >= MIN_INTERVAL_S


def test_what_changed_meanwhile_is_told_when_it_may_be():
    told = notes_of(speech(("angry", 3), ("neutral", 30)))
    assert [(note.emotion, note.at_s) for note in told] == [
        ("angry", 2.0),
        ("neutral", 2.0 + MIN_INTERVAL_S),
    ]


def test_silence_is_no_speech():
    points = [make_point(at * 0.5, angry=0.9, speech_share=0.1) for at in range(30)]
    assert notes_of(points) == []
    assert notes_of([*points, make_gap(15, 60), *speech(("angry", 1), start_s=60)]) != []


def test_what_is_not_sure_is_not_told_but_its_end_is():
    assert notes_of(speech(("angry", 20), sure=0.45)) == []
    angry = speech(("angry", 20))
    unsure = [
        msgspec.structs.replace(point, label="neutral", confidence=0.3)
        for point in speech(("neutral", 20), start_s=20)
    ]
    assert [note.emotion for note in notes_of([*angry, *unsure])] == ["angry", "neutral"]


def test_provisional_points_do_not_count():
    points = [msgspec.structs.replace(point, provisional=True) for point in speech(("angry", 20))]
    assert notes_of(points) == []


def test_what_an_llm_is_told():
    text = Note("angry", 0.78, 4.2, 10.0).text()
    assert text.startswith(NOTE_MARK)
    assert "sounded angry for the last 4 s of speech (confidence 78%)" in text
    assert "acted speech" in text
    assert "Do not name the emotion" in text
    assert "narrow telephone line" in Note("sad", 0.6, 4.2, 10.0, narrow_band=True).text()
    assert Note("neutral", 0.3, 2.0, 10.0).text() == (
        f"{NOTE_MARK} The user's voice sounds neutral again; speak as usual."
    )


# -- Audio that is handed over ---------------------------------------------------------------------


async def read(source: PushedAudio) -> list[SourceItem]:
    return [item async for item in source]


async def test_what_is_pushed_is_read_in_order():
    source = PushedAudio(AudioFormat("pcm_s16le", 8000))
    reader = asyncio.create_task(read(source))
    for data in (b"\1\2", b"", b"\3\4"):
        source.push(data)
        await asyncio.sleep(0)
    source.end()
    source.push(b"\5\6")
    assert await reader == [Chunk(b"\1\2"), Chunk(b"\3\4")]


async def test_what_nobody_takes_is_given_up_and_counted():
    source = PushedAudio(AudioFormat("pcm_s16le", 8000))
    for _ in range(7):
        source.push(bytes(16_000))
    source.end()
    assert await read(source) == [*[Chunk(bytes(16_000))] * 5, Lost(16_000)]


# -- Against a server ------------------------------------------------------------------------------


@virtual_time
async def test_a_listener_hears_the_user():
    told: list[Note] = []
    audio = pcm(np.concatenate([level(5, 0.3), level(8, 0.1)]))
    async with live_lab() as lab:
        listener = Listener(on_note=collect(told), url=lab.url, role="driver", name="a car")
        for chunk in chunks(audio, 3200):
            listener.push(chunk, 16_000)
            listener.push(b"\0\0" * 8, 8000)  # of another rate: left out
            await asyncio.sleep(0.1)
        await listener.aclose()
        opened = lab.published[0]
        assert isinstance(opened, StreamOpened)
        assert (opened.name, opened.channels[0].role) == ("a car", "driver")
    assert [note.emotion for note in told] == ["angry"]
    assert 7 <= told[0].at_s <= 8.5


@virtual_time
async def test_an_agent_goes_on_without_a_server(caplog: pytest.LogCaptureFixture):
    listener = Listener(on_note=collect([]), url="ws://127.0.0.1:9")
    listener.push(bytes(3200), 16_000)
    await asyncio.sleep(1)
    listener.push(bytes(3200), 16_000)
    await listener.aclose()
    assert "the tone of voice is not followed any more" in caplog.text


@virtual_time
async def test_an_agent_does_not_wait_for_a_server_that_is_away():
    told: list[Note] = []
    async with live_lab() as lab:
        lab.engine.delay_s = 1000.0
        listener = Listener(on_note=collect(told), url=lab.url)
        listener.push(pcm(level(3, 0.1)), 16_000)
        await asyncio.sleep(1)
        began_s = asyncio.get_running_loop().time()
        await listener.aclose(timeout_s=3.0)
        assert asyncio.get_running_loop().time() - began_s == pytest.approx(3.0)
        lab.engine.delay_s = 0.0
    assert told == []


async def test_a_listener_that_heard_nothing_ends_at_once():
    await Listener(on_note=collect([])).aclose()


async def test_a_stream_of_somebody_else_is_followed():
    told: list[Note] = []
    async with serve_feed() as server:
        server.publish(make_opened(roles=("customer",)))
        following = asyncio.create_task(follow(collect(told), "s1", server.url()))
        while server.num_subscribers("websocket") == 0:  # noqa: ASYNC110 - no event tells of it
            await asyncio.sleep(0)
        points = speech(("angry", 10))
        numbered = [
            msgspec.structs.replace(point, seq=seq) for seq, point in enumerate(points, start=1)
        ]
        server.publish(*numbered, make_closed(seq=len(points) + 1))
        await following
    assert [note.emotion for note in told] == ["angry"]


def test_a_recording_is_heard_in_mono(tmp_path: Path):
    path = tmp_path / "two.wav"
    soundfile.write(path, np.zeros((800, 2), dtype=np.float32), 8000)
    source = recording(path)
    assert (source.format.num_channels, source.format.sample_rate_hz) == (1, 8000)


def collect(told: list[Note]):
    async def take(note: Note) -> None:
        told.append(note)

    return take
