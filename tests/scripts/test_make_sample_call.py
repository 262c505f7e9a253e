from __future__ import annotations

import numpy as np
import pytest
import soundfile

from emotion_monitor.compare import child
from scripts.make_sample_call import (
    ANGRY,
    ASSET,
    CUSTOMER,
    PHRASES,
    Prosody,
    Voice,
    make_sample_call,
    say,
)


def test_the_packaged_call_is_the_one_this_makes():
    call = make_sample_call()
    packaged, rate_hz = soundfile.read(ASSET, dtype="float32")
    assert (rate_hz, packaged.shape) == (16_000, call.shape)
    error = np.sqrt(np.mean(np.square(packaged - call)))
    # What Vorbis changes is noise of one seventh of the level of the call, below what is audible.
    assert error < 0.2 * np.sqrt(np.mean(np.square(call)))
    assert ASSET.stat().st_size < 400_000


def test_the_comparison_takes_calm_and_angry_phrases_from_it():
    customers = [each for each in PHRASES if each.channel == CUSTOMER]
    spans = {
        (each.start_s, round(each.start_s + each.duration_s, 3)): each.prosody for each in customers
    }
    assert [spans[span] for span in child._ANGRY_S] == [ANGRY] * 3
    assert len({id(spans[span]) for span in child._CALM_S}) == 1


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
