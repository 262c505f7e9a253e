"""Real encoders write the files: what a client might pipe in by mistake."""

from __future__ import annotations

import base64
import io

import av
import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from stream_server.wire.audio_format import AudioFormat
from stream_server.wire.containers import HEAD_BYTES, FirstBytes, container_of
from stream_server.wire.errors import ErrorCode, ProtocolError

FORMAT = AudioFormat("pcm_s16le", 16_000)
SPEECH = (0.3 * np.sin(np.arange(48_000) / 9) * np.sin(np.arange(48_000) / 900)).astype("<f4")
PCM = (SPEECH * 32_767).astype("<i2").tobytes()


def encoded(container: str, codec: str) -> bytes:
    file = io.BytesIO()
    with av.open(file, "w", format=container) as output:
        stream = output.add_stream(codec, rate=48_000)
        stream.layout = "mono"
        frame = av.AudioFrame.from_ndarray(SPEECH[None], format="fltp", layout="mono")
        frame.sample_rate = 48_000
        resampler = av.AudioResampler(stream.format.name, "mono", 48_000, stream.frame_size or None)
        for each in [*resampler.resample(frame), *resampler.resample(None)]:
            output.mux(stream.encode(each))
        output.mux(stream.encode(None))
    return file.getvalue()


def written(kind: str, subtype: str) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, SPEECH, 16_000, format=kind, subtype=subtype)
    return file.getvalue()


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (encoded("webm", "libopus"), "WebM or Matroska"),
        (encoded("ogg", "libopus"), "Ogg"),
        (encoded("mp4", "aac"), "MP4"),
        (encoded("adts", "aac"), "AAC"),
        (encoded("mp3", "libmp3lame"), "MP3"),
        (encoded("mp2", "mp2"), "MP2"),
        (encoded("mpegts", "mp2"), "MPEG-TS"),
        (encoded("flv", "aac"), "FLV"),
        (written("WAV", "PCM_16"), "WAV"),
        (written("W64", "PCM_16"), "Wave64"),
        (written("NIST", "PCM_16"), "NIST SPHERE"),
        (written("VOC", "PCM_16"), "VOC"),
        (written("RF64", "PCM_16"), "WAV"),
        (written("FLAC", "PCM_16"), "FLAC"),
        (written("OGG", "VORBIS"), "Ogg"),
        (written("MP3", "MPEG_LAYER_III"), "MP3"),
        (written("AU", "PCM_16"), "AU"),
        (written("AIFF", "PCM_16"), "AIFF"),
        (base64.b64encode(PCM), "text in Base64"),
        (base64.b64encode(SPEECH.tobytes()), "text in Base64"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
@pytest.mark.parametrize("size", [160, 1001, 100_000])
def test_what_is_no_samples_is_named_with_what_to_send(data: bytes, name: str, size: int):
    first = FirstBytes(FORMAT)
    with pytest.raises(ProtocolError, match=f"got {name}, expected raw pcm_s16le") as caught:
        for start in range(0, HEAD_BYTES, size):
            first.check(data[start : start + size])
    assert caught.value.code is ErrorCode.BAD_FORMAT


def test_an_mp3_without_a_tag_is_known_by_its_frames():
    data = encoded("mp3", "libmp3lame")
    assert container_of(data[data.index(b"\xff\xfb") :]) == "MP3"


@pytest.mark.parametrize(("container", "codec"), [("adts", "aac"), ("mp3", "libmp3lame")])
def test_a_tag_says_nothing_of_what_follows_it(container: str, codec: str):
    data = encoded(container, codec)
    data = b"ID3\4\0\0\0\0\0\x3f" + bytes(63) + data[data.index(b"\xff") :]
    name = {"adts": "AAC", "mp3": "MP3"}[container]
    found = {container_of(data[:size]) for size in range(10, HEAD_BYTES)}
    assert found == {None, name}
    # A long one is not waited for.
    assert container_of(b"ID3\4\0\0\0\1\0\x3f") == "MP3"


@pytest.mark.parametrize(
    "data", [PCM, SPEECH.tobytes(), bytes(8000), b"\xff" * 8000, b"A" * 8000, b"G" * 8000]
)
def test_samples_are_samples(data: bytes):
    first = FirstBytes(FORMAT)
    for start in range(0, len(data), 320):
        first.check(data[start : start + 320])


@given(st.integers(0, 2**32 - 1))
def test_noise_is_no_file(seed: int):
    assert container_of(np.random.default_rng(seed).bytes(HEAD_BYTES)) is None
