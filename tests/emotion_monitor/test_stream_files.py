"""``stream --file`` and ``analyze`` read the same files, those without a header too."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
import typer

from emotion_monitor.commands.stream import EncodingName, file_source
from mic_client.errors import AudioFileError
from mic_client.sources import Chunk, Source
from ser_engine.errors import AudioError
from ser_engine.files.audio import AudioFile, read_audio
from ser_engine.raw_audio import RawFormat
from ser_engine.types import FloatArray
from stream_server.wire.codecs import CODED
from tests.support.media_files import write_media
from tests.support.virtual_time import virtual_time

RATE = 16_000


@pytest.fixture
def tone() -> FloatArray:
    """Two channels, 0.5 s: ``(samples, 2)``."""
    time = np.arange(RATE // 2) / RATE
    columns = [0.5 * np.sin(2 * np.pi * hz * time) for hz in (300, 500)]
    return np.stack(columns, axis=1).astype(np.float32)


def opened(
    path: Path, encoding: str | None = None, rate_hz: int | None = None, channels: int = 1
) -> Source:
    name = None if encoding is None else EncodingName(encoding)
    return file_source(path, name, rate_hz, channels, speed=float("inf"), loop=False)


async def heard(source: Source) -> FloatArray:
    data = b"".join([each.data async for each in source if isinstance(each, Chunk)])
    wide = source.format.encoding == "pcm_f32le"
    samples: FloatArray = np.frombuffer(data, "<f4" if wide else "<i2").astype(np.float32)
    samples *= np.float32(1 if wide else 1 / 32_768)
    return samples.reshape(-1, source.format.num_channels)


@virtual_time
async def test_a_file_with_a_wrong_length_is_streamed_to_its_end(tmp_path: Path, tone: FloatArray):
    path = tmp_path / "call.wav"
    soundfile.write(path, tone, RATE)
    data = bytearray(path.read_bytes())
    at = data.index(b"data") + 4
    data[at : at + 4] = bytes(4)  # as a recorder that crashed leaves it
    path.write_bytes(data)
    source = opened(path)
    assert source.format.encoding == "pcm_s16le"
    assert (await heard(source)).T == pytest.approx(read_audio(path), abs=0)


@pytest.mark.needs("av")
@pytest.mark.parametrize(("name", "codec"), [("call.webm", "libopus"), ("call.m4a", "aac")])
@virtual_time
async def test_what_only_ffmpeg_reads_is_streamed(
    tmp_path: Path, tone: FloatArray, name: str, codec: str
):
    path = write_media(tmp_path / name, tone, 48_000, codec)
    source = opened(path)
    assert source.format.sample_rate_hz == 48_000
    with AudioFile(path) as file:
        expected = sum(block.shape[1] for block in file.blocks())
    samples = await heard(source)
    assert len(samples) / 3 == pytest.approx(expected, abs=400)
    assert np.abs(samples).max() > 0.3


@pytest.mark.parametrize("encoding", ["pcm_s16be", "pcm_s24le", "pcm_f32le", "mulaw", "pcm_u8"])
@virtual_time
async def test_samples_without_a_header_are_read_as_told(
    tmp_path: Path, tone: FloatArray, encoding: str
):
    subtype, endian = {
        "pcm_s16be": ("PCM_16", "BIG"),
        "pcm_s24le": ("PCM_24", "LITTLE"),
        "pcm_f32le": ("FLOAT", "LITTLE"),
        "mulaw": ("ULAW", "FILE"),
        "pcm_u8": ("PCM_U8", "FILE"),
    }[encoding]
    path = tmp_path / "call.raw"
    soundfile.write(path, tone, RATE, subtype, endian, "RAW")
    path.write_bytes(path.read_bytes() + b"\x01")  # less than a sample
    expected, _ = soundfile.read(
        path, channels=2, samplerate=RATE, subtype=subtype, endian=endian, format="RAW"
    )
    streamed = await heard(opened(path, encoding, RATE, 2))
    assert streamed == pytest.approx(expected.astype(np.float32), abs=1e-6)
    with AudioFile(path, raw=RawFormat(encoding, RATE, 2)) as file:
        analysed = np.concatenate(list(file.blocks()), axis=1)
        assert file.warnings() == ()
    assert analysed.T == pytest.approx(streamed, abs=1e-6)


def test_a_file_with_a_header_is_read_by_that_whatever_is_told(tmp_path: Path, tone: FloatArray):
    path = tmp_path / "call.wav"
    soundfile.write(path, tone, RATE)
    with AudioFile(path, raw=RawFormat("mulaw", 8000)) as file:
        assert (file.rate_hz, file.channels) == (RATE, 2)


@pytest.mark.needs("shared-data")
def test_raw_samples_told_wrongly_are_warned_of(tmp_path: Path, shared_data: Path):
    samples, rate_hz = soundfile.read(shared_data / "calls/two_people_mono_16k.wav", dtype="int16")
    path = tmp_path / "call.raw"
    path.write_bytes(samples.astype(">i2").tobytes())
    with AudioFile(path, raw=RawFormat("pcm_s16le", rate_hz)) as file:
        list(file.blocks())
        (warning,) = file.warnings()
    assert warning.code == "noisy"
    assert "big-endian" in warning.message


def test_what_is_missing_of_a_raw_format_is_said(tmp_path: Path):
    path = tmp_path / "any.raw"
    path.write_bytes(bytes(range(256)) * 6)
    with pytest.raises(AudioFileError, match="--encoding mulaw --rate 8000"):
        opened(path)
    with pytest.raises(typer.BadParameter, match="no --rate"):
        opened(path, "mulaw")
    with pytest.raises(typer.BadParameter, match="without --encoding"):
        opened(path, None, 8000)
    with pytest.raises(AudioError, match="got a rate of 12 Hz"):
        RawFormat("mulaw", 12)


def test_a_recording_says_itself_how_it_is_encoded(tmp_path: Path):
    with pytest.raises(typer.BadParameter, match="got --encoding webm for a file"):
        file_source(tmp_path / "call.webm", EncodingName.WEBM, None, 1, speed=1.0, loop=False)


def test_every_encoding_of_the_command_can_be_read():
    # The others the server decodes.
    for name in {each.value for each in EncodingName} - set(CODED):
        assert RawFormat(name, RATE).decode(bytes(24)).shape[1] == 1
