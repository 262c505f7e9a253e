"""A network in memory: sizes, labels and weights, whatever they were saved with.

:mod:`~ser_engine.models.folder` reads one from a published folder,
:mod:`~ser_engine.models.prepared` keeps the part inference needs for quick starts, and
:mod:`~ser_engine.models.find` looks one up by name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from ser_engine.types import ModelInfo

__all__ = ["Checkpoint", "Emotion2vecSizes"]


@dataclass(frozen=True, slots=True)
class Emotion2vecSizes:
    """The sizes of an emotion2vec(+) network, as its ``config.yaml`` gives them.

    Attributes:
        conv_layers: ``(channels, kernel, stride)`` of each layer of the extractor.
        embed_dim: width of the transformer, ``dim``.
        num_heads: attention heads.
        prenet_depth: blocks of the audio-specific part.
        depth: blocks of the shared part.
        mlp_ratio: width of a block's hidden layer over ``embed_dim``.
        norm_eps: epsilon of the blocks' LayerNorms.
        num_extra_tokens: learned tokens in front of the frames.
        pos_conv_depth: layers of the positional encoder.
        pos_conv_width: total width of the positional encoder, as configured (95).
        pos_conv_groups: groups of its convolutions.
        normalize: whether a waveform is normalised by its own mean and variance.
    """

    conv_layers: tuple[tuple[int, int, int], ...]
    embed_dim: int
    num_heads: int
    prenet_depth: int
    depth: int
    mlp_ratio: float
    norm_eps: float
    num_extra_tokens: int
    pos_conv_depth: int
    pos_conv_width: int
    pos_conv_groups: int
    normalize: bool

    @property
    def pos_conv_kernel(self) -> int:
        """Kernel of each layer of the positional encoder, in frames."""
        return max(3, self.pos_conv_width // self.pos_conv_depth)

    @property
    def feature_dim(self) -> int:
        """Size of a local feature."""
        return self.embed_dim

    @property
    def hidden_dim(self) -> int:
        """Width of a block's hidden layer."""
        return int(self.embed_dim * self.mlp_ratio)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A network's sizes, labels and weights.

    Attributes:
        sizes: dimensions of the network.
        info: name, source, licence, hash and labels.
        tensors: float32 weights under FunASR's own names without ``d2v_model.`` prefixes, only
            those inference needs; ``proj`` rows of unused classes are already left out.
    """

    sizes: Emotion2vecSizes
    info: ModelInfo
    tensors: Mapping[str, torch.Tensor]
