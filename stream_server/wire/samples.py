"""Bytes of an audio format as samples: integers, floats, and the two laws of G.711.

Of the server and of its clients. Apart from :mod:`~stream_server.wire.audio_format`, because this
needs NumPy, whose import every command would wait for.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from stream_server.wire.audio_format import AudioFormat

# Both laws as tables of 256 values. A code is a sign, a segment (exponent) and a step (mantissa);
# values are those of the 16-bit form in common use: mu-law ±32124 (14 bit, shifted by 2), A-law
# ±32256 (13 bit, shifted by 3). Source: ITU-T Recommendation G.711 (11/88), tables 1a to 2b.

# As libsndfile scales 16-bit files: a stream and its file are the same samples.
_SCALE = np.float32(1 / 32_768)

# The law counts from 33 (of 14 bits) on, so that every segment is twice as long as the last.
_MULAW_BIAS = 33 << 2


def _mulaw_pcm16() -> npt.NDArray[np.int16]:
    codes = ~np.arange(256) & 0xFF  # all bits are inverted on the line
    segment, step = codes >> 4 & 7, codes & 0x0F
    size = ((step << 3) + _MULAW_BIAS << segment) - _MULAW_BIAS
    values: npt.NDArray[np.int16] = np.where(codes & 0x80, -size, size).astype(np.int16)
    return values


def _alaw_pcm16() -> npt.NDArray[np.int16]:
    codes = np.arange(256) ^ 0x55  # even bits are inverted on the line
    segment, step = codes >> 4 & 7, codes & 0x0F
    # The first two segments have steps of one size; each later one's are twice the last's.
    size = np.where(segment > 0, step + 16 + 0.5, step + 0.5) * 2.0 ** np.maximum(segment + 3, 4)
    values: npt.NDArray[np.int16] = np.where(codes & 0x80, size, -size).astype(np.int16)
    return values


MULAW_PCM16 = _mulaw_pcm16()
"""int16 ``(256,)``: the 16-bit value of every mu-law code."""
ALAW_PCM16 = _alaw_pcm16()
"""int16 ``(256,)``: the 16-bit value of every A-law code."""
MULAW: npt.NDArray[np.float32] = MULAW_PCM16.astype(np.float32) * _SCALE
"""float32 ``(256,)``: the same, full scale ±1."""
ALAW: npt.NDArray[np.float32] = ALAW_PCM16.astype(np.float32) * _SCALE
"""float32 ``(256,)``: the same, full scale ±1."""


def decode(data: bytes, audio_format: AudioFormat) -> npt.NDArray[np.float32]:
    """Return interleaved samples as float32 ``(samples, channels)``, full scale ±1.

    Floating point samples come as they are: they may lie beyond, or be NaN or infinite.

    Args:
        data: whole ticks: a multiple of ``audio_format.bytes_per_tick`` bytes.
        audio_format: of the data.
    """
    samples: npt.NDArray[np.float32]
    match audio_format.encoding:
        case "pcm_s16le":
            samples = np.frombuffer(data, dtype="<i2") * _SCALE
        case "pcm_f32le":
            samples = np.frombuffer(data, dtype="<f4").astype(np.float32)
        case "mulaw":
            samples = MULAW[np.frombuffer(data, dtype=np.uint8)]
        case "alaw":
            samples = ALAW[np.frombuffer(data, dtype=np.uint8)]
    return samples.reshape(-1, audio_format.num_channels)
