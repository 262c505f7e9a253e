"""The emotion2vec(+) network, built for batches and for reuse of overlapping audio.

emotion2vec (arXiv 2312.15185) is a data2vec 2.0 encoder. This file is the inference half of it,
in two stages that a streaming engine can run apart::

    samples ──▶ LocalEncoder ──▶ local features ──▶ ContextEncoder ──▶ embeddings, logits
    (batch, samples)         (batch, frames, dim)               (batch, frames, dim | classes)

A local feature depends on 400 samples and nothing else, so it can be kept while a window slides
on. A context feature depends on the whole window, so it cannot.

Layout: everything is (batch, frames, channels), never transposed. Rows of different length share
a batch by padding: ``num_frames`` says how many frames of each row are real, and padded frames
are kept at zero through the positional convolutions and masked in attention, so that a row in a
batch equals that row alone.

Parameters bear FunASR's names (without the ``d2v_model.`` prefix); :func:`build` loads them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ser_engine.frames import HOP_SAMPLES, num_frames
from ser_engine.models.model import FrameOutputs, Graphs, Network
from ser_engine.models.normalisation import NORM_EPS, FirstLayer


@dataclass(frozen=True, slots=True)
class Emotion2vecSizes:
    """The sizes of an emotion2vec(+) network, as its ``config.yaml`` gives them.

    Attributes:
        conv_layers: ``(channels, kernel, stride)`` of each layer of the extractor.
        embed_dim: width of the transformer, ``dim``.
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
    def hidden_dim(self) -> int:
        return int(self.embed_dim * self.mlp_ratio)


