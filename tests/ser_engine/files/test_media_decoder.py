from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import soundfile

from ser_engine.errors import AudioError
from ser_engine.files.audio import AudioFile, read_audio
from ser_engine.types import FloatArray
from tests.support.media_files import write_amr_noise, write_media

pytestmark = pytest.mark.needs("av")


def tones(rate_hz: int, seconds: float, channels: int = 2) -> FloatArray:
    """A sine a channel: 200 Hz, 300 Hz. ``(samples, channels)``."""
    time = np.arange(round(rate_hz * seconds)) / rate_hz
    waves = [0.5 * np.sin(2 * np.pi * (200 + 100 * c) * time) for c in range(channels)]
    return np.stack(waves, axis=1).astype(np.float32)


def strongest_hz(samples: FloatArray) -> float:
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    return float(spectrum.argmax() * 16_000 / len(samples))


def refusal(path: Path) -> str:
    with pytest.raises(AudioError) as caught:
        read_audio(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    return message


@pytest.mark.parametrize(
    ("name", "codec", "rate_hz"),
    [
        ("a.m4a", "aac", 44_100),
        ("a.m4a", "alac", 48_000),
        ("a.webm", "libopus", 48_000),
        ("a.mka", "flac", 22_050),
        ("a.wma", "wmav2", 44_100),
        ("a.aac", "aac", 16_000),
        ("a.wav", "adpcm_g726", 8_000),
    ],
)
def test_channels_come_out_apart(name: str, codec: str, rate_hz: int, tmp_path: Path) -> None:
    channels = 1 if codec == "adpcm_g726" else 2
    path = write_media(tmp_path / name, tones(rate_hz, 3, channels), rate_hz, codec)
    audio = read_audio(path)
    assert audio.dtype == np.float32
    assert audio.shape == (channels, pytest.approx(48_000, abs=4_000))
    for number, channel in enumerate(audio):
        middle = channel[8_000:40_000]
        assert strongest_hz(middle) == pytest.approx(200 + 100 * number, abs=1)
        assert np.sqrt(np.mean(middle**2)) == pytest.approx(0.354, abs=0.02)


def test_narrow_band_amr_is_read(tmp_path: Path) -> None:
    audio = read_audio(write_amr_noise(tmp_path / "a.amr", 2.0))
    assert audio.shape == (1, pytest.approx(32_000, abs=100))
    assert np.isfinite(audio).all()
    assert audio.any()


def test_frames_without_a_header_are_read_whatever_length_is_guessed(tmp_path: Path) -> None:
    """Silence takes few bits, and what follows is taken for as cheap."""
    samples = np.concatenate([np.zeros((32_000, 2), np.float32), tones(16_000, 4)])
    path = write_media(tmp_path / "a.aac", samples, 16_000, "aac")
    with AudioFile(path) as file:
        assert file.header_s > 7
        assert sum(block.shape[1] for block in file.blocks()) == pytest.approx(96_000, abs=4_000)


def test_the_name_does_not_decide(tmp_path: Path) -> None:
    path = write_media(tmp_path / "a.m4a", tones(16_000, 1), 16_000, "aac")
    assert read_audio(path.rename(tmp_path / "a.wav")).shape[0] == 2


def test_blocks_are_the_whole_and_take_little_memory(tmp_path: Path) -> None:
    path = write_media(tmp_path / "a.m4a", tones(8_000, 400, 1), 8_000, "aac")
    tracemalloc.start()
    with AudioFile(path) as file:
        assert file.header_s == pytest.approx(400, abs=0.5)
        lengths = [block.shape[1] for block in file.blocks()]
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert sum(lengths) == pytest.approx(400 * 16_000, abs=8_000)
    assert len(lengths) > 10
    assert peak < 16 << 20


def test_what_is_cut_off_is_read_with_a_warning(tmp_path: Path) -> None:
    path = write_media(tmp_path / "a.webm", tones(48_000, 10), 48_000, "libopus")
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with AudioFile(path) as file:
        samples = sum(block.shape[1] for block in file.blocks())
        (warning,) = file.warnings()
    assert 3 * 16_000 < samples < 7 * 16_000
    assert "cut off: the header tells of 10." in warning.message


@pytest.mark.parametrize("name", ["a.m4a", "a.webm", "a.wma", "a.aac", "a.amr"])
def test_nonsense_after_the_right_start_is_refused(name: str, tmp_path: Path) -> None:
    signs = {
        "a.m4a": b"\x00\x00\x00 ftypM4A ",
        "a.webm": b"\x1aE\xdf\xa3",
        "a.wma": bytes.fromhex("3026b2758e66cf11"),
        "a.aac": b"\xff\xf1",
        "a.amr": b"#!AMR\n",
    }
    path = tmp_path / name
    path.write_bytes(signs[name] + np.random.default_rng(1).bytes(5_000))
    refusal(path)


def test_a_file_with_pictures_only_is_refused(tmp_path: Path) -> None:
    import av

    path = tmp_path / "a.webm"
    with av.open(str(path), "w", format="webm") as container:
        stream = container.add_stream("libvpx", rate=10)
        stream.width = stream.height = 32
        stream.pix_fmt = "yuv420p"
        frame = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    assert "holds no audio" in refusal(path)


def test_a_playlist_names_no_other_file(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "secret.wav", np.zeros(16_000), 16_000)
    for name, content in {
        "a.m3u8": f"#EXTM3U\n#EXTINF:1,\nfile://{tmp_path}/secret.wav\n",
        "a.ffconcat": "ffconcat version 1.0\nfile secret.wav\n",
    }.items():
        (tmp_path / name).write_text(content)
        assert "expected WAV" in refusal(tmp_path / name)


def test_a_length_the_header_does_not_tell_is_bounded_all_the_same(tmp_path: Path) -> None:
    # Hours of silence are a few kilobytes.
    path = write_media(
        tmp_path / "a.webm",
        np.zeros((48_000 * 120, 1), np.float32),
        48_000,
        "libopus",
        to_pipe=True,
    )
    assert path.stat().st_size < 100_000
    with AudioFile(path) as file:
        assert file.header_s == 0
        assert sum(block.shape[1] for block in file.blocks()) == pytest.approx(
            120 * 16_000, abs=800
        )


@pytest.mark.needs("real-recordings")
def test_m4a_of_others(shared_data: Path) -> None:
    audio = read_audio(shared_data / "formats" / "testing.m4a")
    assert audio.shape == (1, pytest.approx(51_268, abs=1_000))
    assert audio.any()


def test_a_rate_that_changes_inside_is_read_to_the_end(tmp_path: Path) -> None:
    parts = [
        write_media(tmp_path / f"{rate_hz}.aac", tones(rate_hz, 2, 1), rate_hz, "aac")
        for rate_hz in (48_000, 24_000)
    ]
    path = tmp_path / "both.aac"
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    audio = read_audio(path)
    assert audio.shape == (1, pytest.approx(64_000, abs=4_000))
    for start in (8_000, 40_000):
        assert strongest_hz(audio[0, start : start + 16_000]) == pytest.approx(200, abs=1)


@pytest.mark.parametrize(
    ("name", "codec", "channels", "told"),
    [
        ("a.aac", "aac", 2, "got 2 channels in the middle, expected 1"),
        ("a.m4a", "aac", 1, "goes on with another recording, which was left out"),
    ],
)
def test_what_cannot_be_gone_on_with_is_told(
    tmp_path: Path, name: str, codec: str, channels: int, told: str
) -> None:
    first = write_media(tmp_path / name, tones(48_000, 2, 1), 48_000, codec).read_bytes()
    second = write_media(tmp_path / f"b{name}", tones(48_000, 2, channels), 48_000, codec)
    path = tmp_path / f"both_{name}"
    path.write_bytes(first + second.read_bytes())
    with AudioFile(path) as file:
        assert sum(block.shape[1] for block in file.blocks()) == pytest.approx(32_000, abs=1_000)
        (warning,) = file.warnings()
    assert warning.code == "length"
    assert told in warning.message


@pytest.mark.parametrize("name", ["a.webm", "a.mka"])
def test_joined_matroska_is_read_to_the_end(tmp_path: Path, name: str) -> None:
    part = write_media(tmp_path / name, tones(48_000, 2, 1), 48_000, "libopus").read_bytes()
    path = tmp_path / f"both_{name}"
    path.write_bytes(part + part)
    assert read_audio(path).shape == (1, pytest.approx(64_000, abs=1_000))
