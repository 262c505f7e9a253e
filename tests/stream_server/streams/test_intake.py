from __future__ import annotations

import io

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from ser_engine.raw_audio import ALAW, ALAW_PCM16, MULAW, MULAW_PCM16
from ser_engine.types import FloatArray
from stream_server.streams.intake import HOLD_OFF_MS, Intake, NoAudio, decode
from stream_server.wire.audio_format import AudioFormat, Encoding
from stream_server.wire.errors import ErrorCode

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


def test_mulaw_says_what_the_recommendation_says():
    # Table 2a of G.711: values at the decoder output, 14 bits, shifted by 2.
    values = {0x80: 8031, 0x8F: 4191, 0x90: 3999, 0x9F: 2079, 0xDF: 99, 0xE0: 93, 0xEF: 33}
    values |= {0xF0: 30, 0xFE: 2, 0xFF: 0}
    for code, value in values.items():
        assert MULAW_PCM16[code] == value * 4
        assert MULAW_PCM16[code & 0x7F] == -value * 4


def test_alaw_says_what_the_recommendation_says():
    # Table 1a of G.711: values at the decoder output, 13 bits, shifted by 3; on the line the even
    # bits are inverted.
    values = {127: 4032, 112: 2112, 111: 2016, 96: 1056, 47: 126, 32: 66, 31: 63, 1: 3, 0: 1}
    for number, value in values.items():
        code = (0x80 | number) ^ 0x55
        assert ALAW_PCM16[code] == value * 8
        assert ALAW_PCM16[code & 0x7F if code & 0x80 else code | 0x80] == -value * 8


def test_every_code_has_its_own_value_but_for_the_two_zeros_of_mulaw():
    assert len(set(ALAW_PCM16.tolist())) == 256
    assert len(set(MULAW_PCM16.tolist())) == 255


def test_both_tables_are_odd_and_within_full_scale():
    for table in (MULAW, ALAW):
        assert table.dtype == np.float32
        assert table.shape == (256,)
        np.testing.assert_array_equal(np.sort(table), np.sort(-table))
        assert 0.97 < table.max() < 1


def test_pcm_is_scaled_as_files_are(rng: np.random.Generator):
    pcm = rng.integers(-32_768, 32_768, (100, 2), dtype=np.int16)
    file = io.BytesIO()
    soundfile.write(file, pcm, 16_000, subtype="PCM_16", format="WAV")
    file.seek(0)
    expected, _ = soundfile.read(file, dtype="float32")
    decoded = decode(pcm.astype("<i2").tobytes(), AudioFormat("pcm_s16le", 16_000, 2))
    assert decoded.dtype == np.float32
    np.testing.assert_array_equal(decoded, expected)


def test_floats_come_as_they_are():
    values = np.array([[0.5, -2.0], [np.nan, np.inf]], dtype="<f4")
    decoded = decode(values.tobytes(), AudioFormat("pcm_f32le", 16_000, 2))
    np.testing.assert_array_equal(decoded, values)


@pytest.mark.parametrize(("encoding", "subtype"), [("mulaw", "ULAW"), ("alaw", "ALAW")])
def test_g711_is_decoded_as_files_are(encoding: Encoding, subtype: str):
    codes = bytes(range(256))
    file = io.BytesIO(codes)
    expected, _ = soundfile.read(
        file, dtype="float32", format="RAW", subtype=subtype, samplerate=8000, channels=2
    )
    decoded = decode(codes, AudioFormat(encoding, 8000, 2))
    np.testing.assert_array_equal(decoded, expected)


def test_no_bytes_are_no_samples():
    assert decode(b"", AudioFormat("mulaw", 8000, 2)).shape == (0, 2)


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


def test_numbers_of_16_bits_are_told_from_others():
    formats: list[tuple[Encoding, int]] = [
        ("pcm_s16le", 16_000),
        ("mulaw", 16_000),
        ("pcm_f32le", 16_000),
        ("alaw", 8_000),
    ]
    told = [Intake(AudioFormat(name, rate, 1), [0]).is_of_16_bits for name, rate in formats]
    assert told == [True, True, False, False]
    samples = decode(bytes(range(256)), AudioFormat("alaw", 16_000, 1)) * 32_768
    assert np.array_equal(samples, samples.astype(np.int16))
