"""The network as other runtimes want it: plain operators, nothing done in place, any shape.

The two stages export apart, so that local features can be kept between windows; the whole
network exports as one graph for programs that have nothing but a file and a runtime.
"""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ser_engine.models.emotion2vec import (
    NORM_EPS,
    Emotion2vec,
    FrameOutputs,
    LocalEncoder,
    StridedConv,
)

__all__ = ["ContextGraph", "LocalGraph", "WholeGraph"]


class LocalGraph(nn.Module):
    """The local stage with ordinary convolutions.

    Runtimes with a convolution of their own beat matrix products on views, and a graph has no
    views.
    """

    def __init__(self, local: LocalEncoder) -> None:
        super().__init__()
        self.local = local
        self.weights = nn.ParameterList(
            _conv_weight(cast(StridedConv, conv)) for conv in local.convs
        )

    def forward(self, samples: Tensor) -> Tensor:
        """Map normalised samples (batch, samples) to features (batch, frames, dim)."""
        hidden = samples[:, None]
        for conv, weight in zip(self.local.convs, self.weights, strict=True):
            mixed = F.conv1d(hidden, weight, stride=cast(StridedConv, conv).stride)
            normed = cast(StridedConv, conv).norm(mixed.transpose(1, 2))
            hidden = F.gelu(normed).transpose(1, 2)
        features: Tensor = self.local.project(self.local.norm(hidden.transpose(1, 2)))
        return features


class ContextGraph(nn.Module):
    """The context stage for rows of equal length, without padding."""

    def __init__(self, model: Emotion2vec) -> None:
        super().__init__()
        self.context = model.context

    def forward(self, features: Tensor) -> FrameOutputs:
        """Map features (batch, frames, dim) to embeddings and logits."""
        return cast(FrameOutputs, self.context(features))


class WholeGraph(nn.Module):
    """Raw samples to embeddings and logits, normalisation and head included."""

    def __init__(self, model: Emotion2vec) -> None:
        super().__init__()
        self.normalize = model.sizes.normalize
        self.local = LocalGraph(model.local)
        self.context = ContextGraph(model)

    def forward(self, samples: Tensor) -> FrameOutputs:
        """Score raw samples (batch, samples), each row normalised by itself."""
        if self.normalize:
            mean = samples.mean(dim=1, keepdim=True)
            variance = ((samples - mean) ** 2).mean(dim=1, keepdim=True)
            samples = (samples - mean) / torch.sqrt(variance + NORM_EPS)
        return cast(FrameOutputs, self.context(self.local(samples)))


def _conv_weight(conv: StridedConv) -> Tensor:
    """Return the Conv1d weight (out_channels, in_channels, kernel) of a layer."""
    taps = torch.cat([conv.inner, conv.outer])
    in_channels = conv.inner.shape[0] // conv.stride
    return taps.view(-1, in_channels, taps.shape[1]).permute(2, 1, 0).contiguous()
