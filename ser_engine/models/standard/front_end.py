"""Samples to Whisper's log-mel spectra, on the frame grid of the engine.

Whisper reads a spectrum of 400 samples every 160; a frame here reads 400 samples every 320. So a
frame has one spectrum of its own, over just its samples, and one half a hop later that reaches
160 samples into the next frame's::

    frame t        [------------400------------)
    own spectrum   [------------400------------)
    half a hop on             [-----240-----|--160--)
    frame t + 1                       [-----------400-----------)

A Fourier transform is linear: frame ``t`` keeps the part of the second spectrum that lies in its
own samples, and also the part of the spectrum before it, of frame ``t - 1``, that lies in its own.
The two parts are added later (:func:`log_mel`). What a frame keeps so depends on its 400 samples
alone and can be kept while a window slides on, exactly. Nothing here is learned.

Source of the spectra: Radford et al. 2022, arXiv 2212.04356, and its published code.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ser_engine.frames import (
    HALF_HOP_SAMPLES,
    HOP_SAMPLES,
    RECEPTIVE_FIELD_SAMPLES,
    SAMPLE_RATE_HZ,
)

__all__ = ["FrontEnd", "LogMel", "mel_filters"]

NUM_MELS = 80
"""Mel bands from 0 to 8,000 Hz, as Whisper has them."""

SPECTRUM_BINS = RECEPTIVE_FIELD_SAMPLES // 2 + 1
"""Frequencies of a spectrum, 40 Hz apart."""

_BINS = SPECTRUM_BINS
_POWER_FLOOR = 1e-10
"""Whisper's floor under the power of a band."""


class FrontEnd(nn.Module):
    """What each frame keeps: log-mel of its own spectrum, parts of the two between frames."""

    transform: Tensor
    mel: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("transform", _transform(), persistent=False)
        self.register_buffer("mel", mel_filters(), persistent=False)

    def forward(self, samples: Tensor) -> Tensor:
        """Map raw samples (batch, samples) to features (batch, frames, 884).

        Of a frame: log10 of 80 mel powers; then real and imaginary parts of the later part of the
        spectrum before it, and of the earlier part of the one after it (201 bins each).
        """
        frames = samples.unfold(1, RECEPTIVE_FIELD_SAMPLES, HOP_SAMPLES)
        spectra = frames @ self.transform
        own, between = torch.split(spectra, [2 * _BINS, 4 * _BINS], dim=-1)
        power = own[..., :_BINS].square() + own[..., _BINS:].square()
        mel = (power @ self.mel).clamp_min(_POWER_FLOOR).log10()
        return torch.cat([mel, between], dim=-1)


class LogMel(nn.Module):
    """Features of a window to its log-mel spectra, two a frame."""

    mel: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mel", mel_filters(), persistent=False)

    def forward(self, features: Tensor, real: Tensor | None = None) -> Tensor:
        """Map features (batch, frames, 884) to log10 mel powers (batch, frames, 2, 80).

        The last spectrum of a window lacks the 160 samples that its last frame does not read.

        Args:
            features: of a window.
            real: (batch, frames), 1 for frames that are real; None: all are.
        """
        own, before, after = torch.split(features, [NUM_MELS, 2 * _BINS, 2 * _BINS], dim=-1)
        if real is not None:
            before = before * real[..., None]
        spectrum = after + F.pad(before[:, 1:], (0, 0, 0, 1))
        power = spectrum[..., :_BINS].square() + spectrum[..., _BINS:].square()
        between = (power @ self.mel).clamp_min(_POWER_FLOOR).log10()
        return torch.stack([own, between], dim=2)


def _transform() -> Tensor:
    """Return the windowed Fourier transforms (400, 6 x 201) of a frame's samples.

    Own spectrum; the part of the spectrum before that lies in the frame's samples 80 to 240; the
    part of the next that lies in its samples 160 to 400. Real parts, then imaginary parts.
    """
    size = RECEPTIVE_FIELD_SAMPLES
    window = torch.hann_window(size, periodic=True, dtype=torch.float64)
    angle = 2 * math.pi / size * torch.outer(torch.arange(size), torch.arange(_BINS)).double()
    whole = torch.cat([angle.cos(), -angle.sin()], dim=1) * window[:, None]
    before, after = torch.zeros_like(whole), torch.zeros_like(whole)
    kept = size - HALF_HOP_SAMPLES  # 240 samples of the next spectrum are this frame's
    overlap = size - HOP_SAMPLES  # the first 80 samples are the frame before's, too
    before[overlap : overlap + HALF_HOP_SAMPLES] = whole[kept:]
    after[HALF_HOP_SAMPLES:] = whole[:kept]
    return torch.cat([whole, before, after], dim=1).float()


def mel_filters() -> Tensor:
    """Return triangles (bins, mels) of equal area on Slaney's mel scale, as librosa makes them."""

    def to_hz(mel: Tensor) -> Tensor:
        # Linear below 1 kHz (mel 15), then a factor of 6.4 every 27 mel.
        return torch.where(
            mel < 15, mel * 200 / 3, 1000 * torch.exp(math.log(6.4) / 27 * (mel - 15))
        )

    nyquist = SAMPLE_RATE_HZ / 2
    top = 15 + 27 * math.log(nyquist / 1000) / math.log(6.4)
    edges = to_hz(torch.linspace(0, top, NUM_MELS + 2, dtype=torch.float64))
    bins = torch.linspace(0, nyquist, _BINS, dtype=torch.float64)
    rising = (bins[:, None] - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - bins[:, None]) / (edges[2:] - edges[1:-1])
    area = 2 / (edges[2:] - edges[:-2])
    return (torch.minimum(rising, falling).clamp_min(0) * area).float()
