from __future__ import annotations

import numpy as np
import pytest

from emotion_monitor.compare.child import CHANGES_MS, changed_speech, smallest_change_ms
from ser_engine.config import EngineConfig, VadConfig
from ser_engine.files import Result, analyze
from ser_engine.schema import Granularity
from ser_engine.types import FloatArray
from tests.support.fake_engine import FakeEngine


def loudness(frames: FloatArray, window: object) -> FloatArray:
    """Certain of anger where a frame is loud, certain of something else where it is not."""
    is_loud = np.abs(frames).max(axis=1) > 0.2
    logits = np.zeros((len(frames), 4), dtype=np.float32)
    logits[np.arange(len(frames)), np.where(is_loud, 0, 2)] = 20
    return logits


def test_speech_is_changed_in_its_middle_only():
    calm, changed = changed_speech(0), changed_speech(320)
    (different,) = np.nonzero(calm != changed)
    assert len(calm) == 128_000
    assert 64_000 - 2_560 <= different.min() < different.max() < 64_000 + 2_560
    np.testing.assert_array_equal(calm, changed_speech(0))


def test_a_finer_granularity_sees_a_smaller_change():
    def smallest(granularity: Granularity) -> int | None:
        def analyse(samples: FloatArray) -> Result:
            config = EngineConfig(vad=VadConfig(detector="off"))
            engine = FakeEngine(loudness)
            found = analyze(samples, granularity, engine=engine, config=config)
            return found.channels[0].result

        return smallest_change_ms(analyse)

    frame, stream, utterance = smallest("frame"), smallest("stream"), smallest("utterance")
    assert frame is not None
    assert stream is not None
    assert utterance is not None
    assert frame <= stream <= utterance
    assert frame < utterance


def test_what_sees_nothing_says_so():
    engine = FakeEngine(lambda frames, window: np.zeros((len(frames), 4), dtype=np.float32))
    seen = smallest_change_ms(
        lambda samples: analyze(samples, "frame", engine=engine).channels[0].result
    )
    assert seen is None
    assert max(CHANGES_MS) < 8_000


@pytest.mark.parametrize("change_ms", CHANGES_MS)
def test_a_change_stays_in_range(change_ms: int):
    assert np.abs(changed_speech(change_ms)).max() <= 1