class StridedConv(nn.Module):
    """A convolution without bias, then LayerNorm over channels, then GELU.

    With a kernel of at most two strides, ``stride`` successive rows are one row of a matrix: the
    taps inside a stride and the taps that reach into the next one are two matrix products on
    views of the input, for the whole batch at once, and nothing is transposed or copied. The
    price is rows at the end of each item that mix with the next item; the caller knows how many
    frames are real and drops them.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel: int, stride: int) -> None:
        super().__init__()
        if not stride <= kernel <= 2 * stride:
            raise ValueError(f"got kernel {kernel}, stride {stride}, expected stride to 2 strides")
        self.stride = stride
        self.inner = nn.Parameter(torch.empty(stride * in_channels, out_channels))
        self.outer = nn.Parameter(torch.empty((kernel - stride) * in_channels, out_channels))
        self.norm = nn.LayerNorm(out_channels, eps=NORM_EPS)

    def load_weight(self, weight: Tensor) -> None:
        """Take a Conv1d weight (out_channels, in_channels, kernel)."""
        taps = weight.permute(2, 1, 0)
        self.inner.data = taps[: self.stride].reshape(self.inner.shape).clone()
        self.outer.data = taps[self.stride :].reshape(self.outer.shape).clone()

    def forward(self, rows: Tensor) -> Tensor:
        """Map (batch * rows, in_channels) to (batch * rows / stride, out_channels)."""
        groups = rows.view(-1, self.inner.shape[0])
        out = groups @ self.inner
        if self.outer.shape[0]:
            out[:-1].addmm_(groups[1:, : self.outer.shape[0]], self.outer)
        return F.gelu(self.norm(out))


class LocalEncoder(nn.Module):
    """Samples to local features: seven strided convolutions and a projection."""

    def __init__(self, sizes: Emotion2vecSizes) -> None:
        super().__init__()
        channels = [1, *(out for out, _, _ in sizes.conv_layers)]
        self.convs = nn.ModuleList(
            StridedConv(inputs, out, kernel, stride)
            for inputs, (out, kernel, stride) in zip(channels, sizes.conv_layers, strict=False)
        )
        self.norm = nn.LayerNorm(channels[-1], eps=NORM_EPS)
        self.project = nn.Linear(channels[-1], sizes.embed_dim)

    def forward(self, samples: Tensor) -> Tensor:
        """Map normalised samples (batch, samples) to features (batch, frames, dim)."""
        batch, length = samples.shape
        # The product of the strides is the hop, so items of whole hops never share a row.
        rows = F.pad(samples, (0, -length % HOP_SAMPLES)).reshape(-1, 1)
        for conv in self.convs:
            rows = conv(rows)
        # Frames at the end of an item reach into the next one, or into the padding.
        frames = rows.view(batch, -1, rows.shape[-1])[:, : num_frames(length)]
        features: Tensor = self.project(self.norm(frames))
        return features


class PositionalLayer(nn.Module):
    """A grouped convolution over frames, LayerNorm without parameters, GELU."""

    def __init__(self, dim: int, kernel: int, groups: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(dim, dim, kernel, padding=kernel // 2, groups=groups)

    def forward(self, features: Tensor) -> Tensor:
        """Map (batch, frames, dim) to the same shape."""
        frames = features.shape[1]
        # An even kernel, padded on both sides, gives one frame too many: the last is dropped, as
        # fairseq's SamePad does.
        mixed = self.conv(features.transpose(1, 2))[:, :, :frames].transpose(1, 2)
        return F.gelu(F.layer_norm(mixed, mixed.shape[-1:], eps=NORM_EPS))


class Block(nn.Module):
    """A post-norm transformer block."""

    def __init__(self, sizes: Emotion2vecSizes) -> None:
        super().__init__()
        dim, hidden = sizes.embed_dim, sizes.hidden_dim
        self.num_heads = sizes.num_heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.out = nn.Linear(dim, dim)
        self.norm1 = nn.LayerNorm(dim, eps=sizes.norm_eps)
        self.fc1 = nn.Linear(dim, hidden)
        self.fc2 = nn.Linear(hidden, dim)
        self.norm2 = nn.LayerNorm(dim, eps=sizes.norm_eps)

    def forward(self, tokens: Tensor, bias: Tensor) -> Tensor:
        """Map (batch, tokens, dim) to the same; ``bias`` is (1 | batch, heads, tokens, tokens)."""
        batch, length, dim = tokens.shape
        qkv = self.qkv(tokens).view(batch, length, 3, self.num_heads, dim // self.num_heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=bias)
        mixed = mixed.transpose(1, 2).reshape(batch, length, dim)
        tokens = self.norm1(tokens + self.out(mixed))
        normed: Tensor = self.norm2(tokens + self.fc2(F.gelu(self.fc1(tokens))))
        return normed


class ContextEncoder(nn.Module):
    """Local features to embeddings and frame logits: positions, extra tokens, transformer, head."""

    def __init__(self, sizes: Emotion2vecSizes, num_classes: int) -> None:
        super().__init__()
        dim = sizes.embed_dim
        self.positions = nn.ModuleList(
            PositionalLayer(dim, sizes.pos_conv_kernel, sizes.pos_conv_groups)
            for _ in range(sizes.pos_conv_depth)
        )
        self.extra_tokens = nn.Parameter(torch.empty(1, sizes.num_extra_tokens, dim))
        self.slopes = nn.Parameter(torch.empty(sizes.num_heads, 1, 1))
        self.norm = nn.LayerNorm(dim, eps=sizes.norm_eps)
        self.blocks = nn.ModuleList(Block(sizes) for _ in range(sizes.prenet_depth + sizes.depth))
        self.head = nn.Linear(dim, num_classes)

    def forward(self, features: Tensor, num_frames: Tensor | None = None) -> FrameOutputs:
        """Score local features.

        Args:
            features: (batch, frames, dim).
            num_frames: int64 (batch,), how many leading frames of each row are real. None: all.
        """
        extra = self.extra_tokens.shape[1]
        bias = self.attention_bias(features.shape[1]).to(features.dtype)[None]
        real = None
        if num_frames is not None:
            index = torch.arange(features.shape[1], device=features.device)
            real = index < num_frames[:, None]
            features = features * real[..., None]
            # The extra tokens stand in front and are always real.
            bias = bias.masked_fill(~F.pad(real, (extra, 0), value=True)[:, None, None], -math.inf)
        mixed = features
        for layer in self.positions:
            mixed = layer(mixed)
            if real is not None:
                # A bias makes something of zeros, which the next layer would take for audio.
                mixed = mixed * real[..., None]
        prefix = self.extra_tokens.expand(features.shape[0], -1, -1)
        tokens = self.norm(torch.cat([prefix, features + mixed], dim=1))
        for block in self.blocks:
            tokens = block(tokens, bias)
        embeddings = tokens[:, extra:]
        return FrameOutputs(embeddings, self.head(embeddings))

    def attention_bias(self, frames: int) -> Tensor:
        """Return the symmetric ALiBi bias (heads, tokens, tokens): minus slope times distance.

        The extra tokens are at distance 0 from everything.
        """
        extra = self.extra_tokens.shape[1]
        index = torch.arange(frames, device=self.slopes.device, dtype=self.slopes.dtype)
        distance = (index[:, None] - index[None, :]).abs()
        return -self.slopes * F.pad(distance, (extra, 0, extra, 0))


class Emotion2vec(Network):
    """The whole network: samples, normalised, in; frame embeddings and logits out."""

    local: LocalEncoder
    context: ContextEncoder

    def __init__(self, sizes: Emotion2vecSizes, num_classes: int) -> None:
        super().__init__()
        self.sizes = sizes
        self.feature_dim = sizes.embed_dim
        self.local = LocalEncoder(sizes)
        self.context = ContextEncoder(sizes, num_classes)

    def first_layer(self) -> FirstLayer | None:
        if not self.sizes.normalize:
            return None
        conv = cast(StridedConv, self.local.convs[0])
        return FirstLayer.of_taps(torch.cat([conv.inner, conv.outer]), conv.stride)

    def graphs(self) -> Graphs | None:
        stages = super().graphs()
        return stages and stages._replace(local=LocalGraph(self.local))


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


def _conv_weight(conv: StridedConv) -> Tensor:
    """Return the Conv1d weight (out_channels, in_channels, kernel) of a layer."""
    taps = torch.cat([conv.inner, conv.outer])
    in_channels = conv.inner.shape[0] // conv.stride
    return taps.view(-1, in_channels, taps.shape[1]).permute(2, 1, 0).contiguous()


def build(sizes: Emotion2vecSizes, tensors: Mapping[str, Tensor]) -> Emotion2vec:
    """Make the network in evaluation mode from weights under FunASR's names.

    Args:
        sizes: the dimensions the weights have.
        tensors: float32 weights; the rows of ``proj.weight`` decide the number of classes.
    """
    model = Emotion2vec(sizes, num_classes=tensors["proj.weight"].shape[0])
    audio = "modality_encoders.AUDIO."
    state: dict[str, Tensor] = {}
    local, context = model.local, model.context
    for i, conv in enumerate(local.convs):
        assert isinstance(conv, StridedConv)
        conv.load_weight(tensors[f"{audio}local_encoder.conv_layers.{i}.0.weight"])
        state[f"local.convs.{i}.inner"], state[f"local.convs.{i}.outer"] = conv.inner, conv.outer
    names = {
        "local.norm": f"{audio}project_features.1",
        "local.project": f"{audio}project_features.2",
        "context.norm": f"{audio}context_encoder.norm",
        "context.head": "proj",
    }
    for i in range(len(local.convs)):
        names[f"local.convs.{i}.norm"] = f"{audio}local_encoder.conv_layers.{i}.2.1"
    for i in range(len(context.positions)):
        names[f"context.positions.{i}.conv"] = f"{audio}relative_positional_encoder.{i + 1}.0"
    parts = {"qkv": "attn.qkv", "out": "attn.proj", "fc1": "mlp.fc1", "fc2": "mlp.fc2"}
    for i in range(len(context.blocks)):
        # FunASR keeps the first blocks with the audio part and numbers the shared ones from 0.
        deep = i - sizes.prenet_depth
        block = f"blocks.{deep}" if deep >= 0 else f"{audio}context_encoder.blocks.{i}"
        for part in ("norm1", "norm2", *parts):
            names[f"context.blocks.{i}.{part}"] = f"{block}.{parts.get(part, part)}"
    for ours, theirs in names.items():
        state[f"{ours}.weight"] = tensors[f"{theirs}.weight"]
        state[f"{ours}.bias"] = tensors[f"{theirs}.bias"]
    state["context.extra_tokens"] = tensors[f"{audio}extra_tokens"]
    # As FunASR does before each use: a scale that training made negative is none.
    scale = tensors[f"{audio}alibi_scale"].clamp_min(0).reshape(-1, 1, 1)
    state["context.slopes"] = _alibi_slopes(sizes.num_heads)[:, None, None] * scale
    model.load_state_dict(state)
    return model.eval().requires_grad_(False)


def _alibi_slopes(num_heads: int) -> Tensor:
    """Return the fixed slope of each head (Press et al., arXiv 2108.12409, section 3)."""

    def geometric(count: int) -> list[float]:
        ratio: float = 2.0 ** (-8.0 / count)
        return [ratio ** (i + 1) for i in range(count)]

    # Heads beyond a power of two have every second slope of the next power.
    closest = 2 ** math.floor(math.log2(num_heads))
    slopes = geometric(closest)
    slopes += geometric(2 * closest)[0::2][: num_heads - closest]
    return torch.tensor(slopes)
