"""What a stream promises, with the engine and real speech: chunking and files do not matter."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from ser_engine.config import EngineConfig
from ser_engine.core.engine import EngineCore
from ser_engine.files import StreamResult, analyze_file
from ser_engine.schema import Event, Point, Segment
from ser_engine.timeline import ChannelStream
from ser_engine.types import FloatArray
from tests.conftest import SpeechClip
from tests.support.networks import engine

CONFIG = EngineConfig()


@pytest.fixture(scope="module")
def core(tiny_checkpoint_dir: Path) -> EngineCore:
    return engine(tiny_checkpoint_dir, exact=False)


@pytest.fixture(scope="module")
def speech(speech_clips: tuple[SpeechClip, ...]) -> FloatArray:
    """Seven seconds of three people with a pause between."""
    pause = np.zeros(16_000, dtype=np.float32)
    parts = [part for clip in speech_clips[::3] for part in (clip.samples[:40_000], pause)]
    return np.concatenate(parts)


def timeline(core: EngineCore, chunks: list[FloatArray], key: str) -> list[Event]:
    stream = ChannelStream(CONFIG, core.info, key)
    events: list[Event] = []
    for windows in (*map(stream.push, chunks), stream.finish()):
        for window in windows:
            (outcome,) = core.step([window])
            events += stream.accept(window, outcome)
        events += stream.take_events()
    events += stream.close()
    core.forget(key)
    return events


def check_equal(ours: list[Event], theirs: list[Event]) -> None:
    assert [type(event) for event in ours] == [type(event) for event in theirs]
    for one, other in zip(ours, theirs, strict=True):
        assert (one.start_sample, one.end_sample) == (other.start_sample, other.end_sample)
        if isinstance(one, Point):
            assert isinstance(other, Point)
            np.testing.assert_array_equal(one.posteriors, other.posteriors)
            assert one.label == other.label
        if isinstance(one, Segment):
            assert isinstance(other, Segment)
            assert one.label == other.label


@pytest.mark.needs("shared-data")
@settings(max_examples=8)
@given(data=st.data())
def test_chunking_does_not_matter(
    core: EngineCore, speech: FloatArray, data: st.DataObject
) -> None:
    whole = timeline(core, [speech], "whole")
    cuts = sorted(data.draw(st.lists(st.integers(0, len(speech)), max_size=40)))

    chunked = timeline(core, np.split(speech, cuts), "chunked")

    assert sum(isinstance(event, Point) for event in whole) >= 8
    check_equal(chunked, whole)


@pytest.mark.needs("shared-data")
def test_a_stream_of_20_ms_packets_equals_the_file(
    core: EngineCore, speech: FloatArray, tmp_path: Path
) -> None:
    path = tmp_path / "speech.wav"
    soundfile.write(path, speech, 16_000, subtype="FLOAT")

    (of_file,) = analyze_file(core, path, "stream", CONFIG)
    live = timeline(core, np.split(speech, range(320, len(speech), 320)), "live")

    assert isinstance(of_file, StreamResult)
    points = [event for event in live if isinstance(event, Point)]
    segments = [event for event in live if isinstance(event, Segment) and event.final]
    assert len(of_file.points) == len(points)
    check_equal(list(of_file.points), list(points))
    check_equal(list(of_file.segments), list(segments))
