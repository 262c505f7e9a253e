from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mic_client.errors import SourceError
from mic_client.sources import MAX_SPEED, ArraySource
from stream_server.wire.errors import ProtocolError
from tests.support.virtual_time import current_loop, virtual_time


@virtual_time
async def test_channels_are_interleaved_and_peaks_limited():
    samples = np.array([[0.0, 1.0], [-1.5, 0.5]], np.float32)
    source = ArraySource(samples, 16_000, speed=MAX_SPEED)
    (chunk,) = [chunk async for chunk in source]
    assert np.frombuffer(chunk.data, "<i2").tolist() == [0, 32_767, -32_767, 16_384]


@virtual_time
async def test_integers_and_lists_are_samples_too():
    for samples in (np.array([1, -32_768], np.int16), [1 / 32_767, -1.0]):
        source = ArraySource(samples, 16_000, speed=MAX_SPEED)
        (chunk,) = [chunk async for chunk in source]
        assert np.frombuffer(chunk.data, "<i2").tolist() in ([1, -32_768], [1, -32_767])


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (np.zeros(10, np.int64), r"got int64 samples of shape \(10,\), expected .* or of int16"),
        (np.zeros((1, 10, 2)), r"shape \(1, 10, 2\)"),
        ([[0.0], [0.0, 1.0]], "no array"),
        (np.array([0.0, np.nan]), "NaN"),
        (b"RIFF", r"shape \(\)"),
    ],
)
def test_what_is_no_audio_is_refused(wrong: Any, says: str):
    with pytest.raises(SourceError, match=says):
        ArraySource(wrong, 16_000)


@virtual_time
async def test_a_loop_keeps_time():
    source = ArraySource(np.zeros(16_000, np.float32), 16_000, loop=True)
    num_chunks = 0
    async for _ in source:
        num_chunks += 1
        if current_loop().time() > 9.99:
            await source.aclose()
    assert num_chunks == 250


@virtual_time
async def test_nothing_is_no_endless_loop():
    source = ArraySource(np.zeros(0, np.float32), 16_000, loop=True)
    assert [chunk async for chunk in source] == []


def test_a_rate_the_protocol_does_not_know_is_refused():
    with pytest.raises(ProtocolError, match="got sample_rate 4000"):
        ArraySource(np.zeros(10, np.float32), 4000)
