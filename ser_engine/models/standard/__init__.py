"""The standard model: three layers of a published speech encoder and a head of our own.

Like :mod:`ser_engine.models.emotion2vec` it has two stages that a streaming engine can run apart::

    samples ──▶ FrontEnd ──▶ features ──▶ ContextEncoder ──▶ embeddings, logits
    (batch, samples)  (batch, frames, 884)         (batch, frames, embed | classes)

The context stage takes a window's level out of its log-mel spectra and runs Whisper's two
convolutions, its first layers, and a head that sees each frame beside statistics of the frames near
it and of the whole window::

    mel (2T, 80) ─ conv, conv ─▶ (T, 512) ─ halve, layers ─▶ (T/2, 512)

    (T/2, 512) ─┬─ mean and deviation, near ───▶ ┬─ GELU ─ gate ─▶ embeddings (T, embed) ─▶ head
                └─ mean and deviation, window ─▶ ┘

The head is linear and applied to each frame, so that the mean of the frame logits is the head of
the mean embedding: pooling logits over any span is what the network was trained for. Statistics are
weighted by how loud a frame is, so pauses do not move them.

Rows of different length share a batch by padding, as in :mod:`ser_engine.models.compact`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ser_engine.models.built_in import BuiltInModel
from ser_engine.models.model import FrameOutputs, Network
from ser_engine.models.standard.front_end import NUM_MELS, SPECTRUM_BINS, FrontEnd, LogMel


@dataclass(frozen=True, slots=True)
class StandardSizes:
    """The sizes of a standard network.

    Attributes:
        num_heads: attention heads.
        depth: encoder layers.
        frozen_layers: those that training leaves as they were published.
        span_frames: reach of the near statistics, frames: their weight falls by ``e`` over it.
        num_gates: of an embedding; each scales an equal part of it.
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
        return self.embed

    @property
    def feature_dim(self) -> int:
        """Numbers a frame is described by between the two stages.

        A mel spectrum, and two partial spectra (real and imaginary) of the one half a hop later.
        """
        return NUM_MELS + 4 * SPECTRUM_BINS


_SPEECH_LEVEL = 1.0
"""What the level of a window is put to: log10 of power over all bands, of speech at -23 dBFS."""

_QUIETEST_LEVEL = -4.0
"""Below this, about -83 dBFS, a window is silent and not made louder any more."""

_DYNAMIC_RANGE = 8.0
"""Powers are followed down to this far below the level (Whisper: below the maximum)."""

_SPEECH_RANGE = 2.5
"""Frames within about 25 dB of the window's level count for its statistics."""


class Layer(nn.Module):
    """One layer of Whisper's encoder: attention, then a feed-forward layer; pre-norm."""

    def __init__(self, sizes: StandardSizes) -> None:
        super().__init__()
        dim = sizes.dim
        self.num_heads = sizes.num_heads
        self.norm1 = nn.LayerNorm(dim)
        self.qkv = nn.Linear(dim, 3 * dim)
        self.out = nn.Linear(dim, dim)
        self.norm2 = nn.LayerNorm(dim)
        self.fc1 = nn.Linear(dim, sizes.hidden)
        self.fc2 = nn.Linear(sizes.hidden, dim)
        self.dropout = nn.Dropout(sizes.dropout)

    def forward(self, frames: Tensor, bias: Tensor | None) -> Tensor:
        """Map (batch, frames, dim) to the same; ``bias``: (batch, 1, 1, frames) for padded rows."""
        batch, length, dim = frames.shape
        qkv = self.qkv(self.norm1(frames)).view(
            batch, length, 3, self.num_heads, dim // self.num_heads
        )
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=bias)
        frames = frames + self.dropout(self.out(mixed.transpose(1, 2).reshape(batch, length, dim)))
        folded: Tensor = self.fc2(self.dropout(F.gelu(self.fc1(self.norm2(frames)))))
        result: Tensor = frames + self.dropout(folded)
        return result


