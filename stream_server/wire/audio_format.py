"""The encoding of a stream's audio, and the arithmetic between bytes and samples.

:class:`Linear16` finds the byte order of 16-bit samples where a platform does not say it.
``audio/L16`` is big-endian (RFC 2586, section 2), but platforms use the name for either. Speech
tells: read in the wrong order it is close to white noise, and jumps far more from sample to sample.
"""

from __future__ import annotations

import sys
from array import array
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, cast, get_args

from stream_server.wire.codecs import CODECS, CODED, default_rate_hz
from stream_server.wire.errors import ErrorCode, ProtocolError, shown

Encoding = Literal["pcm_s16le", "pcm_f32le", "mulaw", "alaw"]
"""16-bit and float PCM, little-endian, and the two laws of ITU-T G.711, one byte a sample."""

ENCODINGS: tuple[str, ...] = get_args(Encoding)
SAMPLE_RATES_HZ = range(8_000, 48_001)
MAX_CHANNELS = 8

# ITU-T G.711 compands a sample to one byte.
_BYTES = {"pcm_s16le": 2, "pcm_f32le": 4, "mulaw": 1, "alaw": 1}


@dataclass(frozen=True, slots=True)
class AudioFormat:
    """The format of binary messages: interleaved samples of all channels.

    Attributes:
        sample_rate_hz: 8000 to 48000.
        num_channels: 1 to 8.
        codec: what messages hold instead, one of :data:`~stream_server.wire.codecs.CODED`; the
            other fields say what becomes of it. "": the samples themselves.
        per_track: each channel comes in packets of its own, and is decoded by itself.

    Raises:
        ProtocolError: a value is out of range.
    """

    encoding: Encoding
    sample_rate_hz: int
    num_channels: int = 1
    codec: str = ""
    per_track: bool = False

    def __post_init__(self) -> None:
        if self.encoding not in ENCODINGS or self.codec not in ("", *CODED):
            raise ProtocolError(
                ErrorCode.BAD_FORMAT,
                f"got encoding {shown(self.codec or self.encoding)}, expected one of"
                f" {', '.join((*ENCODINGS, *CODED))}",
            )
        if self.sample_rate_hz not in SAMPLE_RATES_HZ:
            raise ProtocolError(
                ErrorCode.BAD_FORMAT,
                f"got sample_rate {shown(self.sample_rate_hz)}, expected"
                f" {SAMPLE_RATES_HZ[0]} to {SAMPLE_RATES_HZ[-1]} Hz",
            )
        if not 1 <= self.num_channels <= MAX_CHANNELS:
            raise ProtocolError(
                ErrorCode.BAD_FORMAT,
                f"got {shown(self.num_channels)} channels, expected 1 to {MAX_CHANNELS}",
            )
        codec = CODECS.get(self.codec)
        num_together = 1 if self.per_track else self.num_channels
        if codec is not None and num_together > codec.max_channels:
            raise ProtocolError(
                ErrorCode.BAD_FORMAT,
                f"got {self.num_channels} channels of {self.codec}, which holds at most"
                f" {codec.max_channels}; send a stream for each",
            )

    @classmethod
    def told(cls, encoding: str, sample_rate_hz: int | None, num_channels: int) -> AudioFormat:
        """Return the format that a client tells.

        Args:
            encoding: of either kind, unchecked.
            sample_rate_hz: of the samples; None: the codec's default.

        Raises:
            ProtocolError: as the class, or raw samples come without their rate.
        """
        if encoding in CODED:
            rate_hz = default_rate_hz(encoding) if sample_rate_hz is None else sample_rate_hz
            return cls("pcm_s16le", rate_hz, num_channels, encoding)
        # An unknown encoding is the error then, whatever the rate is.
        if sample_rate_hz is None and encoding in ENCODINGS:
            raise ProtocolError(
                ErrorCode.BAD_START, f"got encoding '{encoding}' without 'sample_rate'"
            )
        return cls(cast(Encoding, encoding), sample_rate_hz or SAMPLE_RATES_HZ[0], num_channels)

    @property
    def told_encoding(self) -> str:
        """What a client says of it: the codec, or else the encoding."""
        return self.codec or self.encoding

    @property
    def bytes_per_sample(self) -> int:
        """Bytes of one sample of one channel."""
        return _BYTES[self.encoding]

    @property
    def bytes_per_tick(self) -> int:
        """Bytes of one sample of every channel."""
        return self.bytes_per_sample * self.num_channels

    @property
    def bytes_per_s(self) -> int:
        """Bytes of one second of audio."""
        return self.bytes_per_tick * self.sample_rate_hz


ByteOrder = Literal["little", "big"]

# Samples other than zero after which the order is final: a second of telephone speech.
_EVIDENCE_SAMPLES = 8_000


class Linear16:
    """Converts the samples of one stream to little-endian ones.

    Args:
        expected: byte order to assume until there is evidence.
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
        # Digital silence is zero in either order, and no evidence.
        self._looked_at += sum(1 for sample in array("h", data) if sample)
        self._roughness_little += _roughness(data)
        self._roughness_big += _roughness(_swapped(data))
        # A tie is silence or a constant, and keeps the assumption.
        if self._roughness_big != self._roughness_little:
            self._is_big = self._roughness_big < self._roughness_little


def _swapped(data: bytes) -> bytes:
    samples = array("h", data)
    samples.byteswap()
    return samples.tobytes()


def _roughness(data: bytes) -> int:
    """Return the sum of the jumps from each little-endian sample to the next."""
    samples = array("h", data)
    # array() reads in the machine's order.
    if sys.byteorder == "big":
        samples.byteswap()
    return sum(abs(after - before) for before, after in pairwise(samples))
