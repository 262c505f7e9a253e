"""The two laws of ITU-T G.711 as tables of 256 values.

A code is a sign, a segment (exponent) and a step (mantissa). Values are those of the 16-bit form in
common use: mu-law ±32124 (14 bit, shifted by 2), A-law ±32256 (13 bit, shifted by 3).

Source: ITU-T Recommendation G.711 (11/88), tables 1a to 2b.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ser_engine.types import FloatArray

__all__ = ["ALAW", "ALAW_PCM16", "MULAW", "MULAW_PCM16"]

_SCALE = np.float32(1 / 32_768)
_MULAW_BIAS = 33 << 2
"""The law counts from 33 (of 14 bits) on, so that every segment is twice as long as the last."""


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
MULAW: FloatArray = MULAW_PCM16.astype(np.float32) * _SCALE
"""float32 ``(256,)``: the same, full scale ±1."""
ALAW: FloatArray = ALAW_PCM16.astype(np.float32) * _SCALE
"""float32 ``(256,)``: the same, full scale ±1."""
