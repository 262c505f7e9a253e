"""The sizes of a standard network."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["NUM_MELS", "StandardSizes"]

NUM_MELS = 80
"""Mel bands from 0 to 8,000 Hz, as Whisper has them."""

_FFT_BINS = 201


@dataclass(frozen=True, slots=True)
class StandardSizes:
    """The sizes of a standard network.

    Attributes:
        dim: width of the encoder.
        num_heads: attention heads.
        depth: encoder layers.
        frozen_layers: those that training leaves as they were published.
        hidden: width of the feed-forward layers.
        embed: size of an embedding.
        span_frames: reach of the near statistics, frames: their weight falls by ``e`` over it.
        num_gates: of an embedding; each scales an equal part of it.
        num_classes: rows of the head.
        dropout: share of activations left out in training.
    """

    dim: int = 512
    num_heads: int = 8
    depth: int = 3
    frozen_layers: int = 1
    hidden: int = 2048
    embed: int = 256
    span_frames: float = 25.0
    num_gates: int = 1
    num_classes: int = 9
    dropout: float = 0.1

    @property
    def embed_dim(self) -> int:
        """Size of an embedding."""
        return self.embed

    @property
    def feature_dim(self) -> int:
        """Numbers a frame is described by between the two stages.

        A mel spectrum, and two partial spectra (real and imaginary) of the one half a hop later.
        """
        return NUM_MELS + 4 * _FFT_BINS

    @property
    def normalize(self) -> bool:
        """Whether the local stage wants normalised samples: no, level is taken out later."""
        return False
