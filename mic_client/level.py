"""How loud audio is, for a meter."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import numpy as np
import numpy.typing as npt

from mic_client.source import Chunk, Source, SourceItem
from stream_server.protocol.audio_format import AudioFormat

__all__ = ["SILENT_DBFS", "MeteredSource", "levels_dbfs"]

SILENT_DBFS = -100.0
"""Nothing is said to be quieter."""


def levels_dbfs(data: bytes, audio_format: AudioFormat) -> list[float]:
    """Return the level of each channel: its RMS relative to full scale 1.0, in dBFS."""
    if not data:
        return [SILENT_DBFS] * audio_format.num_channels
    samples = _decode(data, audio_format.encoding).reshape(-1, audio_format.num_channels)
    power = np.nan_to_num(np.mean(np.square(samples, dtype=np.float64), axis=0))
    floor = 10 ** (SILENT_DBFS / 10)
    return [float(each) for each in 10 * np.log10(np.maximum(power, floor))]


class MeteredSource:
    """A source whose chunks are measured as they pass.

    Args:
        source: what is measured.
        heard: called with the levels of every chunk, one a channel, in dBFS.
    """

    def __init__(self, source: Source, heard: Callable[[list[float]], None]) -> None:
        self._source = source
        self._heard = heard
        self.format = source.format
        self.is_live = source.is_live
        self.is_real_time = source.is_real_time

    async def __aiter__(self) -> AsyncIterator[SourceItem]:
        """Yield what the source yields."""
        async for item in self._source:
            if isinstance(item, Chunk):
                self._heard(levels_dbfs(item.data, self.format))
            yield item

    async def aclose(self) -> None:
        """Close the source."""
        await self._source.aclose()


def _decode(data: bytes, encoding: str) -> npt.NDArray[np.float32]:
    """Return samples, −1 to 1, of all channels in a row."""
    if encoding == "pcm_f32le":
        return np.frombuffer(data, "<f4")
    if encoding == "pcm_s16le":
        return (np.frombuffer(data, "<i2") / 32_768).astype(np.float32)
    code = np.frombuffer(data, np.uint8).astype(np.int32)
    # ITU-T G.711: sign, three bits of exponent, four of mantissa; sent inverted.
    code ^= 0xFF if encoding == "mulaw" else 0x55
    exponent, mantissa = (code >> 4) & 7, code & 15
    if encoding == "mulaw":
        magnitude = (((mantissa << 3) + 132) << exponent) - 132
    else:
        lowest = (mantissa << 4) + 8
        magnitude = np.where(exponent > 0, (lowest + 256) << np.maximum(exponent - 1, 0), lowest)
    return (magnitude / 32_768).astype(np.float32)
