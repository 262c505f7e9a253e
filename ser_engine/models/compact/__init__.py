"""The compact model: a megabyte, trained on acted speech, so that everything works at once.

It is on the frame grid of emotion2vec, and like :mod:`ser_engine.models.emotion2vec` it has
two stages that a streaming engine can run apart::

    samples ──▶ FrontEnd ──▶ features ──▶ ContextEncoder ──▶ embeddings, logits
    (batch, samples)  (batch, frames, 112)          (batch, frames, dim | classes)

The context stage takes a window's level and long-term spectrum out of the features, folds mel
bands and pitch candidates by convolutions over (time, frequency), quarters the frame rate, mixes
over time by attention and short convolutions, and returns to 50 frames a second::

    features ─┬▶ mel     (2, T, 64) ─ conv ×3 ─┐
              └▶ pitch   (1, T, 48) ─ conv ×2 ─┴▶ (T/4, dim) ─ blocks ─▶ (T, dim) ─▶ head

Layout: (batch, frames, channels) outside the convolutions. Rows of different length share a batch
by padding: ``num_frames`` says how many frames of each row are real, padding is kept at zero
through every convolution and masked in attention, so that a row in a batch equals that row alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from ser_engine.models.built_in import BuiltInModel
from ser_engine.models.compact.front_end import NUM_MELS, NUM_PITCHES, FrontEnd, FrontEndGraph
from ser_engine.models.model import FrameOutputs, Graphs, Network


@dataclass(frozen=True, slots=True)
class CompactSizes:
    """The sizes of a compact network.

    Attributes:
        mel_channels: channels of the convolutions over mel bands.
        pitch_channels: channels of the convolutions over pitch candidates.
        dim: width of the blocks and size of an embedding.
        kernel: frames (at 12.5 Hz) a block's convolution reads.
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
        return self.dim

    @property
    def feature_dim(self) -> int:
        """Numbers a frame is described by between the two stages."""
        return NUM_MELS + NUM_PITCHES


_QUIETEST_LEVEL = -10.0
"""Natural logarithm of a frame's mel power below which a window counts as silent; speech at
-80 dBFS is about there."""

_DYNAMIC_RANGE = 12.0
"""Mel power is followed down to this far below the window's level: 52 dB, in nepers of power."""

_SPEECH_RANGE = 4.0
"""Frames within about 17 dB of the window's level make up its long-term spectrum."""


class Fold(nn.Module):
    """Convolutions over (time, frequency) that shrink frequency, then one vector a frame.

    The first two halve the time axis too. Further ones are separable, of each channel and then
    across channels, at a ninth of the cost. Each is followed by batch normalisation and ReLU.
    """

    def __init__(self, inputs: int, height: int, channels: tuple[int, ...], dim: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList()
        self.norms = nn.ModuleList()
        for index, out in enumerate(channels):
            if index < 2:
                self.convs.append(nn.Conv2d(inputs, out, 3, 2, padding=1, bias=False))
            else:
                apart = nn.Conv2d(inputs, inputs, 3, (1, 2), 1, groups=inputs, bias=False)
                self.convs.append(nn.Sequential(apart, nn.Conv2d(inputs, out, 1, bias=False)))
            self.norms.append(nn.BatchNorm2d(out))
            inputs, height = out, (height + 1) // 2
        self.project = nn.Linear(inputs * height, dim)

    def fuse(self) -> None:
        """Take the normalisation into the convolutions' weights: the same, for inference only.

        The weights are laid out as the images are, so that no call has to do it.
        """
        for index, (conv, norm) in enumerate(zip(self.convs, self.norms, strict=True)):
            assert isinstance(norm, nn.BatchNorm2d)
            *first, last = conv if isinstance(conv, nn.Sequential) else [conv]
            assert isinstance(last, nn.Conv2d)
            self.convs[index] = nn.Sequential(*first, fuse_conv_bn_eval(last, norm))
            self.norms[index] = nn.Identity()
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, image: Tensor, real: Tensor | None) -> Tensor:
        """Map (batch, inputs, frames, height) to (batch, frames / 4, dim).

        Args:
            image: zero where it is padded.
            real: (batch, frames), 1 for frames that are real; None: all are.
        """
        for index, (conv, norm) in enumerate(zip(self.convs, self.norms, strict=True)):
            image = F.relu(norm(conv(image)))
            if real is not None:
                real = real[:, ::2] if index < 2 else real
                image = image * real[:, None, :, None]
        projected: Tensor = self.project(image.permute(0, 2, 3, 1).flatten(2))
        return projected


