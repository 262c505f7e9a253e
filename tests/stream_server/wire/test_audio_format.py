from __future__ import annotations

from typing import Any

import pytest

from stream_server.wire.audio_format import AudioFormat, Encoding
from stream_server.wire.errors import ErrorCode, ProtocolError


@pytest.mark.parametrize(
    ("encoding", "bytes_per_sample"),
    [("pcm_s16le", 2), ("pcm_f32le", 4), ("mulaw", 1), ("alaw", 1)],
)
@pytest.mark.parametrize("num_channels", [1, 2, 8])
def test_bytes(encoding: Encoding, bytes_per_sample: int, num_channels: int):
    audio_format = AudioFormat(encoding, 8000, num_channels)
    assert audio_format.bytes_per_sample == bytes_per_sample
    assert audio_format.bytes_per_tick == bytes_per_sample * num_channels
    assert audio_format.bytes_per_s == 8000 * bytes_per_sample * num_channels


@pytest.mark.parametrize("sample_rate_hz", [8000, 11_025, 48_000])
def test_rates_that_are_taken(sample_rate_hz: int):
    assert AudioFormat("mulaw", sample_rate_hz).sample_rate_hz == sample_rate_hz


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("speex", 8000), "got encoding 'speex', expected one of pcm_s16le"),
        (("x" * 500, 8000), "got encoding 'xxx"),
        (("mulaw", 7999), "got sample_rate 7999, expected 8000 to 48000 Hz"),
        (("mulaw", 48_001), "got sample_rate 48001"),
        (("mulaw", 1 << 65), "got sample_rate a number beyond 64 bits"),
        (("mulaw", 8000, 0), "got 0 channels, expected 1 to 8"),
        (("mulaw", 8000, 9), "got 9 channels"),
    ],
)
def test_what_is_no_format_is_refused(arguments: tuple[Any, ...], expected: str):
    with pytest.raises(ProtocolError, match=expected) as caught:
        AudioFormat(*arguments)
    assert caught.value.code is ErrorCode.BAD_FORMAT
    assert len(str(caught.value)) < 250
