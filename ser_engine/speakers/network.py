"""CAM++: speech to a vector of the voice, 192 numbers.

Source: Wang et al. 2023, CAM++: A Fast and Efficient Network for Speaker Verification Using
Context-Aware Masking, arXiv 2303.00332. Its features are Kaldi's: 80 log-mel energies of 25 ms
every 10 ms, less their mean over time::

    samples ─▶ features (80, T) ─▶ image front end ─▶ (320, T) ─▶ dense blocks at T/2 ─▶ (512, T/2)
                                                     mean and deviation over time ─▶ 192

Modules are named as in the weights that are published, so that those load as they are.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ser_engine.frames import SAMPLE_RATE_HZ

VOICE_DIM = 192

_WINDOW_SAMPLES = SAMPLE_RATE_HZ * 25 // 1000
_SHIFT_SAMPLES = SAMPLE_RATE_HZ // 100
_FFT_SAMPLES = 512
_NUM_MELS = 80
_LOWEST_HZ = 20.0
_PREEMPHASIS = 0.97
_SEGMENT_FRAMES = 100
"""Frames, of 20 ms, whose mean a mask of the blocks sees beside that of everything."""


class Fbank(nn.Module):
    """Kaldi's log-mel energies (``compute-fbank-feats`` without dither), less their mean."""

    window: Tensor
    mels: Tensor

    def __init__(self) -> None:
        super().__init__()
        hann = torch.hann_window(_WINDOW_SAMPLES, periodic=False, dtype=torch.float64)
        self.register_buffer("window", hann.pow(0.85).float(), persistent=False)
        self.register_buffer("mels", _mel_filters().float(), persistent=False)

    def forward(self, samples: Tensor) -> Tensor:
        """Map (batch, samples), of a window of 25 ms at least, to (batch, 80, frames)."""
        frames = samples.unfold(1, _WINDOW_SAMPLES, _SHIFT_SAMPLES)
        frames = frames - frames.mean(dim=2, keepdim=True)
        # The first sample of a window is taken to follow one like itself.
        before = torch.cat([frames[..., :1], frames[..., :-1]], dim=2)
        frames = (frames - _PREEMPHASIS * before) * self.window
        # Kaldi leaves out the bin at half the sample rate.
        powers = torch.fft.rfft(frames, n=_FFT_SAMPLES).abs().square()[..., :-1]
        floor = torch.finfo(torch.float32).eps
        logs = (powers @ self.mels).clamp_min(floor).log().transpose(1, 2)
        # What a microphone does to the spectrum is the same in every frame and goes with the mean.
        features: Tensor = logs - logs.mean(dim=2, keepdim=True)
        return features


