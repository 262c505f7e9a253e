"""Lengths in headers that are not true, audio that is cut off, several recordings in one file."""

from __future__ import annotations

import re
import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile

from ser_engine.errors import AudioError
from ser_engine.files.audio import AudioFile
from ser_engine.files.pieces import PatchedFile
from ser_engine.types import FloatArray
from tests.ser_engine.files.jobs import make_job, work
from tests.support.media_files import write_media

RATE = 8_000
AUDIO = np.random.default_rng(3).integers(-9_000, 9_000, 12_000, dtype=np.int16)
FMT = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, RATE, 2 * RATE, 2, 16)


def chunk(name: bytes, content: bytes, length: int | None = None) -> bytes:
    return name + struct.pack("<I", len(content) if length is None else length) + content


def wav(*chunks: bytes, head: bytes = b"RIFF", size: int = 0) -> bytes:
    return head + struct.pack("<I", size) + b"WAVE" + b"".join(chunks)


def read(path: Path) -> tuple[FloatArray, list[str]]:
    """Return the audio and the messages of warnings."""
    with AudioFile(path) as file:
        audio = np.concatenate(list(file.blocks()), axis=1)
        warnings = file.warnings()
    assert {each.code for each in warnings} <= {"length"}
    return audio, [each.message for each in warnings]


def expected(samples: np.ndarray, folder: Path) -> FloatArray:
    path = folder / "expected.wav"
    soundfile.write(path, samples, RATE, "PCM_16")
    return read(path)[0]


