"""Samples to what the compact model sees of each frame: log-mel energies and a pitch profile.

Both are read off one spectrum of the frame's 400 samples, and off nothing else: features can be
kept while a window slides on. Nothing here is learned.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ser_engine.frames import HOP_SAMPLES, RECEPTIVE_FIELD_SAMPLES, SAMPLE_RATE_HZ

NUM_MELS = 64
"""Mel bands from 60 to 7,600 Hz."""


NUM_PITCHES = 48
"""Candidates for the pitch, evenly on a logarithmic scale."""


PITCH_RANGE_HZ = (75.0, 500.0)
"""The first and the last of them."""

_FFT_SAMPLES = 800
"""Twice the frame, so that autocorrelation does not wrap around."""

_PITCH_BAND_HZ = (60.0, 2000.0)
"""Harmonics above this say little about the pitch in noise and over a telephone."""

_POWER_FLOOR = 1e-9
"""Added to power before its logarithm: below the noise of 16-bit samples."""


class FrontEnd(nn.Module):
    """Log-mel energies and a pitch profile of each frame.

    The pitch profile is the autocorrelation of the frame at the periods of the candidates, taken
    of the magnitude spectrum instead of the power spectrum, so that the strongest harmonic does
    not drown the others, and relative to the sum of magnitudes: it does not depend on level.
    """

    window: Tensor
    mel: Tensor
    pitch: Tensor

    def __init__(self) -> None:
        super().__init__()
        window = torch.hann_window(RECEPTIVE_FIELD_SAMPLES, periodic=False)
        self.register_buffer("window", window, persistent=False)
        self.register_buffer("mel", _mel_filters(), persistent=False)
        self.register_buffer("pitch", _pitch_profile(), persistent=False)

    def forward(self, samples: Tensor) -> Tensor:
        """Map raw samples (batch, samples) to features (batch, frames, 112)."""
        frames = samples.unfold(1, RECEPTIVE_FIELD_SAMPLES, HOP_SAMPLES)
        spectrum = torch.fft.rfft(frames * self.window, n=_FFT_SAMPLES)
        power = torch.addcmul(spectrum.real.square(), spectrum.imag, spectrum.imag)
        return self.of_power(power)

    def of_power(self, power: Tensor) -> Tensor:
        """Map power spectra (batch, frames, bins) to features."""
        mel = (power @ self.mel).add(_POWER_FLOOR).log()
        low = power[..., : self.pitch.shape[0]].add(_POWER_FLOOR).sqrt()
        pitch = (low @ self.pitch) / low.sum(dim=-1, keepdim=True)
        return torch.cat([mel, pitch], dim=-1)


class FrontEndGraph(nn.Module):
    """The front end with its Fourier transform as a matrix product.

    OpenVINO 2026.4 converts the transform itself, and gives powers of 1e36 for it.
    """

    transform: Tensor

    def __init__(self, front_end: FrontEnd) -> None:
        super().__init__()
        self.front_end = front_end
        samples = torch.arange(RECEPTIVE_FIELD_SAMPLES, dtype=torch.float64)
        bins = torch.arange(_FFT_SAMPLES // 2 + 1, dtype=torch.float64)
        angle = 2 * math.pi / _FFT_SAMPLES * torch.outer(samples, bins)
        transform = torch.cat([angle.cos(), angle.sin()], dim=1)
        transform *= front_end.window.double()[:, None]
        self.register_buffer("transform", transform.float(), persistent=False)

    def forward(self, samples: Tensor) -> Tensor:
        frames = samples.unfold(1, RECEPTIVE_FIELD_SAMPLES, HOP_SAMPLES)
        real, imaginary = (frames @ self.transform).chunk(2, dim=-1)
        return self.front_end.of_power(real.square() + imaginary.square())


def _bins_hz() -> Tensor:
    return torch.arange(_FFT_SAMPLES // 2 + 1, dtype=torch.float64) * SAMPLE_RATE_HZ / _FFT_SAMPLES


def mel_edges_hz(low_hz: float = 60.0, high_hz: float = 7600.0) -> Tensor:
    """Return where the bands begin, peak and end, evenly on O'Shaughnessy's mel scale.

    float64 (mels + 2,): band ``i`` begins at edge ``i``, peaks at the next, ends at the one after.
    """

    def mel(hz: float) -> float:
        return 1127.0 * math.log1p(hz / 700.0)

    edges = torch.linspace(mel(low_hz), mel(high_hz), NUM_MELS + 2, dtype=torch.float64)
    return 700.0 * torch.expm1(edges / 1127.0)


def _mel_filters() -> Tensor:
    """Return triangles (bins, mels), each of height 1."""
    edges = mel_edges_hz()
    rising = (_bins_hz()[:, None] - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - _bins_hz()[:, None]) / (edges[2:] - edges[1:-1])
    return torch.minimum(rising, falling).clamp_min(0).float()


def _pitch_profile() -> Tensor:
    """Return cosines (bins up to 2 kHz, candidates): autocorrelation at each one's period."""
    low_hz, high_hz = PITCH_RANGE_HZ
    steps = torch.linspace(math.log(low_hz), math.log(high_hz), NUM_PITCHES, dtype=torch.float64)
    bins = _bins_hz()
    bins = bins[bins <= _PITCH_BAND_HZ[1]]
    cosines = torch.cos(2 * math.pi * bins[:, None] / steps.exp())
    cosines[bins < _PITCH_BAND_HZ[0]] = 0
    return cosines.float()
