from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ser_engine.types import FloatArray
from stream_server.streams.intake import HOLD_OFF_MS, Intake, NoAudio
from stream_server.wire.audio_format import AudioFormat, Encoding
from stream_server.wire.errors import ErrorCode
from stream_server.wire.samples import decode

MONO_F32 = AudioFormat("pcm_f32le", 16_000)
HOLD_OFF = 16 * HOLD_OFF_MS


def merged(items: list[FloatArray | NoAudio]) -> list[tuple[str, int]]:
    """Kinds and lengths, neighbours of one kind as one."""
    spans: list[tuple[str, int]] = []
    for item in items:
        kind = item.reason if isinstance(item, NoAudio) else "audio"
        length = item.num_samples if isinstance(item, NoAudio) else item.shape[1]
        if spans and spans[-1][0] == kind:
            spans[-1] = (kind, spans[-1][1] + length)
        elif length:
            spans.append((kind, length))
    return spans


def take(intake: Intake, audio: FloatArray, reads: list[int]) -> list[FloatArray | NoAudio]:
    intake.receive(audio.astype("<f4").tobytes())
    items = [item for ticks in reads for item in intake.read(ticks)]
    return items + intake.flush()


def audio_of(items: list[FloatArray | NoAudio]) -> FloatArray:
    blocks = [item for item in items if not isinstance(item, NoAudio)]
    return np.concatenate(blocks, axis=1)


def test_bytes_of_a_sample_wait_for_the_rest():
    intake = Intake(AudioFormat("pcm_s16le", 16_000, 2), [0, 1])
    data = np.arange(8, dtype="<i2").tobytes()
    intake.receive(data[:7])
    assert intake.buffered_ticks == 1
    (first,) = intake.read(10)
    intake.receive(data[7:])
    (second,) = intake.flush()
    both = audio_of([first, second])
    np.testing.assert_array_equal(both * 32_768, [[0, 2, 4, 6], [1, 3, 5, 7]])


def test_only_wanted_channels_come_out():
    intake = Intake(AudioFormat("pcm_s16le", 16_000, 3), [2])
    intake.receive(np.arange(6, dtype="<i2").tobytes())
    np.testing.assert_array_equal(audio_of(intake.flush()) * 32_768, [[2, 5]])


def test_bad_audio_becomes_a_gap_of_its_length():
    audio = np.full(10_000, 0.1, dtype=np.float32)
    audio[3000], audio[3400], audio[3700] = np.nan, -2e6, np.inf
    intake = Intake(MONO_F32, [0])
    items = take(intake, audio, [10_000])
    gap = 701 + HOLD_OFF
    assert merged(items) == [("audio", 3000), ("error", gap), ("audio", 7000 - gap)]
    (error,) = intake.take_errors()
    assert error.code is ErrorCode.BAD_AUDIO
    assert not error.ends_stream
    assert "0.188 s" in str(error)
    assert intake.take_errors() == []


@given(
    bad=st.lists(st.integers(0, 9999), max_size=6, unique=True),
    reads=st.lists(st.integers(1, 4000), max_size=10),
)
def test_how_bad_audio_is_read_does_not_matter(bad: list[int], reads: list[int]):
    audio = np.full(10_000, 0.1, dtype=np.float32)
    audio[bad] = np.nan
    whole, split = Intake(MONO_F32, [0]), Intake(MONO_F32, [0])
    expected, items = take(whole, audio, [10_000]), take(split, audio, reads)
    assert merged(items) == merged(expected)
    assert [str(e) for e in split.take_errors()] == [str(e) for e in whole.take_errors()]
    assert sum(length for _, length in merged(items)) == 10_000


def test_one_bad_channel_is_a_gap_for_all():
    audio = np.zeros((4000, 2), dtype=np.float32)
    audio[100, 1] = np.nan
    items = take(Intake(AudioFormat("pcm_f32le", 16_000, 2), [0, 1]), audio, [])
    assert merged(items)[:2] == [("audio", 100), ("error", 1 + HOLD_OFF)]


@pytest.mark.parametrize("rate_hz", [8000, 11_025, 44_100])
@given(gaps=st.lists(st.tuples(st.integers(0, 3000), st.integers(0, 3000)), max_size=5))
def test_positions_count_audio_and_gaps(rate_hz: int, gaps: list[tuple[int, int]]):
    intake = Intake(AudioFormat("mulaw", rate_hz), [0])
    total = 0
    for audio_ticks, gap_ticks in gaps:
        intake.receive(bytes(audio_ticks))
        items = intake.gap("lost", gap_ticks)
        total += sum(length for _, length in merged(items))
        assert total == intake.end_sample == intake.to_clock(intake.end_ticks)
    assert intake.end_ticks == sum(audio + gap for audio, gap in gaps)


def test_a_partial_tick_can_be_forgotten():
    intake = Intake(AudioFormat("pcm_s16le", 16_000, 2), [0, 1])
    intake.receive(bytes(11))
    intake.drop_partial_tick()
    intake.receive(bytes(4))
    assert intake.buffered_ticks == 3


def tone(samples: int) -> FloatArray:
    return (0.3 * np.sin(np.arange(samples) / 5)).astype(np.float32)


@pytest.mark.parametrize("encoding", ["pcm_s16le", "pcm_f32le"])
@pytest.mark.parametrize("stray", [b"x", b"xyz", b'{"type":"KeepAlive"]'[:21] + b"!"])
@pytest.mark.parametrize("is_first_silent", [False, True])
def test_bytes_that_are_no_audio_do_not_shift_what_follows(
    encoding: Encoding, stray: bytes, is_first_silent: bool
):
    audio = tone(8000)
    audio[: 4000 * is_first_silent] = 0
    samples = audio if encoding == "pcm_f32le" else (audio * 32_767).astype("<i2")
    data = samples.tobytes()
    intake = Intake(AudioFormat(encoding, 16_000), [0])
    middle = len(data) // 2
    intake.receive(data[:middle])
    intake.receive(stray)
    intake.receive(data[middle:])
    (last,) = intake.flush()[-1:]
    assert not isinstance(last, NoAudio)
    np.testing.assert_allclose(last[0, -1000:], audio[-1000:], atol=1e-4)


@pytest.mark.parametrize("encoding", ["pcm_s16le", "pcm_f32le"])
@given(size=st.integers(1, 700), num_channels=st.integers(1, 3), is_noise=st.booleans())
def test_samples_that_are_cut_by_messages_are_put_together(
    encoding: Encoding, size: int, num_channels: int, is_noise: bool
):
    rng = np.random.default_rng(1)
    audio = 0.3 * rng.standard_normal(2400) if is_noise else tone(2400)
    samples = (audio if encoding == "pcm_f32le" else audio * 20_000).astype(
        "<f4" if encoding == "pcm_f32le" else "<i2"
    )
    data = samples.tobytes()
    intake = Intake(AudioFormat(encoding, 16_000, num_channels), [*range(num_channels)])
    for start in range(0, len(data), size):
        intake.receive(data[start : start + size])
    whole = decode(data, AudioFormat(encoding, 16_000, num_channels))
    np.testing.assert_array_equal(audio_of(intake.flush()), whole.T)
