from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from ser_engine.models.emotion2vec import Emotion2vec, StridedConv
from ser_engine.models.normalisation import (
    FirstLayer,
    Normalisation,
    deviation,
    normalisation_of,
)
from tests.support.networks import network, noise


@pytest.fixture(scope="module")
def model(tiny_checkpoint_dir: Path) -> Emotion2vec:
    return network(tiny_checkpoint_dir)


def layer_of(model: Emotion2vec) -> FirstLayer:
    layer = model.first_layer()
    assert layer is not None
    return layer


def normalisation(mean: float, scale: float, frames: int | None = None) -> Normalisation:
    pair = torch.tensor(mean, dtype=torch.float64), torch.tensor(scale, dtype=torch.float64)
    return Normalisation(*(one.expand(frames).clone() if frames else one for one in pair))


def activations(model: Emotion2vec, samples: Tensor, mean: float, scale: float) -> Tensor:
    """The first convolution and its LayerNorm without weights, the slow way: (positions, ·)."""
    conv = model.local.convs[0]
    assert isinstance(conv, StridedConv)
    fields = ((samples.double() - mean) * scale).unfold(0, 10, 5)
    taps = torch.cat([conv.inner, conv.outer]).double()
    return F.layer_norm(fields @ taps, taps.shape[1:], eps=1e-5)


def test_a_window_is_normalised_as_funasr_does() -> None:
    samples = torch.from_numpy(noise(8_000)) + 0.3

    wanted = normalisation_of(samples)

    ours = (samples.double() - wanted.mean) * wanted.scale
    torch.testing.assert_close(ours, F.layer_norm(samples.double(), samples.shape))


@pytest.mark.parametrize("level", [0.1, 1e-3, 1e-5])
def test_deviation_is_the_largest_relative_change_behind_the_first_layer_norm(
    model: Emotion2vec, level: float
) -> None:
    samples = torch.from_numpy(noise(400 + 2 * 320, level=level))

    found = deviation(
        layer_of(model), samples, normalisation(0.01, 3.0, 3), normalisation(0.012, 5.0)
    )

    before = activations(model, samples, 0.01, 3.0)
    after = activations(model, samples, 0.012, 5.0)
    root = before.shape[1] ** 0.5
    distance = (after - before).norm(dim=1) / root
    size = torch.maximum(after.norm(dim=1), before.norm(dim=1)) / root
    relative = distance / (size + 1e-5**0.5)
    expected = torch.stack([relative[64 * f : 64 * f + 79].max() for f in range(3)])
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-9)


def test_loud_audio_does_not_show_a_change_of_scale_and_quiet_audio_does(
    model: Emotion2vec,
) -> None:
    layer = layer_of(model)
    used, wanted = normalisation(0.0, 8.0, 49), normalisation(0.0, 10.0)

    loud = deviation(layer, torch.from_numpy(noise(16_000, level=0.1)), used, wanted)
    quiet = deviation(layer, torch.from_numpy(noise(16_000, level=1e-5)), used, wanted)

    assert loud.max() < 0.01
    assert quiet.min() > 0.1


def test_nothing_moved_is_no_deviation(model: Emotion2vec) -> None:
    samples = torch.from_numpy(noise(16_000))

    same = deviation(layer_of(model), samples, normalisation(0.1, 7.0, 49), normalisation(0.1, 7.0))

    assert same.max() < 1e-6
