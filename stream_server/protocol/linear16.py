"""16-bit linear samples whose byte order a platform does not tell, as little-endian ones.

``audio/l16`` is big-endian by RFC 2586, but platforms say L16 and send either. Speech tells: read
in the wrong order it is close to white noise, and jumps from sample to sample far more than in the
right one.
"""

from __future__ import annotations

import sys
from array import array
from itertools import pairwise
from typing import Literal

__all__ = ["ByteOrder", "Linear16"]

ByteOrder = Literal["little", "big"]

_EVIDENCE_SAMPLES = 8_000
"""Samples other than zero after which the order is not looked at any more."""


class Linear16:
    """Turns the samples of one stream into little-endian ones.

    Args:
        expected: byte order to go by until there is evidence.
    """

    def __init__(self, expected: ByteOrder) -> None:
        self._is_big = expected == "big"
        self._roughness_little = 0
        self._roughness_big = 0
        self._looked_at = 0

    def decode(self, data: bytes) -> bytes:
        """Return ``data``, whole samples, as little-endian."""
        if self._looked_at < _EVIDENCE_SAMPLES:
            self._look_at(data[: 2 * _EVIDENCE_SAMPLES])
        return _swapped(data) if self._is_big else data

    def _look_at(self, data: bytes) -> None:
        self._looked_at += sum(1 for sample in array("h", data) if sample)
        self._roughness_little += _roughness(data)
        self._roughness_big += _roughness(_swapped(data))
        if self._roughness_big != self._roughness_little:
            self._is_big = self._roughness_big < self._roughness_little


def _swapped(data: bytes) -> bytes:
    samples = array("h", data)
    samples.byteswap()
    return samples.tobytes()


def _roughness(data: bytes) -> int:
    """Return how far little-endian samples jump from one to the next, in all."""
    samples = array("h", data)
    if sys.byteorder == "big":
        samples.byteswap()
    return sum(abs(after - before) for before, after in pairwise(samples))