class Encoder(nn.Module):
    """Levelled spectra to frames at half the rate: two convolutions, positions, layers.

    Whisper's own rate is 50 frames a second. Its layers work nearly as well on the means of pairs,
    and then cost half.
    """

    def __init__(self, sizes: StandardSizes) -> None:
        super().__init__()
        self.dim = sizes.dim
        self.conv1 = nn.Conv1d(NUM_MELS, sizes.dim, 3, padding=1)
        self.conv2 = nn.Conv1d(sizes.dim, sizes.dim, 3, stride=2, padding=1)
        self.layers = nn.ModuleList(Layer(sizes) for _ in range(sizes.depth))
        self.frozen_layers = sizes.frozen_layers

    def forward(self, mel: Tensor, real: Tensor | None) -> Tensor:
        """Map spectra (batch, 2 x frames, 80) to (batch, frames / 2 rounded up, dim).

        Args:
            mel: zero where padded.
            real: (batch, frames), 1 for frames that are real; None: all are.
        """
        few = None if real is None else real[:, ::2]
        return self.upper(self.lower(mel, real), few)

    def lower(self, mel: Tensor, real: Tensor | None) -> Tensor:
        """Run what training leaves as it was published."""
        image = F.gelu(self.conv1(mel.transpose(1, 2)))
        if real is not None:
            # The second convolution must find zeros beyond a row's end, as a row alone has there.
            image = image * real.repeat_interleave(2, dim=1)[:, None]
        frames = F.gelu(self.conv2(image)).transpose(1, 2)
        frames = frames + positions(frames.shape[1], self.dim).to(frames)
        few = None if real is None else real[:, ::2]
        return self._through(halved(frames, real), few, 0, self.frozen_layers)

    def upper(self, frames: Tensor, real: Tensor | None) -> Tensor:
        """Run the layers that were fine-tuned, over (batch, frames / 2, dim)."""
        return self._through(frames, real, self.frozen_layers, len(self.layers))

    def _through(self, frames: Tensor, real: Tensor | None, first: int, stop: int) -> Tensor:
        bias = None
        if real is not None:
            bias = torch.zeros_like(real).masked_fill(real == 0, -math.inf)[:, None, None]
        for index in range(first, stop):
            frames = self.layers[index](frames, bias)
        return frames


class Head(nn.Module):
    """Frames of the encoder, at half the rate, to embeddings and logits at the whole.

    A frame is seen through the mean and the deviation of the frames near it, and of the window.
    """

    def __init__(self, sizes: StandardSizes) -> None:
        super().__init__()
        self.span_frames = sizes.span_frames
        self.near = nn.Linear(2 * sizes.dim, sizes.embed)
        self.whole = nn.Linear(2 * sizes.dim, sizes.embed, bias=False)
        self.gate = nn.Linear(sizes.embed, sizes.num_gates)
        self.head = nn.Linear(sizes.embed, sizes.num_classes)

    def forward(self, frames: Tensor, loudness: Tensor) -> FrameOutputs:
        """Score frames.

        Args:
            frames: (batch, frames / 2 rounded up, dim).
            loudness: (batch, frames), between 0 and 1; 0 where padded.
        """
        near, whole = statistics(frames, loudness, self.span_frames)
        embeddings = self.embeddings(near, whole)
        embeddings = embeddings.repeat_interleave(2, dim=1)[:, : loudness.shape[1]]
        return FrameOutputs(embeddings, self.head(embeddings))

    def embeddings(self, near: Tensor, whole: Tensor) -> Tensor:
        """Map what :func:`statistics` gives to embeddings (batch, frames, embed)."""
        hidden = F.gelu(self.near(near) + self.whole(whole))
        gates = torch.sigmoid(self.gate(hidden))
        width = hidden.shape[-1] // gates.shape[-1]
        return hidden * gates.repeat_interleave(width, dim=-1)


class ContextEncoder(nn.Module):
    """Features of a window to embeddings and frame logits."""

    def __init__(self, sizes: StandardSizes) -> None:
        super().__init__()
        self.log_mel = LogMel()
        self.encoder = Encoder(sizes)
        self.head = Head(sizes)

    def forward(self, features: Tensor, num_frames: Tensor | None = None) -> FrameOutputs:
        """Score features.

        Args:
            features: (batch, frames, 884).
            num_frames: int64 (batch,), how many leading frames of each row are real. None: all.
        """
        real = None
        if num_frames is not None:
            index = torch.arange(features.shape[1], device=features.device)
            real = (index < num_frames[:, None]).to(features.dtype)
        mel, loudness = levelled(self.log_mel(features, real), real)
        outputs: FrameOutputs = self.head(self.encoder(mel, real), loudness)
        return outputs

    def finish(self, frozen: Tensor, loudness: Tensor) -> FrameOutputs:
        """Score what :meth:`Encoder.lower` made of windows without padding: for training."""
        outputs: FrameOutputs = self.head(self.encoder.upper(frozen, None), loudness)
        return outputs


def halved(frames: Tensor, real: Tensor | None) -> Tensor:
    """Return the means of pairs of frames (batch, frames, dim); the last may be of one."""
    length = frames.shape[1]
    counts = frames.new_ones(1, length) if real is None else real
    frames = frames * counts[..., None]
    pairs = torch.unflatten(F.pad(frames, (0, 0, 0, length % 2)), 1, (-1, 2)).sum(dim=2)
    counts = torch.unflatten(F.pad(counts, (0, length % 2)), 1, (-1, 2)).sum(dim=2)
    return pairs / counts.clamp_min(1)[..., None]


