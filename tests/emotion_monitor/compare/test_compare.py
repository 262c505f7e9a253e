from __future__ import annotations

import numpy as np
import pytest

from emotion_monitor.compare import (
    Run,
    Turn,
    agreement,
    difference,
    labels_of,
    posteriors_of,
    runs,
    turns,
)
from emotion_monitor.compare.page import chart
from ser_engine.config import EngineConfig, VadConfig
from ser_engine.files import Result, analyze
from ser_engine.schema import Granularity
from ser_engine.types import FloatArray
from tests.ser_engine.timeline.streams import make_audio
from tests.support.fake_engine import FakeEngine

ANGRY, HAPPY, NOTHING = 0, 1, -1
NAMES = ("angry", "happy", "neutral", "unknown")


def result(audio: FloatArray, granularity: Granularity, frame_hop_ms: int = 20) -> Result:
    config = EngineConfig(vad=VadConfig(detector="off"))
    found = analyze(
        audio, granularity, engine=FakeEngine(), config=config, frame_hop_ms=frame_hop_ms
    )
    return found.channels[0].result


@pytest.fixture
def calming() -> FloatArray:
    """Three seconds of one emotion, then three of another."""
    return make_audio((48_000, 0.1), (48_000, 0.2))


@pytest.mark.parametrize(("granularity", "hop"), [("utterance", 20), ("frame", 20), ("frame", 10)])
def test_every_cell_has_a_label(granularity: Granularity, hop: int, calming: FloatArray):
    found = result(calming, granularity, hop)
    cells, rows = labels_of(found), posteriors_of(found)
    assert len(cells) == len(rows) == 300
    assert (cells == rows.argmax(axis=1)).all()
    if granularity == "frame":
        assert cells[100] == ANGRY
        assert cells[200] == HAPPY


def test_a_stream_turns_where_the_emotion_does(calming: FloatArray):
    (turn,) = turns(labels_of(result(calming, "stream")), NAMES)
    assert (turn.before, turn.after) == ("angry", "happy")
    assert turn.at_s == pytest.approx(3.0, abs=0.8)


def test_silence_has_no_label():
    config = EngineConfig()
    silence = np.zeros(32_000, dtype=np.float32)
    found = analyze(silence, "stream", engine=FakeEngine(), config=config).channels[0].result
    assert (labels_of(found) == NOTHING).all()
    assert np.isnan(posteriors_of(found)).all()
    assert turns(labels_of(found), NAMES) == []


def test_agreement_is_of_the_time_both_tell_of():
    one = np.array([ANGRY, ANGRY, HAPPY, NOTHING, HAPPY])
    assert agreement(one, np.array([ANGRY, HAPPY, HAPPY, HAPPY])) == pytest.approx(2 / 3)
    assert agreement(one, np.full(5, NOTHING)) is None
    assert agreement(one, one) == 1.0


def test_a_pause_is_no_turn():
    cells = np.array([ANGRY, NOTHING, ANGRY, NOTHING, HAPPY, HAPPY])
    assert turns(cells, NAMES) == [Turn(0.08, "angry", "happy")]
    assert list(runs(cells, NAMES)) == [
        Run(0.0, 0.02, "angry"),
        Run(0.04, 0.06, "angry"),
        Run(0.08, 0.12, "happy"),
    ]
    assert list(runs(np.array([], dtype=np.int64), NAMES)) == []


def test_the_difference_is_the_largest(calming: FloatArray):
    whole = result(calming, "frame")
    assert difference(whole, whole) == 0.0
    other = calming.copy()
    other[1_600:4_800] = np.sign(other[1_600:4_800]) * 0.3
    assert difference(whole, result(other, "frame")) > 0.9


def test_only_one_of_them_tells_of_a_time():
    # It takes a made-up tone for speech, which Silero's does not.
    config = EngineConfig(vad=VadConfig(detector="webrtc"))
    speech, silence = (
        analyze(audio, "stream", engine=FakeEngine(), config=config).channels[0].result
        for audio in (make_audio((32_000, 0.1)), np.zeros(32_000, dtype=np.float32))
    )
    assert difference(speech, silence) == 1.0


def test_a_chart_is_no_finer_than_a_screen():
    long = np.tile(make_audio((640, 0.1), (640, 0.2)), 700)
    names: tuple[Granularity, ...] = ("utterance", "frame")
    drawn = chart({name: result(long, name) for name in names})
    assert len(drawn["times"]) == len(drawn["series"]["angry"]) <= 600
    assert all(len(ribbon) <= 601 for ribbon in drawn["ribbons"].values())
    assert sum(values[5] for values in drawn["series"].values()) == pytest.approx(1.0, abs=1e-3)
    assert drawn["ribbons"]["utterance"] == [[0.0, 56.0, drawn["ribbons"]["utterance"][0][2]]]