PCM = AUDIO.tobytes()
LYING = {
    "sox, 0x7ffff000": wav(FMT, chunk(b"data", PCM, 0x7FFF_F000), size=0x7FFF_F024),
    "0x7fffffff": wav(FMT, chunk(b"data", PCM, 0x7FFF_FFFF)),
    "0x80000000": wav(FMT, chunk(b"data", PCM, 0x8000_0000)),
    "0xfffffffe": wav(FMT, chunk(b"data", PCM, 0xFFFF_FFFE)),
    "crashed": wav(FMT, chunk(b"data", PCM, 0)),
    "crashed, JUNK": wav(chunk(b"JUNK", bytes(28)), FMT, chunk(b"data", PCM, 0)),
    "RF64 of zeros": wav(
        chunk(b"ds64", bytes(28)), FMT, chunk(b"data", PCM, 0xFFFF_FFFF), head=b"RF64"
    ),
    "RF64, data 0": wav(chunk(b"ds64", bytes(28)), FMT, chunk(b"data", PCM, 0), head=b"RF64"),
    "header counted": wav(FMT, chunk(b"data", PCM, len(PCM) + 44)),
    "cut off": wav(FMT, chunk(b"data", PCM, 2 * len(PCM))),
    "told minutes ago": wav(FMT, chunk(b"data", PCM, len(PCM) // 2)),
    "RF64 told minutes ago": wav(
        chunk(b"ds64", struct.pack("<QQQI", 0, 12_000, 6_000, 0)),
        FMT,
        chunk(b"data", PCM, 0xFFFF_FFFF),
        head=b"RF64",
    ),
    "one byte": wav(FMT, chunk(b"data", PCM, 1)),
    "BW64 of zeros": wav(
        chunk(b"ds64", bytes(28)), FMT, chunk(b"data", PCM, 0xFFFF_FFFF), head=b"BW64"
    ),
    "RIFX": b"RIFX"
    + struct.pack(
        ">I4s4sIHHIIHH4sI", 0, b"WAVE", b"fmt ", 16, 1, 1, RATE, 2 * RATE, 2, 16, b"data", 0
    )
    + AUDIO.byteswap().tobytes(),
}


@pytest.mark.parametrize("name", LYING)
def test_a_length_that_is_not_true_does_not_keep_audio_from_being_read(name: str, tmp_path: Path):
    (tmp_path / "a.wav").write_bytes(LYING[name])
    audio, messages = read(tmp_path / "a.wav")
    np.testing.assert_array_equal(audio, expected(AUDIO, tmp_path))
    (message,) = messages
    assert "1.500 s could be read" in message
    assert message.startswith("the header tells of ")


@pytest.mark.parametrize(
    "content",
    [
        wav(FMT, chunk(b"data", PCM + b"x", len(PCM) + 1)),
        wav(FMT, chunk(b"data", PCM, len(PCM) + 1)),
        wav(FMT, chunk(b"data", PCM, 0xFFFF_FFFF)),
        wav(FMT, chunk(b"data", PCM), chunk(b"LIST", b"INFO"), size=0),
    ],
    ids=["odd byte", "odd length", "unknown", "RIFF 0"],
)
def test_what_is_complete_is_read_without_a_word(content: bytes, tmp_path: Path):
    (tmp_path / "a.wav").write_bytes(content)
    audio, messages = read(tmp_path / "a.wav")
    np.testing.assert_array_equal(audio, expected(AUDIO, tmp_path))
    assert not messages


def patched(name: str, mark: bytes, offset: int, number: bytes, folder: Path) -> Path:
    """Write the audio in the format of a name; then a number behind a mark in its header."""
    soundfile.write(folder / name, AUDIO, RATE, "PCM_16")
    content = bytearray((folder / name).read_bytes())
    at = content.index(mark) + offset
    content[at : at + len(number)] = number
    (folder / name).write_bytes(content)
    return folder / name


@pytest.mark.parametrize("length", [0, 16_000, 2**31 - 1, 2**32 - 2])
@pytest.mark.parametrize(
    ("name", "mark", "offset", "form"),
    [
        ("a.aiff", b"SSND", 4, ">I"),
        ("a.au", b".snd", 8, ">I"),
        ("a.caf", b"data", 4, ">q"),
        ("a.w64", b"data", 16, "<Q"),
        ("a.flac", b"fLaC", 22, ">I"),
    ],
)
def test_lengths_of_other_formats_are_not_believed_either(
    name: str, mark: bytes, offset: int, form: str, length: int, tmp_path: Path
):
    # FLAC counts samples, the others bytes.
    told = length // 2 if name == "a.flac" else length
    audio, messages = read(patched(name, mark, offset, struct.pack(form, told), tmp_path))
    np.testing.assert_array_equal(audio, expected(AUDIO, tmp_path))
    # FLAC's 0 says that the length is not known: programs that write to a pipe leave it.
    assert len(messages) == (name != "a.flac" or length != 0)
    assert all("1.500 s could be read" in message for message in messages)


@pytest.mark.parametrize("name", ["a.wav", "a.aiff", "a.au", "a.caf", "a.w64"])
def test_joined_files_of_chunks_are_read_one_after_the_other(name: str, tmp_path: Path):
    parts = []
    for rate in (RATE, 2 * RATE):
        soundfile.write(tmp_path / name, AUDIO, rate, "PCM_16")
        parts.append((tmp_path / name).read_bytes())
    (tmp_path / name).write_bytes(parts[0] + parts[1])
    audio, messages = read(tmp_path / name)
    assert audio.shape[1] == pytest.approx(36_000, abs=50)
    assert not messages


def test_a_change_of_format_inside_is_told_of(tmp_path: Path):
    stereo = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 2, RATE, 4 * RATE, 4, 16)
    (tmp_path / "a.wav").write_bytes(wav(FMT, chunk(b"data", PCM), stereo, chunk(b"data", PCM)))
    audio, (message,) = read(tmp_path / "a.wav")
    np.testing.assert_array_equal(audio, expected(AUDIO, tmp_path))
    assert "changes its format after 1.50 s; the rest was left out" in message


def test_two_data_chunks_are_one_recording(tmp_path: Path):
    halves = chunk(b"data", PCM[:9_000]), chunk(b"LIST", b"INFO"), chunk(b"data", PCM[9_000:])
    (tmp_path / "a.wav").write_bytes(wav(FMT, *halves))
    audio, messages = read(tmp_path / "a.wav")
    np.testing.assert_array_equal(audio, expected(AUDIO, tmp_path))
    assert not messages


def test_bytes_after_the_audio_are_told_of(tmp_path: Path):
    (tmp_path / "a.wav").write_bytes(wav(FMT, chunk(b"data", PCM), bytes(9_000)))
    _, (message,) = read(tmp_path / "a.wav")
    assert "holds 9000 bytes after" in message


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.mp3", "a.opus", "a.aiff", "a.au"])
def test_audio_that_is_cut_off_is_read_to_its_end(
    name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, 160_000)
    kind = {"a.opus": ("OGG", "OPUS")}.get(name, (None, None))
    soundfile.write(tmp_path / name, noise, 16_000, kind[1], format=kind[0])
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(content[: len(content) * 6 // 10])
    audio, (message,) = read(tmp_path / name)
    assert 70_000 < audio.shape[1] < 110_000
    (said,) = re.findall(r"([0-9.]+) s (?:could be read|were analysed)", message)
    assert float(said) == pytest.approx(audio.shape[1] / 16_000, abs=0.01)
    assert "10.0" in message or name == "a.opus"
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("name", ["a.mp3", "a.opus", "a.ogg", "a.flac"])
def test_joined_recordings_are_read_one_after_the_other(
    name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    kind = {"a.opus": ("OGG", "OPUS")}.get(name, (None, None))
    joined = b""
    for level in (0.1, 0.3):
        noise = np.random.default_rng(0).uniform(-level, level, 32_000)
        soundfile.write(tmp_path / name, noise, 16_000, kind[1], format=kind[0])
        joined += (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(joined)
    audio, messages = read(tmp_path / name)
    assert audio.shape[1] == pytest.approx(64_000, abs=200)
    assert audio[0, 34_000:60_000].std() > 2 * audio[0, 2_000:30_000].std()
    assert not messages
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("name", ["a.mp3", "a.flac", "a.ogg"])
def test_a_part_of_another_rate_is_resampled_one_of_other_channels_told_of(
    name: str, tmp_path: Path
):
    def content(rate_hz: int, channels: int) -> bytes:
        noise = np.random.default_rng(0).uniform(-0.3, 0.3, (2 * rate_hz, channels))
        soundfile.write(tmp_path / name, noise, rate_hz)
        return (tmp_path / name).read_bytes()

    (tmp_path / name).write_bytes(content(16_000, 1) + content(32_000, 1))
    audio, messages = read(tmp_path / name)
    assert audio.shape[1] == pytest.approx(64_000, abs=200)
    assert not messages
    if name == "a.mp3":
        # Without an index each frame tells its rate and channels alone.
        parts = [content(rate, 1).replace(b"Info", bytes(4)) for rate in (16_000, 32_000)]
        (tmp_path / name).write_bytes(b"".join(parts))
        assert read(tmp_path / name)[0].shape[1] == pytest.approx(64_000, abs=4_000)
    (tmp_path / name).write_bytes(content(16_000, 1) + content(16_000, 2))
    audio, (message,) = read(tmp_path / name)
    assert audio.shape[1] == pytest.approx(32_000, abs=200)
    assert "goes on with 2 channels, expected 1 as at the start; 2.0" in message


@pytest.mark.parametrize("is_first", [True, False])
def test_of_joined_recordings_one_that_cannot_be_read_is_told_of(is_first: bool, tmp_path: Path):
    noise = np.random.default_rng(0).uniform(-0.3, 0.3, 32_000)
    soundfile.write(tmp_path / "a.ogg", noise, 16_000)
    whole = (tmp_path / "a.ogg").read_bytes()
    cut = whole[: len(whole) // 2]
    (tmp_path / "a.ogg").write_bytes(cut + whole if is_first else whole + cut)
    audio, (message,) = read(tmp_path / "a.ogg")
    assert audio.shape[1] == pytest.approx(32_000, abs=200)
    assert "part that cannot be read: it holds no audio" in message


@pytest.mark.needs("av")
def test_mp4_that_is_cut_off_before_its_index_says_so(tmp_path: Path):
    noise = np.random.default_rng(0).uniform(-0.3, 0.3, (16_000, 1)).astype(np.float32)
    path = write_media(tmp_path / "a.m4a", noise, 16_000, "aac")
    path.write_bytes(path.read_bytes()[:4_000])
    with pytest.raises(AudioError, match="cut off before its index"):
        AudioFile(path)


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (b"<!DOCTYPE html><title>Not found</title>", "a web page"),
        (b"FLV\x01\x04" + bytes(400), "Flash video"),
        ((b"G" + bytes(187)) * 4, "MPEG transport stream"),
        (b"RIFF\x00\x00\x00\x00AVI " + bytes(400), "AVI"),
        (wav(chunk(b"fmt ", struct.pack("<H38x", 0x0270)), chunk(b"data", PCM)), "tag 0x0270"),
        (
            wav(
                chunk(
                    b"fmt ",
                    struct.pack("<HHIIHHHHIH14s", 65534, 1, RATE, 1, 1, 8, 22, 8, 4, 131, b""),
                ),
                chunk(b"data", PCM),
            ),
            "G.729",
        ),
    ],
    ids=["HTML", "FLV", "TS", "AVI", "WAV tag", "WAV extensible"],
)
def test_what_is_not_read_is_named(content: bytes, name: str, tmp_path: Path):
    (tmp_path / "a.wav").write_bytes(content)
    with pytest.raises(AudioError, match=name):
        AudioFile(tmp_path / "a.wav")


@pytest.mark.needs("av")
def test_mp3_in_wav_is_read(tmp_path: Path):
    import av

    path = tmp_path / "a.wav"
    with av.open(str(path), "w", format="wav") as container:
        stream = container.add_stream("libmp3lame", rate=16_000, layout="mono")
        frame = av.AudioFrame.from_ndarray(
            np.zeros((1, 24_000), np.int16), format="s16", layout="mono"
        )
        frame.sample_rate = 16_000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    audio, messages = read(path)
    assert audio.shape[1] == pytest.approx(24_000, abs=2_400)
    assert not messages


def test_a_result_has_the_warning_on_every_channel(tmp_path: Path):
    path = tmp_path / "a.wav"
    soundfile.write(path, np.full((32_000, 2), 0.1), 16_000)
    content = path.read_bytes()
    path.write_bytes(content[:-40_000])
    with AudioFile(path) as file:
        found = work(make_job(file)).document()
    for channel in found.channels:
        assert "length" in [warning.code for warning in channel.warnings]


def test_pieces_of_a_file_read_as_one(tmp_path: Path):
    (tmp_path / "a").write_bytes(b"0123456789")
    file = PatchedFile(tmp_path / "a", ((0, 3), b"abc", (8, 10)))
    assert file.read() == b"012abc89"
    assert file.seek(-3, 2) == 5
    assert (file.read(2), file.tell(), file.read(9)) == (b"c8", 7, b"9")
    assert file.seek(2) == 2
    assert file.read(3) == b"2ab"
    file.close()
