"""The JSON forms, to the letter: programs read them."""

from __future__ import annotations

import json

import numpy as np

from ser_engine.files import FrameResult, StreamResult, UtteranceResult
from ser_engine.schema import Gap, Point, Segment

LABELS = ("angry", "happy")
LOGITS = np.zeros((3, 2), np.float32)
POSTERIORS = np.array([[0.82, 0.18], [0.25, 0.75], [0.5, 0.5]])


def utterance() -> UtteranceResult:
    return UtteranceResult(LABELS, 16_000, LOGITS[0], np.array([0.76, 0.24]), LOGITS[0], -20.0)


def test_utterance() -> None:
    assert json.dumps(utterance().to_json()) == (
        '{"emotion": "angry", "confidence": 0.76, "granularity": "utterance"}'
    )
    assert utterance().to_json(scores=True)["scores"] == {"angry": 0.76, "happy": 0.24}


def test_frames() -> None:
    result = FrameResult(LABELS, 1200, 320, LOGITS, POSTERIORS, None)
    assert json.dumps(result.to_json()) == (
        '[{"time": 0.0, "emotion": "angry", "score": 0.82},'
        ' {"time": 0.02, "emotion": "happy", "score": 0.75},'
        ' {"time": 0.04, "emotion": "angry", "score": 0.5}]'
    )
    assert result.to_json(scores=True)[1]["scores"] == {"angry": 0.25, "happy": 0.75}


def test_frames_of_a_10_ms_timeline() -> None:
    result = FrameResult(LABELS, 1200, 160, LOGITS, POSTERIORS, None)
    assert [frame["time"] for frame in result.to_json()] == [0.0, 0.01, 0.02]
    np.testing.assert_array_equal(result.times_s, [0.0, 0.01, 0.02])


def test_stream() -> None:
    point = Point(
        start_sample=0,
        end_sample=4160,
        posteriors=(0.25, 0.75),
        label="happy",
        confidence=0.75,
        speech_share=1.0,
        provisional=True,
        widened=False,
    )
    result = StreamResult(
        LABELS,
        16_000,
        (point,),
        (Segment(start_sample=0, end_sample=4160, label="happy", confidence=0.7, final=True),),
        (Gap(start_sample=4160, end_sample=16_000, reason="silence", final=True),),
    )
    assert result.to_json() == {
        "granularity": "stream",
        "points": [
            {
                "start": 0.0,
                "end": 0.26,
                "emotion": "happy",
                "confidence": 0.75,
                "speech_share": 1.0,
                "provisional": True,
                "widened": False,
            }
        ],
        "segments": [{"start": 0.0, "end": 0.26, "emotion": "happy", "confidence": 0.7}],
        "gaps": [{"start": 0.26, "end": 1.0, "reason": "silence"}],
    }
    (scored,) = result.to_json(scores=True)["points"]
    assert scored["scores"] == {"angry": 0.25, "happy": 0.75}
    json.dumps(result.to_json(scores=True), allow_nan=False)
