"""Whatever a file holds, reading it gives audio or one line."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from ser_engine.errors import AudioError
from ser_engine.files import audio
from ser_engine.files.audio import AudioFile, read_audio
from ser_engine.files.decoders import SoundDecoder
from tests.support.damaged_files import cases, recordings, wav_of_codec

HAS_AV = importlib.util.find_spec("av") is not None


def refusal(path: Path) -> str:
    with pytest.raises(AudioError) as caught:
        read_audio(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    return message


def test_damage_gives_audio_or_one_line(tmp_path: Path):
    """A longer run of the same is ``python -m benchmarks.damaged_files``."""
    paths = recordings(tmp_path, media=HAS_AV)
    num_read = num_refused = 0
    for path, _, content in cases(paths, range(10)):
        each = tmp_path / f"damaged{path.suffix}"
        each.write_bytes(content)
        try:
            with AudioFile(each) as file:
                for block in file.blocks():
                    assert np.isfinite(block).all()
            num_read += 1
        except AudioError as error:
            assert "\n" not in str(error)
            num_refused += 1
    assert num_read > 10
    assert num_refused > 10


@pytest.mark.parametrize(("tag", "name"), [(0x0133, "G.729"), (0x7777, "an unknown codec")])
def test_a_codec_without_a_decoder_is_named(tag: int, name: str, tmp_path: Path):
    message = refusal(wav_of_codec(tmp_path / "a.wav", tag))
    assert f"got WAV with {name} (format tag 0x{tag:04X}), which cannot be decoded" in message
    assert "expected WAV, FLAC" in message


def test_a_name_does_not_make_samples_of_bytes(tmp_path: Path):
    path = tmp_path / "any_bytes.raw"
    path.write_bytes(bytes(range(256)) * 6)
    message = refusal(path)
    assert "not recognised" in message
    assert "--encoding mulaw --rate 8000" in message


@pytest.mark.parametrize("when", ["opening", "reading"])
@pytest.mark.parametrize("error", [TypeError("a\nb"), AssertionError(), MemoryError(), KeyError(1)])
def test_whatever_a_library_raises_is_an_error_of_the_file(
    when: str, error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    class Broken(SoundDecoder):
        def __init__(self, path: Path) -> None:
            if when == "opening":
                raise error
            super().__init__(path)

        def read(self):
            raise error

    monkeypatch.setattr(audio, "SoundDecoder", Broken)
    assert "it cannot be decoded: " in refusal(recordings(tmp_path, media=False)[0])
