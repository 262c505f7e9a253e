from __future__ import annotations

from collections import defaultdict

import numpy as np
import numpy.typing as npt
import pytest

from mic_client.audio_file import SAMPLE_CALL_ROLES, load_sample_call
from ser_engine.config import EngineConfig, ModelConfig, VadConfig
from ser_engine.timeline.speech import WebRtcDetector

FloatArray = npt.NDArray[np.float32]


@pytest.fixture(scope="module")
def call() -> FloatArray:
    samples, rate_hz = load_sample_call()
    assert rate_hz == 16_000
    return samples


def test_it_is_two_people_for_forty_seconds(call: FloatArray):
    assert call.shape == (42 * 16_000, 2)
    assert len(SAMPLE_CALL_ROLES) == 2
    assert call.dtype == np.float32
    assert 0.5 < np.abs(call).max() <= 1.0


def test_speech_is_heard_in_both_and_pauses_between(call: FloatArray):
    heard = [
        np.array(WebRtcDetector(VadConfig()).push(call[:, channel].copy())) for channel in (0, 1)
    ]
    agent, customer = heard
    assert 0.25 < agent.mean() < 0.6
    assert 0.4 < customer.mean() < 0.8
    # They take turns.
    assert (agent & customer).mean() < 0.1
    # No cell before the first word is speech.
    assert not heard[0][:25].any()
    assert not heard[1][:150].any()


def test_the_customer_gets_loud_and_quiet_again(call: FloatArray):
    def level(start_s: float, end_s: float) -> float:
        part = call[int(start_s * 16_000) : int(end_s * 16_000), 1].astype(np.float64)
        return float(10 * np.log10(np.mean(np.square(part))))

    calm, agitated, tired = level(3.4, 5.6), level(18.6, 21.2), level(32.6, 34.8)
    assert agitated - calm > 8
    assert agitated - tired > 12


def test_the_built_in_model_hears_the_change(call: FloatArray, tmp_path_factory):
    import soundfile

    from ser_engine.core.factory import build_engine
    from ser_engine.files import StreamResult, analyze_file

    path = tmp_path_factory.mktemp("call") / "call.wav"
    soundfile.write(path, call[:, 1], 16_000)
    config = EngineConfig(model=ModelConfig(name="compact"))
    engine = build_engine(config)
    (customer,) = analyze_file(engine, path, "stream", config)
    assert isinstance(customer, StreamResult)

    def seconds(start_s: float, end_s: float) -> dict[str | None, float]:
        found: defaultdict[str | None, float] = defaultdict(float)
        for segment in customer.segments:
            inside_s = min(segment.end_s, end_s) - max(segment.start_s, start_s)
            if inside_s > 0:
                found[segment.label] += inside_s
        return found

    calm = {"neutral", "sad", None}
    assert set(seconds(0, 9)) <= calm
    shouted = seconds(18, 28)
    others_s = sum(time_s for label, time_s in shouted.items() if label not in ("angry", None))
    assert shouted["angry"] > 4 * others_s
    assert set(seconds(35.5, 42)) <= calm
