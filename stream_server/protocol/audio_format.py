"""How the audio of a stream is encoded, and the arithmetic between bytes and samples."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from stream_server.protocol.errors import ErrorCode, ProtocolError, shown

__all__ = ["ENCODINGS", "MAX_CHANNELS", "SAMPLE_RATES_HZ", "AudioFormat", "Encoding"]

Encoding = Literal["pcm_s16le", "pcm_f32le", "mulaw", "alaw"]
"""16-bit and float PCM, little-endian, and the two laws of ITU-T G.711, one byte a sample."""

ENCODINGS: tuple[str, ...] = get_args(Encoding)
SAMPLE_RATES_HZ = range(8_000, 48_001)
MAX_CHANNELS = 8

_BYTES = {"pcm_s16le": 2, "pcm_f32le": 4, "mulaw": 1, "alaw": 1}


@dataclass(frozen=True, slots=True)
class AudioFormat:
    """The format of binary messages: interleaved samples of all channels.

    Attributes:
        encoding: see :data:`Encoding`.
        sample_rate_hz: 8000 to 48000.
        num_channels: 1 to 8.

    Raises:
        ProtocolError: a value is none of these.
    """

    encoding: Encoding
    sample_rate_hz: int
    num_channels: int = 1

    def __post_init__(self) -> None:
        if self.encoding not in ENCODINGS:
            raise ProtocolError(
                ErrorCode.BAD_FORMAT,
                f"got encoding {shown(self.encoding)}, expected one of {', '.join(ENCODINGS)}",
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

    @property
    def bytes_per_sample(self) -> int:
        """Bytes of one sample of one channel."""
        return _BYTES[self.encoding]

    @property
    def bytes_per_tick(self) -> int:
        """Bytes of one sample of every channel: what a message boundary may not split for good."""
        return self.bytes_per_sample * self.num_channels

    @property
    def bytes_per_s(self) -> int:
        """Bytes of one second of audio."""
        return self.bytes_per_tick * self.sample_rate_hz
