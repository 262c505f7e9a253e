"""What samples really are: every format told as every other, and what must not be taken for one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ser_engine.files.audio import read_audio
from ser_engine.raw_audio import ALAW, MULAW, FormatCheck, RawEncoding
from ser_engine.types import FloatArray

if TYPE_CHECKING:
    from tests.conftest import SpeechClip

RATE = 16_000


def _law(table: FloatArray) -> Callable[[FloatArray], bytes]:
    order = np.argsort(table, kind="stable")
    edges = (table[order][1:] + table[order][:-1]) / 2
    return lambda audio: bytes(order[np.searchsorted(edges, audio)].astype(np.uint8))


def _integers(dtype: str, bits: int) -> Callable[[FloatArray], bytes]:
    largest = 2 ** (bits - 1) - 1
    return lambda audio: np.rint(audio.astype(np.float64) * largest).astype(dtype).tobytes()


def _24_bit(audio: FloatArray) -> bytes:
    words = np.frombuffer(_integers("<i4", 24)(audio), np.uint8).reshape(-1, 4)
    return bytes(words[:, :3].tobytes())


WRITERS: dict[str, Callable[[FloatArray], bytes]] = {
    "pcm_s16le": _integers("<i2", 16),
    "big-endian 16-bit PCM": _integers(">i2", 16),
    "24-bit PCM": _24_bit,
    "32-bit PCM": _integers("<i4", 32),
    "pcm_f32le": lambda audio: audio.astype("<f4").tobytes(),
    "mulaw": _law(MULAW),
    "alaw": _law(ALAW),
    "unsigned 8-bit PCM": lambda audio: np.rint(audio * 127 + 128).astype(np.uint8).tobytes(),
}
WORDS = {
    "pcm_s16le": "16-bit PCM",
    "pcm_f32le": "32-bit floating point",
    "mulaw": "mu-law",
    "alaw": "A-law",
}
ENCODINGS: list[RawEncoding] = ["pcm_s16le", "pcm_f32le", "mulaw", "alaw"]


def found(data: bytes, encoding: str, num_channels: int = 1) -> str | None:
    check = FormatCheck(cast(RawEncoding, encoding), num_channels)
    check.push(data)
    return check.finding


@pytest.fixture(scope="module")
def speech(shared_data: Path) -> FloatArray:
    """Several voices, 29 s."""
    audio: FloatArray = read_audio(shared_data / "calls" / "two_people_mono_16k.wav")[0]
    return audio


@pytest.mark.needs("shared-data")
@pytest.mark.parametrize(
    ("sent", "told"),
    [
        (sent, told)
        for told, formats in {
            "pcm_s16le": [*WRITERS],
            "pcm_f32le": ["pcm_s16le", "big-endian 16-bit PCM", "32-bit PCM", "mulaw"],
            "mulaw": ["alaw", "pcm_s16le", "pcm_f32le", "unsigned 8-bit PCM"],
            "alaw": ["mulaw", "pcm_s16le", "pcm_f32le"],
        }.items()
        for sent in formats
        if sent != told
    ],
)
def test_the_format_that_was_sent_is_named(speech: FloatArray, sent: str, told: str):
    message = found(WRITERS[sent](speech), told)
    assert message is not None
    assert message.startswith(f"the audio looks like {WORDS.get(sent, sent)}")
    assert f", but {WORDS[told]} ({told}) was told" in message


@pytest.mark.needs("shared-data")
@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize(
    "second", ["the same", "nearly the same", "a sample later", "another voice", "silence"]
)
def test_two_channels_told_as_one_are_named(speech: FloatArray, encoding: str, second: str):
    other = {
        "the same": speech,
        "nearly the same": 0.9 * speech,
        "a sample later": np.roll(speech, 1),
        "another voice": np.roll(speech, 3 * RATE),
        "silence": np.zeros_like(speech),
    }[second]
    data = WRITERS[encoding](np.stack([speech, other], axis=1).ravel())
    assert "two channels in turn" in (found(data, encoding) or "")
    assert found(data, encoding, 2) is None


@pytest.mark.needs("shared-data")
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_speech_in_the_format_told_is_fine(
    shared_data: Path, speech_clips: tuple[SpeechClip, ...], encoding: str
):
    call = read_audio(shared_data / "calls" / "phone_call_mono_8k.wav")[0][: 60 * RATE]
    for audio in (call, call[::2], *(clip.samples for clip in speech_clips)):
        assert found(WRITERS[encoding](np.clip(audio, -1, 1)), encoding) is None


def sounds() -> Iterator[npt.NDArray[np.float64]]:
    rng = np.random.default_rng(0)
    time = np.arange(8 * RATE) / RATE
    for hz in (50, 440, 1004, 1990, 3999, 4000, 5333, 6100, 7990):
        yield 0.5 * np.sin(2 * np.pi * hz * time + 0.3)
    noise = rng.normal(0, 1, len(time))
    for level in (3e-5, 1e-3, 0.05, 0.3):
        yield level * noise
    yield rng.uniform(-1, 1, len(time))
    yield 0.1 * np.diff(noise, prepend=0)
    yield 0.2 * np.sin(2 * np.pi * 700 * time) + 0.2 * np.sin(2 * np.pi * 1200 * time)
    yield 0.2 + 1e-3 * noise
    yield np.zeros(len(time))
    yield 0.3 * np.sin(2 * np.pi * 500 * time) + 0.1 * np.sin(2 * np.pi * (4000 * time + 0.125))
    yield sum((np.sin(2 * np.pi * hz * time) for hz in (261, 329, 392, 2093)), 0 * time) / 5


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_other_sounds_are_no_other_format(encoding: str):
    for number, sound in enumerate(sounds()):
        data = WRITERS[encoding](np.clip(sound, -1, 1).astype(np.float32))
        assert found(data, encoding) is None, number


@given(cuts=st.lists(st.integers(0, 60_000), max_size=12))
def test_how_the_bytes_are_split_does_not_matter(cuts: list[int]):
    time = np.arange(30_000) / RATE
    data = WRITERS["big-endian 16-bit PCM"]((0.3 * np.sin(900 * time)).astype(np.float32))
    check = FormatCheck("pcm_s16le", 1)
    for start, end in zip([0, *sorted(cuts)], [*sorted(cuts), len(data)], strict=True):
        check.push(data[start:end])
    assert check.finding == found(data, "pcm_s16le")
    assert check.finding is not None
