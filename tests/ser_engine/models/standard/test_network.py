from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from ser_engine.frames import num_frames, span_samples
from ser_engine.models.standard import Standard, StandardSizes, halved, positions
from ser_engine.models.standard.front_end import mel_filters

SMALL = StandardSizes(dim=16, num_heads=2, hidden=32, depth=2, embed=12, num_gates=3, num_classes=5)


@pytest.fixture(scope="module")
def network() -> Standard:
    torch.manual_seed(0)
    return Standard(SMALL).eval().requires_grad_(False)


def speech(seconds: float, seed: int = 0) -> Tensor:
    """Return noise that comes and goes as syllables do."""
    rng = np.random.default_rng(seed)
    count = int(seconds * 16_000)
    syllables = 0.55 + 0.45 * np.sin(2 * np.pi * 4 * np.arange(count) / 16_000)
    return torch.from_numpy((0.1 * syllables * rng.standard_normal(count)).astype(np.float32))


def test_spectra_are_those_of_a_short_time_fourier_transform(network: Standard) -> None:
    samples = speech(1.0)
    mel = network.context.log_mel(network.local(samples[None]))[0].flatten(0, 1)
    transform = torch.stft(
        samples, 400, 160, window=torch.hann_window(400), center=False, return_complex=True
    )
    expected = (transform.abs().square().T @ mel_filters()).clamp_min(1e-10).log10()
    # The last spectrum of a window lacks what its last frame does not read.
    count = min(len(expected), len(mel) - 1)
    assert torch.allclose(mel[:count], expected[:count], atol=2e-3)


def test_a_frame_keeps_what_depends_on_its_own_samples_alone(network: Standard) -> None:
    samples = speech(1.0)
    whole = network.local(samples[None])[0]
    for frame in (0, 7, len(whole) - 1):
        alone = network.local(samples[None, frame * 320 : frame * 320 + 400])[0, 0]
        assert torch.allclose(whole[frame], alone, atol=1e-4)


@pytest.mark.parametrize("frames", [40, 41])
def test_a_row_in_a_batch_equals_that_row_alone(network: Standard, frames: int) -> None:
    features = network.local(speech(2.0)[None, : span_samples(frames)])
    alone = network.context(features)
    padded = F.pad(features, (0, 0, 0, 23), value=3.0)
    other = network.local(speech(3.0, seed=1)[None, : span_samples(frames + 23)])
    together = network.context(torch.cat([other, padded]), torch.tensor([frames + 23, frames]))
    assert torch.allclose(together.logits[1, :frames], alone.logits[0], atol=1e-5)
    assert torch.allclose(together.embeddings[1, :frames], alone.embeddings[0], atol=1e-5)


def test_the_mean_of_the_frame_logits_is_the_head_of_the_mean_embedding(network: Standard) -> None:
    outputs = network(speech(2.0)[None])
    assert outputs.logits.shape == (1, num_frames(32_000), 5)
    pooled = network.context.head.head(outputs.embeddings.mean(dim=1))
    assert torch.allclose(outputs.logits.mean(dim=1), pooled, atol=1e-6)


def test_the_level_of_a_window_changes_nothing(network: Standard) -> None:
    samples = speech(2.0)[None]
    loud, quiet = network(samples).logits, network(samples * 0.03).logits
    assert torch.allclose(loud, quiet, atol=1e-2)


def test_half_a_pair_counts_as_itself() -> None:
    frames = torch.arange(5.0)[None, :, None]
    assert halved(frames, None).flatten().tolist() == [0.5, 2.5, 4.0]
    real = torch.tensor([[1.0, 1.0, 1.0, 0.0, 0.0]])
    assert halved(frames, real).flatten().tolist() == [0.5, 2.0, 0.0]


def test_positions_are_sines_then_cosines() -> None:
    found = positions(3, 8)
    assert found.shape == (3, 8)
    assert torch.allclose(found[0], torch.tensor([0.0] * 4 + [1.0] * 4))
    assert torch.allclose(found[2, 0], torch.tensor(2.0).sin())
