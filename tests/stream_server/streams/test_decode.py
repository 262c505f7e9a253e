from __future__ import annotations

import io

import numpy as np
import pytest
import soundfile

from stream_server.streams.intake import decode
from stream_server.wire.audio_format import AudioFormat, Encoding


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