class Block(nn.Module):
    """Attention, a convolution over time of each channel, and a feed-forward layer; pre-norm."""

    def __init__(self, sizes: CompactSizes) -> None:
        super().__init__()
        dim = sizes.dim
        self.num_heads = sizes.num_heads
        self.norm1 = nn.LayerNorm(dim)
        self.qkv = nn.Linear(dim, 3 * dim)
        self.out = nn.Linear(dim, dim)
        self.conv = nn.Conv1d(dim, dim, sizes.kernel, padding=sizes.kernel // 2, groups=dim)
        self.norm2 = nn.LayerNorm(dim)
        self.fc1 = nn.Linear(dim, 3 * dim)
        self.fc2 = nn.Linear(3 * dim, dim)
        self.dropout = nn.Dropout(sizes.dropout)

    def forward(self, frames: Tensor, bias: Tensor, real: Tensor | None) -> Tensor:
        """Map (batch, frames, dim) to the same; ``bias`` is (1 | batch, heads, frames, frames)."""
        batch, length, dim = frames.shape
        normed = self.norm1(frames)
        if real is not None:
            normed = normed * real[..., None]
        qkv = self.qkv(normed).view(batch, length, 3, self.num_heads, dim // self.num_heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=bias)
        mixed = self.out(mixed.transpose(1, 2).reshape(batch, length, dim))
        near = self._near(normed)
        frames = frames + self.dropout(mixed + near)
        folded: Tensor = self.fc2(self.dropout(F.gelu(self.fc1(self.norm2(frames)))))
        out: Tensor = frames + self.dropout(folded)
        return out

    def _near(self, frames: Tensor) -> Tensor:
        """Convolve each channel of (batch, frames, dim) over time.

        As an image of height 1: its channels are last in memory as they are, while PyTorch would
        copy (batch, dim, frames) before and after.
        """
        weight, bias = self.conv.weight[:, :, None], self.conv.bias
        padding = (0, weight.shape[-1] // 2)
        image = frames.transpose(1, 2)[:, :, None]
        mixed = F.conv2d(image, weight, bias, 1, padding, groups=self.conv.groups)
        return mixed[:, :, 0].transpose(1, 2)


class ContextEncoder(nn.Module):
    """Features of a window to embeddings and frame logits."""

    slopes: Tensor

    def __init__(self, sizes: CompactSizes) -> None:
        super().__init__()
        dim = sizes.dim
        self.mel = Fold(2, NUM_MELS, sizes.mel_channels, dim)
        self.pitch = Fold(1, NUM_PITCHES, sizes.pitch_channels, dim)
        self.blocks = nn.ModuleList(Block(sizes) for _ in range(sizes.depth))
        self.unfold = nn.Linear(dim, 4 * dim)
        self.norm = nn.LayerNorm(dim)
        self.gate = nn.Linear(dim, 1)
        self.head = nn.Linear(dim, sizes.num_classes)
        self.dropout = nn.Dropout(sizes.dropout)
        slopes = torch.tensor([2.0 ** (-2 * i - 2) for i in range(sizes.num_heads - 1)] + [0.0])
        self.register_buffer("slopes", slopes[:, None, None], persistent=False)

    def forward(self, features: Tensor, num_frames: Tensor | None = None) -> FrameOutputs:
        """Score features.

        Args:
            features: (batch, frames, 112).
            num_frames: int64 (batch,), how many leading frames of each row are real. None: all.
        """
        length = features.shape[1]
        bias = self._attention_bias((length + 3) // 4).to(features.dtype)[None]
        real = few = None
        if num_frames is not None:
            index = torch.arange(length, device=features.device)
            real = (index < num_frames[:, None]).to(features.dtype)
            few = real[:, ::4]
            bias = bias.masked_fill(few[:, None, None] == 0, -math.inf)
        mel, pitch = normalised(features, real)
        frames = self.mel(mel, real) + self.pitch(pitch, real)
        for block in self.blocks:
            frames = block(frames, bias, few)
        frames = self.unfold(frames).unflatten(2, (4, -1)).flatten(1, 2)[:, :length]
        frames = self.norm(frames)
        embeddings = frames * torch.sigmoid(self.gate(frames))
        return FrameOutputs(embeddings, self.head(self.dropout(embeddings)))

    def _attention_bias(self, frames: int) -> Tensor:
        """Return minus slope times distance (heads, frames, frames); one head has no slope."""
        index = torch.arange(frames, device=self.slopes.device, dtype=self.slopes.dtype)
        return -self.slopes * (index[:, None] - index[None, :]).abs()


def normalised(features: Tensor, real: Tensor | None) -> tuple[Tensor, Tensor]:
    """Take a window's level, and for a second view its long-term spectrum, out of its features.

    Args:
        features: (batch, frames, 112).
        real: (batch, frames), 1 for frames that are real; None: all are.

    Returns:
        mel (batch, 2, frames, 64), channels last in memory as convolutions are fastest, and
        pitch (batch, 1, frames, 48); zero where padded.
    """
    mel, profile = features[..., :NUM_MELS].float(), features[..., NUM_MELS:] * 6.0
    power = mel.exp().sum(dim=-1)
    counts = torch.ones_like(power) if real is None else real.float()
    total = (power * counts).sum(dim=1, keepdim=True) / counts.sum(dim=1, keepdim=True)
    level = total.log().clamp_min(_QUIETEST_LEVEL)
    mel = (mel - level[..., None]).clamp_min_(-_DYNAMIC_RANGE)
    weights = (torch.sigmoid(power.log() - level + _SPEECH_RANGE) + 1e-4) * counts
    spectrum = (weights[:, None] @ mel) / weights.sum(dim=1)[:, None, None]
    views = torch.stack([(mel + 6.0) / 3.0, (mel - spectrum) / 2.0], dim=-1)
    if real is not None:
        views, profile = views * real[..., None, None], profile * real[..., None]
    return views.to(features.dtype).permute(0, 3, 1, 2), profile.to(features.dtype)[:, None]


class Compact(Network):
    """The whole network: raw samples in; frame embeddings and logits out."""

    local: FrontEnd
    context: ContextEncoder
    is_small = True
    # Its operations are short: threads cost more than they save, many times more where the cores
    # have other work, too.
    max_threads = 1

    def __init__(self, sizes: CompactSizes) -> None:
        super().__init__()
        self.sizes = sizes
        self.feature_dim = sizes.feature_dim
        self.local = FrontEnd()
        self.context = ContextEncoder(sizes)

    def graphs(self) -> Graphs | None:
        stages = super().graphs()
        return stages and stages._replace(local=FrontEndGraph(self.local))


COMPACT_WEIGHTS = Path(__file__).resolve().parent / "weights.safetensors"
"""The file in the package."""

COMPACT_FORMAT = "emotion-monitor-compact-2"
"""Changed with the meaning of the file."""

_LICENCE = (
    "CC BY-NC-SA 4.0, https://creativecommons.org/licenses/by-nc-sa/4.0/"
    " (non-commercial; trained on EmoDB, RAVDESS, nEMO, ASED, AMI, LibriSpeech and others, see its"
    " model card)"
)

_NOTICE = (
    "Built-in compact model in use: trained on acted speech, weaker than emotion2vec+,"
    " non-commercial licence (CC BY-NC-SA 4.0)."
)


def _sizes(values: dict[str, Any]) -> CompactSizes:
    for name in ("mel_channels", "pitch_channels"):
        values[name] = tuple(values[name])
    return CompactSizes(**values)


def _build(sizes: CompactSizes, tensors: Mapping[str, Tensor]) -> Compact:
    model = Compact(sizes)
    model.load_state_dict(dict(tensors))
    model.eval().requires_grad_(False)
    model.context.mel.fuse()
    model.context.pitch.fuse()
    return model


COMPACT = BuiltInModel(
    name="compact",
    licence=_LICENCE,
    notice=_NOTICE,
    weights=COMPACT_WEIGHTS,
    file_format=COMPACT_FORMAT,
    sizes=_sizes,
    build=_build,
    neutral_logits=(-0.98, -1.21, -0.89, -0.5, 3.02, 0.0, -0.43, -1.42, 0.7),
)
