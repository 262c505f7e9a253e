"""Samples in memory as a source."""

from __future__ import annotations

from collections.abc import AsyncIterator

import numpy as np
import numpy.typing as npt

from mic_client.pacing import Pacer, chunk_samples
from mic_client.source import Chunk
from stream_server.protocol.audio_format import AudioFormat

__all__ = ["ArraySource"]


class ArraySource:
    """Samples, paced as if they were heard now; streamed as ``pcm_s16le``.

    Args:
        samples: ``(samples,)`` or ``(samples, channels)``, −1 to 1.
        sample_rate_hz: 8000 to 48000.
        speed: audio seconds a second; :data:`~mic_client.pacing.MAX_SPEED`: as fast as it goes.
        loop: begin again at the end, for ever.

    Raises:
        ProtocolError: a rate or a number of channels the protocol does not know.
    """

    is_live = False

    def __init__(
        self,
        samples: npt.NDArray[np.float32],
        sample_rate_hz: int,
        *,
        speed: float = 1.0,
        loop: bool = False,
    ) -> None:
        columns = samples if samples.ndim == 2 else samples[:, np.newaxis]
        self.format = AudioFormat("pcm_s16le", sample_rate_hz, columns.shape[1])
        self._data = np.rint(np.clip(columns, -1, 1) * 32_767).astype("<i2").tobytes()
        self._pacer = Pacer(speed)
        self.is_real_time = speed == 1.0
        self._loop = loop
        self._chunk_bytes = chunk_samples(sample_rate_hz, speed) * self.format.bytes_per_tick
        self._is_closed = False

    async def __aiter__(self) -> AsyncIterator[Chunk]:
        """Yield the chunks when they are due: each when its last sample would have been heard."""
        num_bytes = 0
        while True:
            for start in range(0, len(self._data), self._chunk_bytes):
                data = self._data[start : start + self._chunk_bytes]
                num_bytes += len(data)
                await self._pacer.wait_for(num_bytes / self.format.bytes_per_s)
                if self._is_closed:
                    return
                yield Chunk(data)
            if not self._loop or not self._data:
                return

    async def aclose(self) -> None:
        """End the iteration."""
        self._is_closed = True
