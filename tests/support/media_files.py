"""Files of the formats that only FFmpeg reads, made by it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ser_engine.types import FloatArray

__all__ = ["write_amr_noise", "write_media"]

_CONTAINERS = {
    ".m4a": "mp4",
    ".webm": "webm",
    ".mka": "matroska",
    ".wma": "asf",
    ".aac": "adts",
}
_AMR_MODE_7 = 0x3C
_AMR_FRAME_BYTES = 31


class _Pipe:
    """A file that cannot be rewound, so that no length can be written at its start."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb")

    def write(self, data: bytes) -> int:
        return self._file.write(data)

    def close(self) -> None:
        self._file.close()


def write_media(
    path: Path, samples: FloatArray, rate_hz: int, codec: str, *, to_pipe: bool = False
) -> Path:
    """Write float32 ``(samples, channels)``; the container is that of the name's ending."""
    import av

    channels = samples.shape[1]
    layout = {1: "mono", 2: "stereo"}[channels]
    target: Any = _Pipe(path) if to_pipe else str(path)
    with av.open(target, "w", format=_CONTAINERS.get(path.suffix)) as container:
        stream: Any = container.add_stream(codec, rate=rate_hz, layout=layout)
        stream.bit_rate = 128_000
        for at in range(0, len(samples), 4800):
            piece = np.ascontiguousarray(samples[at : at + 4800].reshape(1, -1))
            frame = av.AudioFrame.from_ndarray(piece, format="flt", layout=layout)
            frame.sample_rate = rate_hz
            frame.pts = at
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    if to_pipe:
        target.close()
    return path


def write_amr_noise(path: Path, seconds: float) -> Path:
    """Write narrow-band AMR whose bits are random: noise, but valid (RFC 4867, section 5)."""
    noise = np.random.default_rng(0)
    with path.open("wb") as file:
        file.write(b"#!AMR\n")
        for _ in range(round(seconds * 50)):
            file.write(bytes([_AMR_MODE_7]) + noise.bytes(_AMR_FRAME_BYTES))
    return path
