from __future__ import annotations

import numpy as np
import pytest

from mic_client.sources import MAX_SPEED, SILENT_DBFS, ArraySource, MeteredSource, levels_dbfs
from ser_engine.raw_audio import ALAW, MULAW
from ser_engine.types import FloatArray
from stream_server.wire.audio_format import AudioFormat, Encoding
from tests.support.virtual_time import virtual_time


@pytest.mark.parametrize(
    ("encoding", "kind", "scale"), [("pcm_s16le", "<i2", 32_767), ("pcm_f32le", "<f4", 1)]
)
def test_each_channel_has_its_level(encoding: Encoding, kind: str, scale: int):
    sine = np.sin(np.arange(1600) * 2 * np.pi / 16)
    both = np.stack([sine, sine / 10], axis=1) * scale
    levels = levels_dbfs(both.astype(kind).tobytes(), AudioFormat(encoding, 16_000, 2))
    assert levels == pytest.approx([-3.01, -23.01], abs=0.02)


@pytest.mark.parametrize(("encoding", "table"), [("mulaw", MULAW), ("alaw", ALAW)])
def test_the_laws_of_g711_are_those_of_the_engine(encoding: Encoding, table: FloatArray):
    levels = levels_dbfs(bytes(range(256)), AudioFormat(encoding, 8000, 2))
    power = np.mean(np.square(table.reshape(-1, 2), dtype=np.float64), axis=0)
    assert levels == pytest.approx(10 * np.log10(power))


def test_silence_and_nothing_have_a_level():
    audio_format = AudioFormat("pcm_s16le", 16_000, 2)
    assert levels_dbfs(bytes(400), audio_format) == [SILENT_DBFS] * 2
    assert levels_dbfs(b"", audio_format) == [SILENT_DBFS] * 2


@virtual_time
async def test_a_metered_source_is_the_source():
    heard: list[list[float]] = []
    source = ArraySource(np.full(32_000, 0.5, np.float32), 16_000, speed=MAX_SPEED)
    metered = MeteredSource(source, heard.append)
    assert metered.format is source.format
    assert not metered.is_live
    assert not metered.is_real_time
    chunks = [chunk async for chunk in metered]
    assert len(chunks) == 2
    assert heard == [pytest.approx([-6.02], abs=0.01)] * 2
    await metered.aclose()
