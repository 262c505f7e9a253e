"""The sizes of a compact network."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["NUM_MELS", "NUM_PITCHES", "PITCH_RANGE_HZ", "CompactSizes"]

NUM_MELS = 64
"""Mel bands from 60 to 7,600 Hz."""

NUM_PITCHES = 48
"""Candidates for the pitch, evenly on a logarithmic scale."""

PITCH_RANGE_HZ = (75.0, 500.0)
"""The first and the last of them."""


@dataclass(frozen=True, slots=True)
class CompactSizes:
    """The sizes of a compact network.

    Attributes:
        mel_channels: channels of the convolutions over mel bands.
        pitch_channels: channels of the convolutions over pitch candidates.
        dim: width of the blocks and size of an embedding.
        num_heads: attention heads.
        depth: blocks.
        kernel: frames (at 12.5 Hz) a block's convolution reads.
        num_classes: rows of the head.
        dropout: share of activations left out in training.
    """

    mel_channels: tuple[int, ...] = (24, 48, 64)
    pitch_channels: tuple[int, ...] = (8, 16)
    dim: int = 128
    num_heads: int = 4
    depth: int = 2
    kernel: int = 9
    num_classes: int = 9
    dropout: float = 0.1

    @property
    def embed_dim(self) -> int:
        """Size of an embedding."""
        return self.dim

    @property
    def feature_dim(self) -> int:
        """Numbers a frame is described by between the two stages."""
        return NUM_MELS + NUM_PITCHES

    @property
    def normalize(self) -> bool:
        """Whether the local stage wants normalised samples: no, level is taken out later."""
        return False
