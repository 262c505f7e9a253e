"""Files of the formats that only FFmpeg reads, made by it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ser_engine.types import FloatArray

__all__ = ["live_messages", "write_amr_noise", "write_media"]

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


_LIVE: dict[str, tuple[str, str, int, dict[str, str]]] = {
    "webm": ("webm", "libopus", 48_000, {"live": "1"}),
    "ogg": ("ogg", "libopus", 48_000, {}),
    "mp4": ("mp4", "aac", 48_000, {"movflags": "frag_keyframe+empty_moov+default_base_moof"}),
    "flac": ("flac", "flac", 16_000, {}),
    "mp3": ("mp3", "mp3", 16_000, {}),
    "aac": ("adts", "aac", 16_000, {}),
    "wav": ("wav", "pcm_s16le", 16_000, {}),
    "amr": ("amr", "libopencore_amrnb", 8000, {}),
    "amr-nb": ("amr", "libopencore_amrnb", 8000, {}),
    "opus": ("", "libopus", 48_000, {}),
    "g722": ("", "g722", 16_000, {}),
}
"""Container, encoder, its rate and options of the container, by the name of the encoding."""

_BIT_RATES = {"amr": 12_200, "amr-nb": 12_200, "mp3": 128_000}
"""Where FFmpeg's own is the least there is: as telephone networks and recorders have it."""


def live_messages(encoding: str, samples: FloatArray) -> list[bytes]:
    """Return ``(samples, channels)`` at 16 kHz as a client sends them; one message a packet.

    Of a container and its frames the messages may be split and joined at will. There is no encoder
    for AMR-WB and G.729.
    """
    import av

    container_name, codec, rate_hz, options = _LIVE[encoding]
    layout = {1: "mono", 2: "stereo"}[samples.shape[1]]
    sink = _Sink()
    target: Any = sink
    container = (
        av.open(target, "w", format=container_name, options=options) if container_name else None
    )
    encoder: Any
    if container is not None:
        stream: Any = container.add_stream(codec, rate=rate_hz, layout=layout)
        encoder = stream
    else:
        encoder = av.CodecContext.create(codec, "w")
        encoder.sample_rate, encoder.layout, encoder.format = rate_hz, layout, "s16"
    if encoding in _BIT_RATES:
        encoder.bit_rate = _BIT_RATES[encoding]
    convert = av.AudioResampler(format="s16", layout=layout, rate=rate_hz)
    cut = av.audio.fifo.AudioFifo()
    messages: list[bytes] = []

    def put(frame: Any) -> None:
        for packet in encoder.encode(frame):
            if container is not None:
                container.mux(packet)
            else:
                messages.append(bytes(packet))

    values = np.ascontiguousarray(np.round(samples * 32_767).astype(np.int16)).reshape(1, -1)
    whole = av.AudioFrame.from_ndarray(values, format="s16", layout=layout)
    whole.sample_rate = 16_000
    whole.pts = 0
    for frame in (*convert.resample(whole), *convert.resample(None)):
        cut.write(frame)
    while (piece := cut.read(rate_hz // 50, partial=True)) is not None:
        put(piece)
    put(None)
    if container is not None:
        container.close()
        messages = [bytes(sink.data)]
    if encoding == "amr-nb":
        messages[0] = messages[0].removeprefix(b"#!AMR\n")
    return messages


class _Sink:
    """A file that cannot be rewound, in memory."""

    def __init__(self) -> None:
        self.data = bytearray()

    def write(self, data: bytes) -> int:
        self.data += data
        return len(data)