def levelled(mel: Tensor, real: Tensor | None) -> tuple[Tensor, Tensor]:
    """Take a window's level out of its spectra, and scale them as Whisper does.

    The level is the mean over the window's *energy*, not over its time, of a frame's logarithmic
    power: silence does not move it.

    Args:
        mel: log10 of mel powers (batch, frames, 2, 80).
        real: (batch, frames), 1 for frames that are real; None: all are.

    Returns:
        spectra (batch, 2 x frames, 80), zero where padded, and how far each frame counts as
        speech (batch, frames), 0 where padded.
    """
    power = (10.0**mel).sum(dim=-1).mean(dim=-1)
    logs = power.log10()
    weights = power if real is None else power * real
    level = (weights * logs).sum(dim=1, keepdim=True) / weights.sum(dim=1, keepdim=True)
    level = level.clamp_min(_QUIETEST_LEVEL)
    loudness = torch.sigmoid(4.0 * (logs - level + _SPEECH_RANGE)) + 1e-4
    level = level[..., None, None]
    spectra = torch.maximum(mel - level, mel.new_tensor(-_DYNAMIC_RANGE)) + _SPEECH_LEVEL
    spectra = ((spectra + 4.0) / 4.0).flatten(1, 2)
    if real is not None:
        spectra = spectra * real.repeat_interleave(2, dim=1)[..., None]
        loudness = loudness * real
    return spectra, loudness


def positions(length: int, dim: int) -> Tensor:
    """Return Whisper's sinusoids (length, dim): sines, then cosines."""
    rates = torch.exp(-math.log(10_000) / (dim // 2 - 1) * torch.arange(dim // 2))
    angle = torch.arange(length)[:, None] * rates
    return torch.cat([angle.sin(), angle.cos()], dim=1)


def statistics(frames: Tensor, loudness: Tensor, span_frames: float) -> tuple[Tensor, Tensor]:
    """Return mean and deviation of the frames near each frame, and of all.

    Frames count as they are loud, and near ones by ``exp(-distance / span_frames)``.

    Args:
        frames: (batch, frames / 2 rounded up, dim); each is normalised first.
        loudness: (batch, frames).
        span_frames: at 50 frames a second.

    Returns:
        near (batch, frames / 2 rounded up, 2 dim) and whole (batch, 1, 2 dim).
    """
    loud = torch.unflatten(F.pad(loudness, (0, loudness.shape[1] % 2)), 1, (-1, 2)).sum(dim=2)
    normed = F.layer_norm(frames, frames.shape[-1:])
    index = torch.arange(frames.shape[1], device=frames.device, dtype=frames.dtype)
    near = torch.exp((index[:, None] - index[None, :]).abs() * (-2 / span_frames))
    return _statistics(normed, near[None] * loud[:, None]), _statistics(normed, loud[:, None])


def _statistics(frames: Tensor, weights: Tensor) -> Tensor:
    """Return weighted mean and deviation of (batch, frames, dim) by (batch, spans, frames)."""
    weights = weights / weights.sum(dim=-1, keepdim=True).clamp_min(1e-9)
    mean = weights @ frames
    spread = (weights @ frames.square() - mean.square()).clamp_min(1e-5).sqrt()
    return torch.cat([mean, spread], dim=-1)


class Standard(Network):
    """The whole network: raw samples in; frame embeddings and logits out."""

    local: FrontEnd
    context: ContextEncoder
    # Starts in 3 s, where a conversion takes minutes on busy cores and gains a fifth.
    is_small = True
    # Powers of a spectrum span ten decades, of which eight bits see two: quantised, the filterbank
    # made everything the same sound. The head, left out too, changes nothing that can be measured.
    precise = ("context.log_mel.",)

    def __init__(self, sizes: StandardSizes) -> None:
        super().__init__()
        self.sizes = sizes
        self.feature_dim = sizes.feature_dim
        self.local = FrontEnd()
        self.context = ContextEncoder(sizes)


STANDARD_WEIGHTS = Path(__file__).resolve().parent / "weights.safetensors"
"""The file in the package."""

STANDARD_FORMAT = "emotion-monitor-standard-1"
"""Changed with the meaning of the file."""

_LICENCE = (
    "CC BY-NC-SA 4.0, https://creativecommons.org/licenses/by-nc-sa/4.0/"
    " (non-commercial; encoder: Whisper base, MIT; trained on EmoDB, RAVDESS, nEMO, ASED, AMI,"
    " LibriSpeech and others, see its model card)"
)

_NOTICE = (
    "Built-in standard model in use: learned emotions from acted speech, non-commercial licence"
    " (CC BY-NC-SA 4.0)."
)


def _build(sizes: StandardSizes, tensors: Mapping[str, Tensor]) -> Standard:
    model = Standard(sizes)
    model.load_state_dict(dict(tensors))
    return model.eval().requires_grad_(False)


STANDARD = BuiltInModel(
    name="standard",
    licence=_LICENCE,
    notice=_NOTICE,
    weights=STANDARD_WEIGHTS,
    file_format=STANDARD_FORMAT,
    sizes=lambda values: StandardSizes(**values),
    build=_build,
    neutral_logits=(-1.09, -1.54, -1.01, -1.54, 2.48, 0.0, -1.16, -1.6, 1.31),
)
