from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from ser_engine.errors import AudioError
from ser_engine.files.audio import AudioFile, read_audio
from ser_engine.files.bounded_file import BoundedFile


def write(path: Path, seconds: float = 40.0, channels: int = 2) -> Path:
    rng = np.random.default_rng(0)
    samples = 0.1 * rng.standard_normal((round(seconds * 8000), channels))
    soundfile.write(path, samples, 8000, subtype="PCM_16")
    return path


class LyingFile(AudioFile):
    """Claims less than it holds."""

    @property
    def header_s(self) -> float:
        return 1.0


def test_what_is_decoded_counts_not_what_the_header_says(tmp_path: Path):
    path = write(tmp_path / "a.wav")
    with BoundedFile(LyingFile(path), max_s=30, hint="send less") as file:
        heard = 0
        with pytest.raises(AudioError, match=r"or more, expected 30 s or less; send less"):
            for block in file.blocks():
                heard += block.shape[1]
        assert heard <= 30 * 16_000


def test_a_header_that_tells_of_more_is_enough(tmp_path: Path):
    with (
        AudioFile(write(tmp_path / "a.wav")) as file,
        pytest.raises(AudioError, match="got 40 s of audio or more"),
    ):
        BoundedFile(file, max_s=30, hint="")


def test_the_audio_is_that_of_the_file(tmp_path: Path):
    path, kept = write(tmp_path / "a.wav"), tmp_path / "kept.flac"
    with BoundedFile(AudioFile(path), max_s=40, hint="", keep=kept) as file:
        assert (file.channels, file.rate_hz, file.header_s) == (2, 8000, 40.0)
        audio = np.concatenate(list(file.blocks()), axis=1)
        assert file.is_kept
    np.testing.assert_array_equal(audio, read_audio(path))
    stored, rate_hz = soundfile.read(kept, dtype="float32")
    assert rate_hz == 16_000
    np.testing.assert_allclose(stored.T, audio, atol=1 / 32_000)


def test_more_channels_than_flac_has_are_not_kept(tmp_path: Path):
    path, kept = write(tmp_path / "a.wav", 1.0, channels=9), tmp_path / "kept.flac"
    with BoundedFile(AudioFile(path), max_s=40, hint="", keep=kept) as file:
        assert sum(block.shape[1] for block in file.blocks()) == 16_000
        assert not file.is_kept
    assert not kept.exists()
