"""What reading a file needs of a library that decodes it."""

from __future__ import annotations

from typing import Protocol

from ser_engine.types import FloatArray

__all__ = ["BLOCK_VALUES", "DecodeError", "Decoder", "UnknownFormatError"]

BLOCK_VALUES = 1 << 18
"""Values of one block, all channels together: 1 MiB, 16 s of mono audio at 16 kHz."""


class DecodeError(Exception):
    """The file cannot be decoded; the text says why, without the file's name."""


class UnknownFormatError(DecodeError):
    """The library does not know the format, or not this kind of it; another one may."""


class Decoder(Protocol):
    """An open file.

    Attributes:
        channels: number of channels, as the header has it.
        rate_hz: sample rate in Hz, as the header has it.
        num_frames: length in samples a channel, as the header has it; 0: it does not say.
        tolerance_frames: by how much the header may be wrong.
    """

    channels: int
    rate_hz: int
    num_frames: int
    tolerance_frames: int

    def read(self) -> FloatArray:
        """Return the next float32 samples ``(samples, channels)``; none at the end.

        Raises:
            DecodeError: the audio is damaged.
        """
        ...

    def close(self) -> None:
        """Let go of the file."""
        ...
