from __future__ import annotations

import os
import struct
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import soundfile

from ser_engine.errors import AudioError
from ser_engine.files.audio import AudioFile, read_audio
from ser_engine.types import FloatArray


def tone(rate: int, channels: int = 1, seconds: float = 1.0) -> FloatArray:
    """A sine a channel: 200 Hz, 300 Hz, … ``(frames, channels)``."""
    time = np.arange(round(rate * seconds)) / rate
    waves = [0.5 * np.sin(2 * np.pi * (200 + 100 * c) * time) for c in range(channels)]
    return np.stack(waves, axis=1).astype(np.float32)


@pytest.mark.parametrize(
    ("name", "subtype", "tolerance"),
    [
        ("a.wav", "PCM_U8", 0.01),
        ("a.wav", "PCM_16", 1e-4),
        ("a.wav", "PCM_24", 1e-6),
        ("a.wav", "PCM_32", 1e-6),
        ("a.wav", "FLOAT", 0),
        ("a.wav", "DOUBLE", 0),
        ("a.wav", "ULAW", 0.02),
        ("a.flac", "PCM_16", 1e-4),
        ("a.flac", "PCM_24", 1e-6),
        ("a.ogg", "VORBIS", 0.05),
        ("a.ogg", "OPUS", 0.1),
        ("a.mp3", "MPEG_LAYER_III", 0.05),
    ],
)
@pytest.mark.parametrize("channels", [1, 2])
def test_formats(name: str, subtype: str, tolerance: float, channels: int, tmp_path: Path) -> None:
    expected = tone(16_000, channels)
    soundfile.write(tmp_path / name, expected, 16_000, subtype=subtype)
    audio = read_audio(tmp_path / name)
    assert audio.dtype == np.float32
    assert audio.shape == (channels, 16_000)
    middle = slice(2000, 14_000)
    np.testing.assert_allclose(audio[:, middle], expected.T[:, middle], atol=tolerance)


