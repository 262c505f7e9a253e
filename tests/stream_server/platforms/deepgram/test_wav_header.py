from __future__ import annotations

import io
import struct

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from stream_server.platforms.deepgram.dialect import MAX_HEADER_BYTES, read_wav_header
from stream_server.wire.errors import ErrorCode, ProtocolError

FORMAT = struct.pack("<HHIIHH", 1, 1, 16_000, 32_000, 2, 16)


def chunk(name: bytes, data: bytes, length: int | None = None) -> bytes:
    size = len(data) if length is None else length
    return name + size.to_bytes(4, "little") + data + bytes(len(data) % 2)


def wav(*chunks: bytes) -> bytes:
    return b"RIFF\xff\xff\xff\xffWAVE" + b"".join(chunks)


@pytest.mark.parametrize(
    ("subtype", "container", "ours"),
    [
        ("PCM_16", "WAV", "pcm_s16le"),
        ("FLOAT", "WAV", "pcm_f32le"),
        ("ULAW", "WAV", "mulaw"),
        ("ALAW", "WAV", "alaw"),
        ("PCM_16", "WAVEX", "pcm_s16le"),
        ("FLOAT", "WAVEX", "pcm_f32le"),
    ],
)
def test_files_of_another_program(subtype: str, container: str, ours: str):
    file = io.BytesIO()
    samples = np.zeros((50, 2), dtype=np.float32)
    soundfile.write(file, samples, 8000, subtype=subtype, format=container)
    data = file.getvalue()
    header = read_wav_header(data)
    assert header is not None
    assert (header.encoding, header.sample_rate_hz, header.num_channels) == (ours, 8000, 2)
    assert header.data_bytes is not None
    assert header.size_bytes + header.data_bytes <= len(data)
    assert header.data_bytes == 100 * {"pcm_s16le": 2, "pcm_f32le": 4}.get(ours, 1)


@given(st.integers(0, 200))
def test_a_header_that_comes_in_pieces(length: int):
    data = wav(chunk(b"LIST", b"odd"), chunk(b"fmt ", FORMAT), chunk(b"data", b"\1\2" * 20))
    header = read_wav_header(data[:length])
    size = data.index(b"data") + 8
    assert (header is None) == (length < size)
    if header is not None:
        assert (header.size_bytes, header.data_bytes) == (size, 40)


@pytest.mark.parametrize("length", [0, 0xFFFF_FFFF, 0x7FFF_FFFF, 0x7FFF_F000])
def test_a_length_that_was_not_known_yet(length: int):
    header = read_wav_header(wav(chunk(b"fmt ", FORMAT), chunk(b"data", b"", length)))
    assert header is not None
    assert header.data_bytes is None


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"\x1aE\xdf\xa3 webm", "does not begin with a header that says"),
        (b"RIFF\0\0\0\0AVI LIST", "does not begin with a header that says"),
        (b"\0\0\0\0", "does not begin with a header that says"),
        (wav(chunk(b"data", b"")), "without a format"),
        (wav(chunk(b"fmt ", b"\1\0")), "a format of 2 bytes"),
        (wav(chunk(b"LIST", b"", 1_000_000)), f"more than {MAX_HEADER_BYTES}"),
    ],
)
def test_what_is_no_header(data: bytes, told: str):
    with pytest.raises(ProtocolError, match=told) as caught:
        read_wav_header(data)
    assert caught.value.code is ErrorCode.BAD_FORMAT


@given(st.binary(max_size=200), st.booleans())
def test_any_bytes_are_a_header_or_an_error(data: bytes, is_riff: bool):
    try:
        header = read_wav_header(wav(data) if is_riff else data)
    except ProtocolError as error:
        assert error.code is ErrorCode.BAD_FORMAT
    else:
        assert header is None or header.size_bytes >= 44


def test_the_wait_for_a_header_ends():
    short = wav(*[chunk(b"JUNK", bytes(1000))] * 70)
    with pytest.raises(ProtocolError, match="more than"):
        read_wav_header(short)
