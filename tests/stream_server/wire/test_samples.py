from __future__ import annotations

import io

import numpy as np
import pytest
import soundfile

from stream_server.wire.audio_format import AudioFormat, Encoding
from stream_server.wire.samples import ALAW, ALAW_PCM16, MULAW, MULAW_PCM16, decode


def test_mulaw_says_what_the_recommendation_says():
    # Table 2a of G.711: values at the decoder output, 14 bits, shifted by 2.
    values = {0x80: 8031, 0x8F: 4191, 0x90: 3999, 0x9F: 2079, 0xDF: 99, 0xE0: 93, 0xEF: 33}
    values |= {0xF0: 30, 0xFE: 2, 0xFF: 0}
    for code, value in values.items():
        assert MULAW_PCM16[code] == value * 4
        assert MULAW_PCM16[code & 0x7F] == -value * 4


def test_alaw_says_what_the_recommendation_says():
    # Table 1a of G.711: values at the decoder output, 13 bits, shifted by 3; on the line the even
    # bits are inverted.
    values = {127: 4032, 112: 2112, 111: 2016, 96: 1056, 47: 126, 32: 66, 31: 63, 1: 3, 0: 1}
    for number, value in values.items():
        code = (0x80 | number) ^ 0x55
        assert ALAW_PCM16[code] == value * 8
        assert ALAW_PCM16[code & 0x7F if code & 0x80 else code | 0x80] == -value * 8


def test_every_code_has_its_own_value_but_for_the_two_zeros_of_mulaw():
    assert len(set(ALAW_PCM16.tolist())) == 256
    assert len(set(MULAW_PCM16.tolist())) == 255


def test_both_tables_are_odd_and_within_full_scale():
    for table in (MULAW, ALAW):
        assert table.dtype == np.float32
        assert table.shape == (256,)
        np.testing.assert_array_equal(np.sort(table), np.sort(-table))
        assert 0.97 < table.max() < 1


def test_pcm_is_scaled_as_files_are(rng: np.random.Generator):
    pcm = rng.integers(-32_768, 32_768, (100, 2), dtype=np.int16)
    file = io.BytesIO()
    soundfile.write(file, pcm, 16_000, subtype="PCM_16", format="WAV")
    file.seek(0)
    expected, _ = soundfile.read(file, dtype="float32")
    decoded = decode(pcm.astype("<i2").tobytes(), AudioFormat("pcm_s16le", 16_000, 2))
    assert decoded.dtype == np.float32
    np.testing.assert_array_equal(decoded, expected)


def test_floats_come_as_they_are():
    values = np.array([[0.5, -2.0], [np.nan, np.inf]], dtype="<f4")
    decoded = decode(values.tobytes(), AudioFormat("pcm_f32le", 16_000, 2))
    np.testing.assert_array_equal(decoded, values)


@pytest.mark.parametrize(("encoding", "subtype"), [("mulaw", "ULAW"), ("alaw", "ALAW")])
def test_g711_is_decoded_as_files_are(encoding: Encoding, subtype: str):
    codes = bytes(range(256))
    file = io.BytesIO(codes)
    expected, _ = soundfile.read(
        file, dtype="float32", format="RAW", subtype=subtype, samplerate=8000, channels=2
    )
    decoded = decode(codes, AudioFormat(encoding, 8000, 2))
    np.testing.assert_array_equal(decoded, expected)


def test_no_bytes_are_no_samples():
    assert decode(b"", AudioFormat("mulaw", 8000, 2)).shape == (0, 2)