@pytest.mark.parametrize("rate", [1000, 8000, 11_025, 22_050, 44_100, 48_000, 96_000, 768_000])
def test_rates(rate: int, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", tone(rate, 2, seconds=2), rate, subtype="FLOAT")
    audio = read_audio(tmp_path / "a.wav")
    assert audio.shape == (2, 32_000)
    middle = slice(8000, 24_000)
    np.testing.assert_allclose(audio[:, middle], tone(16_000, 2, 2).T[:, middle], atol=1e-3)


def test_blocks_are_the_whole(tmp_path: Path) -> None:
    samples = tone(8000, 2, seconds=100)
    soundfile.write(tmp_path / "a.wav", samples, 8000)
    with AudioFile(tmp_path / "a.wav") as file:
        assert (file.channels, file.rate_hz) == (2, 8000)
        blocks = list(file.blocks())
    assert len(blocks) > 3
    whole = np.concatenate(blocks, axis=1)
    np.testing.assert_array_equal(whole, read_audio(tmp_path / "a.wav"))
    np.testing.assert_allclose(
        whole[:, 2000:-2000], tone(16_000, 2, 100).T[:, 2000:-2000], atol=1e-3
    )


def test_long_files_take_little_memory(tmp_path: Path) -> None:
    with soundfile.SoundFile(tmp_path / "a.wav", "w", 16_000, 1) as file:
        for _ in range(60):
            file.write(tone(16_000, seconds=10))
    tracemalloc.start()
    with AudioFile(tmp_path / "a.wav") as audio:
        length = sum(block.shape[1] for block in audio.blocks())
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert length == 16_000 * 600
    assert peak < 8 << 20


def refusal(path: Path) -> str:
    with pytest.raises(AudioError) as caught:
        read_audio(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    return message


def test_what_is_not_there_is_refused(tmp_path: Path) -> None:
    assert "no such file" in refusal(tmp_path / "a.wav")
    assert "cannot be read" in refusal(tmp_path)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "empty"),
        (b"Hello, this is a text.\n" * 50, "not recognised; expected WAV, FLAC, Ogg"),
        (b"RIFF", "expected WAV"),
        (bytes(5000), "expected WAV"),
    ],
)
def test_what_is_no_audio_is_refused(content: bytes, says: str, tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(content)
    assert says in refusal(tmp_path / "a.wav")


def test_a_file_without_a_sample_is_refused(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros(0), 16_000)
    assert "holds no audio" in refusal(tmp_path / "a.wav")


def wav_header(channels: int, rate: int, data_bytes: int) -> bytes:
    fmt = struct.pack("<HHIIHH", 1, channels, rate, rate * channels * 2, channels * 2, 16)
    riff = b"RIFF" + struct.pack("<I", 0xFFFF_FFFF) + b"WAVE"
    return riff + b"fmt " + struct.pack("<I", 16) + fmt + b"data" + struct.pack("<I", data_bytes)


def test_an_absurd_claim_takes_no_memory(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(wav_header(1, 16_000, 2_000_000_000) + bytes(3200))
    tracemalloc.start()
    assert read_audio(tmp_path / "a.wav").shape == (1, 1600)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4 << 20


def test_a_file_written_to_a_pipe_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(wav_header(1, 16_000, 0xFFFF_FFFF) + bytes(3200))
    assert read_audio(tmp_path / "a.wav").shape == (1, 1600)


@pytest.mark.parametrize(
    ("channels", "rate", "says"),
    [
        (33, 16_000, "33 channels, expected 1 to 32"),
        (1, 999, "999 Hz, expected 1000 to 768000"),
        (1, 768_001, "768001 Hz, expected 1000 to 768000"),
    ],
)
def test_absurd_shapes_are_refused(channels: int, rate: int, says: str, tmp_path: Path) -> None:
    content = wav_header(channels, rate, 6600) + bytes(6600)
    (tmp_path / "a.wav").write_bytes(content)
    assert says in refusal(tmp_path / "a.wav")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_samples_that_are_no_numbers_are_refused(value: float, tmp_path: Path) -> None:
    samples = tone(8000, 2)
    samples[4000, 1] = value
    soundfile.write(tmp_path / "a.wav", samples, 8000, subtype="FLOAT")
    assert "not a number at 0.500 s" in refusal(tmp_path / "a.wav")


def test_a_sample_that_no_arithmetic_bears_is_refused(tmp_path: Path) -> None:
    samples = tone(8000, 2)
    samples[4000, 1] = -1e30
    soundfile.write(tmp_path / "a.wav", samples, 8000, subtype="FLOAT")
    message = refusal(tmp_path / "a.wav")
    assert "got a sample of 1e+30 at 0.500 s, expected full scale to be 1" in message


def test_samples_on_the_scale_of_integers_are_read(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", tone(16_000) * 2.0**31, 16_000, subtype="FLOAT")
    assert read_audio(tmp_path / "a.wav").max() == pytest.approx(2.0**30, rel=1e-3)


def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.wav")
    assert "a pipe or a device, expected a file" in refusal(tmp_path / "a.wav")


def test_no_rate_is_told_in_plain_words(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(wav_header(1, 0, 3200) + bytes(3200))
    assert "its header tells of 0 Hz" in refusal(tmp_path / "a.wav")


@pytest.mark.parametrize("tag_bytes", [0, 200_000])
def test_an_mp3_file_whose_length_is_a_guess_is_read_to_its_end(
    tag_bytes: int, tmp_path: Path
) -> None:
    """Quiet frames first, so that a length guessed from their bit rate is far too long."""
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, 64_000)
    audio = np.concatenate([np.zeros(16_000), noise])
    soundfile.write(tmp_path / "a.mp3", audio, 16_000, bitrate_mode="VARIABLE")
    content = (tmp_path / "a.mp3").read_bytes()
    # Whatever was cut out of a longer file has lost the frame with the index.
    second = content.index(content[:2], content.index(b"Xing"))
    size = bytes((tag_bytes >> shift) & 0x7F for shift in (21, 14, 7, 0))
    tag = b"ID3\x04\x00\x00" + size + bytes(tag_bytes) if tag_bytes else b""
    (tmp_path / "a.mp3").write_bytes(tag + content[second:])
    with AudioFile(tmp_path / "a.mp3") as file:
        assert file.header_s > 6
        assert sum(block.shape[1] for block in file.blocks()) == pytest.approx(80_000, abs=4_000)


@pytest.mark.needs("real-recordings")
@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("bus.opus", (1, 12_227)),
        ("mono_float64.wav", (1, 8)),
        ("mono_int24.wav", (1, 8)),
        ("mono_int32.wav", (1, 8)),
        ("ms_adpcm.wav", (1, 1_299_710)),
        ("perfect-alley1.ogg", (2, 144_905)),
        ("signed_24bit.wav", (1, 18_171)),
        ("stereo_16bit.wav", (2, 17_833)),
        ("stereo_24bit.WAV", (2, 17_833)),
    ],
)
def test_odd_but_valid_files(name: str, shape: tuple[int, int], shared_data: Path) -> None:
    audio = read_audio(shared_data / "formats" / name)
    assert audio.shape == pytest.approx(shape, abs=1)
    assert np.isfinite(audio).all()
    assert audio.any()


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"\x00\x00\x00 ftypM4A " + bytes(200), "M4A or MP4"),
        (b"\x1aE\xdf\xa3" + bytes(200), "WebM or Matroska"),
        (b"#!AMR\n" + bytes(200), "AMR"),
        (b"\xff\xf1" + bytes(200), "AAC"),
    ],
)
def test_without_its_library_a_format_is_refused_with_advice(
    content: bytes, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    (tmp_path / "a.wav").write_bytes(content)
    message = refusal(tmp_path / "a.wav")
    assert f"got {kind}, expected WAV" in message
    assert "pip install 'emotion-monitor[media]'" in message