def _mel_filters() -> Tensor:
    """Return Kaldi's triangles (bins, mels), evenly apart in mel, which are not normalised."""

    def mel(hz: Tensor) -> Tensor:
        return 1127.0 * (1.0 + hz / 700.0).log()

    ends = mel(torch.tensor([_LOWEST_HZ, SAMPLE_RATE_HZ / 2], dtype=torch.float64))
    edges = torch.linspace(float(ends[0]), float(ends[1]), _NUM_MELS + 2, dtype=torch.float64)
    bins = mel(torch.arange(_FFT_SAMPLES // 2, dtype=torch.float64) * SAMPLE_RATE_HZ / _FFT_SAMPLES)
    rising = (bins[:, None] - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - bins[:, None]) / (edges[2:] - edges[1:-1])
    return torch.minimum(rising, falling).clamp_min(0)


class _Residual(nn.Module):
    """Two convolutions over frequency and time; ``stride`` is over frequency."""

    def __init__(self, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, (stride, 1), 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.shortcut = nn.Sequential()
        if stride > 1:
            self.shortcut.append(nn.Conv2d(channels, channels, 1, (stride, 1), bias=False))
            self.shortcut.append(nn.BatchNorm2d(channels))

    def forward(self, image: Tensor) -> Tensor:
        hidden = F.relu(self.bn1(self.conv1(image)))
        return F.relu(self.bn2(self.conv2(hidden)) + self.shortcut(image))


class _ImageFrontEnd(nn.Module):
    """Features as an image of 80 rows, to 10 rows of 32 channels: (batch, 320, frames)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 32, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(32)
        self.layer1 = nn.Sequential(_Residual(32, 2), _Residual(32, 1))
        self.layer2 = nn.Sequential(_Residual(32, 2), _Residual(32, 1))
        self.conv2 = nn.Conv2d(32, 32, 3, (2, 1), 1, bias=False)
        self.bn2 = nn.BatchNorm2d(32)

    def forward(self, features: Tensor) -> Tensor:
        image = F.relu(self.bn1(self.conv1(features[:, None])))
        image = self.layer2(self.layer1(image))
        return F.relu(self.bn2(self.conv2(image))).flatten(1, 2)


def _normed(channels: int, *, relu: bool = True, affine: bool = True) -> nn.Sequential:
    norm = nn.Sequential()
    norm.add_module("batchnorm", nn.BatchNorm1d(channels, affine=affine))
    if relu:
        norm.add_module("relu", nn.ReLU())
    return norm


class _Unit(nn.Module):
    """A convolution and the norm after it."""

    def __init__(self, linear: nn.Conv1d, norm: nn.Sequential) -> None:
        super().__init__()
        self.linear = linear
        self.nonlinear = norm

    def forward(self, frames: Tensor) -> Tensor:
        result: Tensor = self.nonlinear(self.linear(frames))
        return result


class _Transit(nn.Module):
    """A norm and the convolution after it, which halves the channels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.nonlinear = _normed(channels)
        self.linear = nn.Conv1d(channels, channels // 2, 1, bias=False)

    def forward(self, frames: Tensor) -> Tensor:
        result: Tensor = self.linear(self.nonlinear(frames))
        return result


class _MaskedConv(nn.Module):
    """A convolution whose channels are masked by what the whole and the segment are like."""

    def __init__(self, channels: int, out: int, dilation: int) -> None:
        super().__init__()
        self.linear_local = nn.Conv1d(
            channels, out, 3, padding=dilation, dilation=dilation, bias=False
        )
        self.linear1 = nn.Conv1d(channels, channels // 2, 1)
        self.linear2 = nn.Conv1d(channels // 2, out, 1)

    def forward(self, frames: Tensor) -> Tensor:
        count = frames.shape[2]
        # The last segment may be short; its mean is of the frames that it has.
        segments = F.avg_pool1d(frames, _SEGMENT_FRAMES, _SEGMENT_FRAMES, ceil_mode=True)
        segments = segments.repeat_interleave(_SEGMENT_FRAMES, dim=2)[..., :count]
        context = frames.mean(dim=2, keepdim=True) + segments
        mask = torch.sigmoid(self.linear2(F.relu(self.linear1(context))))
        result: Tensor = self.linear_local(frames) * mask
        return result


class _Dense(nn.Module):
    """One layer of a block: 32 more channels, made of all before."""

    def __init__(self, channels: int, dilation: int) -> None:
        super().__init__()
        self.nonlinear1 = _normed(channels)
        self.linear1 = nn.Conv1d(channels, 128, 1, bias=False)
        self.nonlinear2 = _normed(128)
        self.cam_layer = _MaskedConv(128, 32, dilation)

    def forward(self, frames: Tensor) -> Tensor:
        made = self.cam_layer(self.nonlinear2(self.linear1(self.nonlinear1(frames))))
        return torch.cat([frames, made], dim=1)


class _Pool(nn.Module):
    """Mean and deviation over time."""

    def forward(self, frames: Tensor) -> Tensor:
        return torch.cat([frames.mean(dim=2), frames.std(dim=2)], dim=1)[..., None]


class CamPlusPlusNetwork(nn.Module):
    """The network for 16 kHz that 3D-Speaker published, 6.9 million parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.fbank = Fbank()
        self.head = _ImageFrontEnd()
        self.xvector = nn.Sequential()
        first = nn.Conv1d(320, 128, 5, stride=2, padding=2, bias=False)
        self.xvector.add_module("tdnn", _Unit(first, _normed(128)))
        channels = 128
        for number, (depth, dilation) in enumerate(((12, 1), (24, 2), (16, 2)), 1):
            block = nn.Sequential()
            for layer in range(1, depth + 1):
                block.add_module(f"tdnnd{layer}", _Dense(channels, dilation))
                channels += 32
            self.xvector.add_module(f"block{number}", block)
            self.xvector.add_module(f"transit{number}", _Transit(channels))
            channels //= 2
        self.xvector.add_module("out_nonlinear", _normed(channels))
        self.xvector.add_module("stats", _Pool())
        last = nn.Conv1d(2 * channels, VOICE_DIM, 1, bias=False)
        self.xvector.add_module("dense", _Unit(last, _normed(VOICE_DIM, relu=False, affine=False)))

    def forward(self, samples: Tensor) -> Tensor:
        """Map speech (batch, samples) to vectors (batch, 192) of length 1."""
        vectors = self.xvector(self.head(self.fbank(samples)))[..., 0]
        return F.normalize(vectors, dim=1)
