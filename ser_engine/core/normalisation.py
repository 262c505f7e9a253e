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

from ser_engine.models.emotion2vec.network import NORM_EPS, Emotion2vec, StridedConv

_FLOOR = NORM_EPS**0.5
"""Size of an activation that the next LayerNorm's epsilon hides; relative changes of less than
this do not count."""

_POSITIONS_A_FRAME = 64
_POSITIONS_A_FIELD = 79
"""First-layer outputs between frames, and within the 400 samples of one."""


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
        kernel: samples each output reads.
        stride: samples between outputs.
        quadratic: float64 (kernel, kernel), ``Q`` above.
    """

    kernel: int
    stride: int
    quadratic: Tensor

    def to(self, device: torch.device) -> FirstLayer:
        """Return the same on another device."""
        return FirstLayer(self.kernel, self.stride, self.quadratic.to(device))


def first_layer(model: Emotion2vec) -> FirstLayer:
    """Read :class:`FirstLayer` off a network."""
    conv = model.local.convs[0]
    assert isinstance(conv, StridedConv)
    taps = torch.cat([conv.inner, conv.outer]).double()  # (kernel, channels)
    centred = taps - taps.mean(dim=1, keepdim=True)
    return FirstLayer(taps.shape[0], conv.stride, centred @ centred.T / taps.shape[1])


def normalisation_of(samples: Tensor, normalize: bool = True) -> Normalisation:
    """Return the normalisation the network expects for windows (..., samples): (...,).

    Args:
        samples: the windows, raw.
        normalize: False for a network that takes samples as they are.
    """
    if not normalize:
        one = torch.ones(samples.shape[:-1], dtype=torch.float64, device=samples.device)
        return Normalisation(torch.zeros_like(one), one)
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
    fields = fields[: (frames - 1) * _POSITIONS_A_FRAME + _POSITIONS_A_FIELD]
    weighted = fields @ layer.quadratic
    xqx = (weighted * fields).sum(dim=1).unfold(0, _POSITIONS_A_FIELD, _POSITIONS_A_FRAME)
    xq1 = weighted.sum(dim=1).unfold(0, _POSITIONS_A_FIELD, _POSITIONS_A_FRAME)
    q11 = layer.quadratic.sum()

    mean, scale = used.mean[:, None], used.scale[:, None]
    v_used = (xqx - 2 * mean * xq1 + mean**2 * q11).clamp_min(0)
    v_wanted = (xqx - 2 * wanted.mean * xq1 + wanted.mean**2 * q11).clamp_min(0)
    product = xqx - (mean + wanted.mean) * xq1 + mean * wanted.mean * q11
    gain_used = scale * torch.rsqrt(scale**2 * v_used + NORM_EPS)
    gain_wanted = wanted.scale * torch.rsqrt(wanted.scale**2 * v_wanted + NORM_EPS)
    squared = gain_used**2 * v_used + gain_wanted**2 * v_wanted
    distance = (squared - 2 * gain_used * gain_wanted * product).clamp_min(0).sqrt()
    size = torch.maximum(gain_used * v_used.sqrt(), gain_wanted * v_wanted.sqrt())
    relative: Tensor = (distance / (size + _FLOOR)).amax(dim=1)
    return relative
