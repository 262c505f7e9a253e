from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import soundfile

from mic_client.audio_file import FileSource
from mic_client.errors import AudioFileError
from mic_client.sources import MAX_SPEED
from tests.support.virtual_time import current_loop, virtual_time

RATE_HZ = 16_000


@pytest.fixture
def stereo(rng: np.random.Generator) -> npt.NDArray[np.float32]:
    return rng.uniform(-0.9, 0.9, (RATE_HZ + 77, 2)).astype(np.float32)


async def read(source: FileSource) -> bytes:
    return b"".join([chunk.data async for chunk in source])


@virtual_time
async def test_a_16_bit_file_is_streamed_bit_by_bit(
    tmp_path: Path, stereo: npt.NDArray[np.float32]
):
    soundfile.write(tmp_path / "call.wav", stereo, RATE_HZ, subtype="PCM_16")
    source = FileSource(tmp_path / "call.wav", speed=MAX_SPEED)
    assert (source.format.encoding, source.format.num_channels) == ("pcm_s16le", 2)
    expected, _ = soundfile.read(tmp_path / "call.wav", dtype="int16")
    assert await read(source) == expected.tobytes()
    assert source.duration_s == pytest.approx(1 + 77 / RATE_HZ)


@virtual_time
@pytest.mark.parametrize(
    ("name", "kwargs"),
    [
        ("call.flac", {"subtype": "PCM_24"}),
        ("call.wav", {"subtype": "FLOAT"}),
        ("call.ogg", {"format": "OGG", "subtype": "VORBIS"}),
        ("call.mp3", {"format": "MP3", "subtype": "MPEG_LAYER_III"}),
    ],
)
async def test_other_files_are_streamed_as_floats(
    name: str, kwargs: dict[str, str], tmp_path: Path, stereo: npt.NDArray[np.float32]
):
    soundfile.write(tmp_path / name, stereo, RATE_HZ, **kwargs)
    source = FileSource(tmp_path / name, speed=MAX_SPEED)
    assert source.format.encoding == "pcm_f32le"
    expected, _ = soundfile.read(tmp_path / name, dtype="float32")
    heard = np.frombuffer(await read(source), np.float32).reshape(-1, 2)
    # The MP3 decoder rounds differently from call to call.
    np.testing.assert_allclose(heard, expected, rtol=0, atol=1e-6 if "mp3" in name else 0)


@virtual_time
async def test_the_audio_takes_as_long_as_it_is(tmp_path: Path, stereo: npt.NDArray[np.float32]):
    soundfile.write(tmp_path / "call.wav", stereo, RATE_HZ)
    sizes = []
    async for chunk in FileSource(tmp_path / "call.wav"):
        sizes.append(len(chunk.data))
    assert current_loop().time() == pytest.approx(1 + 77 / RATE_HZ)
    assert set(sizes[:-1]) == {640 * 4}
    assert sizes[-1] == 77 * 4


@virtual_time
async def test_a_loop_goes_on(tmp_path: Path, stereo: npt.NDArray[np.float32]):
    soundfile.write(tmp_path / "call.wav", stereo, RATE_HZ, subtype="PCM_16")
    once, _ = soundfile.read(tmp_path / "call.wav", dtype="int16")
    source = FileSource(tmp_path / "call.wav", speed=MAX_SPEED, loop=True)
    heard = b""
    async for chunk in source:
        heard += chunk.data
        if len(heard) > 3 * once.nbytes:
            await source.aclose()
    assert heard.startswith(3 * once.tobytes())


@virtual_time
async def test_a_rate_the_protocol_does_not_know_is_resampled(tmp_path: Path):
    tone = np.sin(np.arange(96_000) * 2 * np.pi * 440 / 96_000).astype(np.float32) / 2
    soundfile.write(tmp_path / "tone.wav", tone, 96_000)
    source = FileSource(tmp_path / "tone.wav", speed=MAX_SPEED)
    assert (source.format.encoding, source.format.sample_rate_hz) == ("pcm_f32le", 48_000)
    heard = np.frombuffer(await read(source), np.float32)
    assert len(heard) == 48_000
    assert np.abs(heard[1000:-1000] - tone[::2][1000:-1000]).max() < 1e-3


@virtual_time
async def test_closing_ends_the_iteration(tmp_path: Path, stereo: npt.NDArray[np.float32]):
    soundfile.write(tmp_path / "call.wav", stereo, RATE_HZ)
    source = FileSource(tmp_path / "call.wav")
    async for _ in source:
        await source.aclose()
    await source.aclose()
    assert current_loop().time() < 0.1


def test_what_is_no_audio_is_refused(tmp_path: Path):
    (tmp_path / "text.wav").write_text("no audio")
    soundfile.write(tmp_path / "empty.wav", np.zeros(0), RATE_HZ)
    soundfile.write(tmp_path / "many.wav", np.zeros((10, 9)), RATE_HZ)
    for name, message in [
        ("missing.wav", "there is no such file"),
        ("text.wav", "ffmpeg -i text.wav"),
        ("empty.wav", "no audio in the file"),
        ("many.wav", "9 channels, more than the 8"),
    ]:
        with pytest.raises(AudioFileError, match=message):
            FileSource(tmp_path / name)
