"""The form of the emotion2vec+ web demo, to the letter: programs read it."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from ser_engine.errors import ConfigError
from ser_engine.files import (
    AnalysisOptions,
    ChannelAnalysis,
    FileAnalysis,
    FrameResult,
    Result,
    StreamResult,
    UtteranceResult,
)
from tests.support.fake_engine import FakeEngine

LABELS = ("angry", "happy")
LOGITS = np.zeros((3, 2), np.float32)
POSTERIORS = np.array([[0.82, 0.18], [0.25, 0.75], [0.5, 0.5]])
SPEECH = np.ones(3, dtype=np.bool_)
UTTERANCE = UtteranceResult(LABELS, 16_000, LOGITS[0], np.array([0.76, 0.24]), LOGITS[0], -20.0)


def demo(*results: Result, scores: bool = False) -> Any:
    channels = tuple(ChannelAnalysis(result, UTTERANCE) for result in results)
    analysis = FileAnalysis("a.wav", FakeEngine().info, AnalysisOptions(), 1.0, 16_000, channels)
    return analysis.demo_json(scores=scores)


def test_utterance() -> None:
    assert json.dumps(demo(UTTERANCE)) == (
        '{"emotion": "angry", "confidence": 0.76, "granularity": "utterance"}'
    )
    assert demo(UTTERANCE, scores=True)["scores"] == {"angry": 0.76, "happy": 0.24}


@pytest.mark.parametrize(("hop", "times"), [(320, [0.0, 0.02, 0.04]), (160, [0.0, 0.01, 0.02])])
def test_frames(hop: int, times: list[float]) -> None:
    result = FrameResult(LABELS, 1200, hop, LOGITS, POSTERIORS, SPEECH, 0.0, None)
    assert json.dumps(demo(result)[:2]) == (
        '[{"time": 0.0, "emotion": "angry", "score": 0.82},'
        f' {{"time": {times[1]}, "emotion": "happy", "score": 0.75}}]'
    )
    assert demo(result, scores=True)[1]["scores"] == {"angry": 0.25, "happy": 0.75}
    assert [frame["time"] for frame in demo(result)] == times
    np.testing.assert_array_equal(result.times_s, times)


def test_channels_count_from_0() -> None:
    entries = demo(UTTERANCE, UTTERANCE)
    assert [list(entry) for entry in entries] == [
        ["channel", "emotion", "confidence", "granularity"]
    ] * 2
    assert [entry["channel"] for entry in entries] == [0, 1]
    frames = FrameResult(LABELS, 1200, 320, LOGITS, POSTERIORS, SPEECH, 0.0, None)
    assert list(demo(frames, frames)[1]) == ["channel", "granularity", "frames"]


def test_there_are_no_streams() -> None:
    with pytest.raises(ConfigError, match="has no streams"):
        demo(StreamResult(LABELS, 16_000, (), (), ()))
