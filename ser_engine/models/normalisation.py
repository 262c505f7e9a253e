"""How far a local feature computed under one normalisation is from the one another would give.

The network sees each window normalised by the window's own mean and standard deviation, so the
same 400 samples are scaled differently in every window they appear in. A LayerNorm follows the
first convolution and removes the scale, but only while the signal is strong against the
LayerNorm's epsilon; in pauses it is not. This module says, from the samples alone, how much a
change of normalisation shows behind that LayerNorm.

With ``w`` the first layer's taps (no bias), mean ``m`` and scale ``s`` the layer's output for ten
samples ``x`` is ``s w (x - m)``, and after LayerNorm (before its weights)::

    z(m, s) = s c(m) / sqrt(s² V(m) + eps)      c(m) = w (x - m) centred over channels
                                                V(m) = mean of c(m)² = (x - m)ᵀ Q (x - m)

``Q`` is 10 by 10 and comes from the weights once. So the distance between ``z`` under two
normalisations needs two numbers for each ten samples, ``xᵀ Q x`` and ``xᵀ Q 1``, and no
convolution.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ser_engine.frames import HOP_SAMPLES, RECEPTIVE_FIELD_SAMPLES

NORM_EPS = 1e-5
"""Epsilon of the window's normalisation, and of the LayerNorm behind the first convolution."""

_FLOOR = NORM_EPS**0.5
"""Size of an activation that the next LayerNorm's epsilon hides; relative changes of less than
this do not count."""


@dataclass(frozen=True, slots=True, eq=False)
class Normalisation:
    """The normalisation ``(x - mean) * scale`` of each of some frames, or of one window.

    Attributes:
        mean: float64 (frames,) or ().
        scale: float64 (frames,) or ().
    """

    mean: Tensor
    scale: Tensor

    def apply(self, samples: Tensor) -> Tensor:
        """Normalise windows (..., samples), one normalisation (...,) each; float32."""
        wide = samples.double()
        return ((wide - self.mean[..., None]) * self.scale[..., None]).float()


@dataclass(frozen=True, slots=True, eq=False)
class FirstLayer:
    """What the first convolution's weights say about variance over channels.

    Attributes:
        stride: samples between outputs.
        quadratic: float64 (kernel, kernel), ``Q`` above.
    """

    kernel: int
    stride: int
    quadratic: Tensor

    @classmethod
    def of_taps(cls, taps: Tensor, stride: int) -> FirstLayer:
        """Read it off the convolution's weights (kernel, channels)."""
        wide = taps.double()
        centred = wide - wide.mean(dim=1, keepdim=True)
        return cls(taps.shape[0], stride, centred @ centred.T / taps.shape[1])

    @property
    def outputs_a_hop(self) -> int:
        """Outputs from the first of one frame to the first of the next."""
        return HOP_SAMPLES // self.stride

    @property
    def outputs_a_frame(self) -> int:
        """Outputs that the 400 samples of one frame have."""
        return (RECEPTIVE_FIELD_SAMPLES - self.kernel) // self.stride + 1

    def to(self, device: torch.device) -> FirstLayer:
        """Return the same on another device."""
        return FirstLayer(self.kernel, self.stride, self.quadratic.to(device))


def normalisation_of(samples: Tensor) -> Normalisation:
    """Return the normalisation emotion2vec expects for windows (..., samples): (...,)."""
    # In double precision: float32 sums over a window are off by more than the parity of 1e-4.
    variance, mean = torch.var_mean(samples.double(), dim=-1, correction=0)
    return Normalisation(mean, torch.rsqrt(variance + NORM_EPS))


def deviation(
    layer: FirstLayer, samples: Tensor, used: Normalisation, wanted: Normalisation
) -> Tensor:
    """Return how far first-layer activations under ``used`` are from those under ``wanted``.

    Args:
        layer: the first convolution.
        samples: (samples,), at least 400 and as many as ``frames`` frames read.
        used: what each frame was computed under, (frames,).
        wanted: what the window asks for, ().

    Returns:
        float64 (frames,): the largest relative change among the activations a frame reads, 0 to 2.
    """
    frames = used.mean.shape[0]
    fields = samples.double().unfold(0, layer.kernel, layer.stride)
    size, step = layer.outputs_a_frame, layer.outputs_a_hop
    fields = fields[: (frames - 1) * step + size]
    weighted = fields @ layer.quadratic
    xqx = (weighted * fields).sum(dim=1).unfold(0, size, step)
    xq1 = weighted.sum(dim=1).unfold(0, size, step)
    q11 = layer.quadratic.sum()

    mean, scale = used.mean[:, None], used.scale[:, None]
    # Both are squares; rounding may leave them a little below zero.
    v_used = (xqx - 2 * mean * xq1 + mean**2 * q11).clamp_min(0)
    v_wanted = (xqx - 2 * wanted.mean * xq1 + wanted.mean**2 * q11).clamp_min(0)
    product = xqx - (mean + wanted.mean) * xq1 + mean * wanted.mean * q11
    gain_used = scale * torch.rsqrt(scale**2 * v_used + NORM_EPS)
    gain_wanted = wanted.scale * torch.rsqrt(wanted.scale**2 * v_wanted + NORM_EPS)
    squared = gain_used**2 * v_used + gain_wanted**2 * v_wanted
    distance = (squared - 2 * gain_used * gain_wanted * product).clamp_min(0).sqrt()
    strength = torch.maximum(gain_used * v_used.sqrt(), gain_wanted * v_wanted.sqrt())
    relative: Tensor = (distance / (strength + _FLOOR)).amax(dim=1)
    return relative
