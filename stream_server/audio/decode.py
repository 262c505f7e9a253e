"""Bytes in a stream's format as float samples."""

from __future__ import annotations

import numpy as np

from ser_engine.types import FloatArray
from stream_server.audio.g711 import ALAW, MULAW
from stream_server.protocol.audio_format import AudioFormat

__all__ = ["decode"]

_PCM16_SCALE = np.float32(1 / 32_768)
"""What libsndfile scales 16-bit files with: a stream and its file are the same samples."""


def decode(data: bytes, audio_format: AudioFormat) -> FloatArray:
    """Return interleaved samples as float32 ``(samples, channels)``, full scale ±1.

    Floating point samples come as they are: they may lie beyond, or be NaN or infinite.

    Args:
        data: whole ticks: a multiple of ``audio_format.bytes_per_tick`` bytes.
        audio_format: of the data.
    """
    samples: FloatArray
    match audio_format.encoding:
        case "pcm_s16le":
            samples = np.frombuffer(data, dtype="<i2") * _PCM16_SCALE
        case "pcm_f32le":
            samples = np.frombuffer(data, dtype="<f4").astype(np.float32)
        case "mulaw":
            samples = MULAW[np.frombuffer(data, dtype=np.uint8)]
        case "alaw":
            samples = ALAW[np.frombuffer(data, dtype=np.uint8)]
    return samples.reshape(-1, audio_format.num_channels)
