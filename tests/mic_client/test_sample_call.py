from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from mic_client.sample_call import SAMPLE_CALL_ROLES, make_sample_call
from mic_client.synthesis import Prosody, Voice, say
from ser_engine.config import EngineConfig, ModelConfig, VadConfig
from ser_engine.timeline.speech import WebRtcDetector

FloatArray = npt.NDArray[np.float32]


@pytest.fixture(scope="module")
def call() -> FloatArray:
    samples, rate_hz = make_sample_call()
    assert rate_hz == 16_000
    return samples


def test_it_is_always_the_same_call(call: FloatArray):
    again, _ = make_sample_call()
    assert np.array_equal(call, again)


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

    def labels(result: StreamResult, start_s: float, end_s: float) -> set[str]:
        return {
            each.label
            for each in result.segments
            if each.start_sample < end_s * 16_000 and each.end_sample > start_s * 16_000
        }

    calm = {"neutral", "sad"}
    assert labels(customer, 0, 9) <= calm
    assert "angry" in labels(customer, 18, 28)
    assert not labels(customer, 18, 28) & calm
    assert labels(customer, 35.5, 42) <= calm


@pytest.mark.parametrize("pitch_hz", [110.0, 220.0])
def test_a_phrase_has_the_pitch_and_level_it_was_asked_for(pitch_hz: float):
    prosody = Prosody(range_semitones=0, fall_semitones=0, shake=0, breath=0, level_dbfs=-20)
    phrase = say(Voice(pitch_hz, 1.0), prosody, 2.0, np.random.default_rng(0), 16_000)
    assert 10 * np.log10(np.mean(np.square(phrase, dtype=np.float64))) == pytest.approx(-20, abs=1)
    # The autocorrelation of a voiced sound peaks at its period.
    spectrum = np.abs(np.fft.rfft(phrase, 1 << 17)) ** 2
    correlation = np.fft.irfft(spectrum)
    lags = np.arange(16_000 // 300, 16_000 // 80)
    period = lags[np.argmax(correlation[lags])]
    assert 16_000 / period == pytest.approx(pitch_hz, rel=0.03)
