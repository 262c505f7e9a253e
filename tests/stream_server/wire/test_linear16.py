from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream_server.wire.audio_format import ByteOrder, Linear16
from tests.support.telephony_lab import load_call

ORDERS: tuple[ByteOrder, ...] = ("little", "big")


def hum(amplitude: int, seconds: float = 1.0, rate_hz: int = 8000) -> np.ndarray:
    """Return a voice that hums, with a little noise."""
    times = np.arange(round(seconds * rate_hz)) / rate_hz
    tones = sum(np.sin(2 * np.pi * 140 * number * times) / number for number in range(1, 12))
    noise = np.random.default_rng(1).normal(0, 0.02, len(times))
    return np.round(amplitude * (tones + noise)).astype(np.int16)


def packets(samples: np.ndarray, order: ByteOrder) -> list[bytes]:
    data = samples.astype("<i2" if order == "little" else ">i2").tobytes()
    return [data[at : at + 320] for at in range(0, len(data), 320)]


@pytest.mark.parametrize("expected", ORDERS)
@pytest.mark.parametrize("sent", ORDERS)
@pytest.mark.parametrize("amplitude", [3, 100, 12_000])
def test_speech_says_its_order(expected: ByteOrder, sent: ByteOrder, amplitude: int):
    samples = hum(amplitude)
    decoder = Linear16(expected)
    decoded = b"".join(decoder.decode(packet) for packet in packets(samples, sent))
    assert decoded == samples.astype("<i2").tobytes()


@pytest.mark.parametrize("expected", ORDERS)
@pytest.mark.parametrize("sent", ORDERS)
def test_silence_before_speech_says_nothing(expected: ByteOrder, sent: ByteOrder):
    samples = np.concatenate([np.zeros(16_000, np.int16), hum(5000)])
    decoder = Linear16(expected)
    decoded = b"".join(decoder.decode(packet) for packet in packets(samples, sent))
    assert decoded == samples.astype("<i2").tobytes()


@pytest.mark.parametrize("order", ORDERS)
def test_the_order_is_settled_after_a_while(order: ByteOrder):
    decoder = Linear16(order)
    for packet in packets(hum(5000, seconds=2.0), order):
        decoder.decode(packet)
    # Noise that looks like the other order does not turn it over.
    other: ByteOrder = "big" if order == "little" else "little"
    for packet in packets(hum(20_000, seconds=8.0), other):
        decoder.decode(packet)
    assert (decoder.decode(b"\x01\x02") == b"\x01\x02") is (order == "little")


@given(st.lists(st.binary(max_size=40).filter(lambda data: len(data) % 2 == 0), max_size=8))
def test_it_is_one_order_or_the_other(chunks: list[bytes]):
    decoder = Linear16("big")
    for data in chunks:
        swapped = b"".join(data[at : at + 2][::-1] for at in range(0, len(data), 2))
        assert decoder.decode(data) in (data, swapped)


@pytest.mark.needs("shared-data")
@pytest.mark.parametrize("rate_hz", [8000, 16_000])
@pytest.mark.parametrize("expected", ORDERS)
@pytest.mark.parametrize("sent", ORDERS)
def test_a_real_call_says_its_order_from_the_first_packet_on(
    shared_data: Path, expected: ByteOrder, sent: ByteOrder, rate_hz: int
):
    for track in load_call(shared_data, "pcm_s16le", rate_hz=rate_hz).tracks:
        decoder = Linear16(expected)
        samples = np.frombuffer(track, "<i2")
        assert b"".join(map(decoder.decode, packets(samples, sent))) == track
