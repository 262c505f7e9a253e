from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from ser_engine.frames import num_frames
from ser_engine.models.emotion2vec import StridedConv, build
from ser_engine.models.emotion2vec.folder import load_folder
from tests.support.networks import network, noise


def test_strided_conv_is_a_convolution() -> None:
    conv = StridedConv(in_channels=3, out_channels=5, kernel=3, stride=2)
    weight = torch.randn(5, 3, 3, generator=torch.Generator().manual_seed(0))
    conv.load_weight(weight)
    rows = torch.randn(2, 12, 3, generator=torch.Generator().manual_seed(1))

    ours = conv(rows.reshape(24, 3)).view(2, 6, 5)[:, :5]

    plain = F.conv1d(rows.transpose(1, 2), weight, stride=2).transpose(1, 2)
    torch.testing.assert_close(ours, F.gelu(F.layer_norm(plain, (5,))))


def test_strided_conv_refuses_a_kernel_that_reaches_over_two_strides() -> None:
    with pytest.raises(ValueError, match="got kernel 5, stride 2"):
        StridedConv(1, 1, kernel=5, stride=2)


@settings(max_examples=15)
@given(num_samples=st.integers(400, 20_000))
def test_every_length_has_the_frames_the_grid_says(
    tiny_checkpoint_dir: Path, num_samples: int
) -> None:
    outputs = network(tiny_checkpoint_dir)(torch.from_numpy(noise(num_samples))[None])

    assert outputs.embeddings.shape == (1, num_frames(num_samples), 64)
    assert outputs.logits.shape == (1, num_frames(num_samples), 9)


def test_a_local_feature_depends_on_its_400_samples_alone(tiny_checkpoint_dir: Path) -> None:
    local = network(tiny_checkpoint_dir).local
    samples = torch.from_numpy(noise(16_000))[None]

    whole = local(samples)

    for frame in (0, 7, 48):
        alone = local(samples[:, frame * 320 : frame * 320 + 400])
        torch.testing.assert_close(whole[:, frame : frame + 1], alone, atol=1e-5, rtol=1e-5)


def test_a_padded_row_equals_the_row_alone(tiny_checkpoint_dir: Path) -> None:
    context = network(tiny_checkpoint_dir).context
    generator = torch.Generator().manual_seed(0)
    lengths = [60, 1, 23, 47]
    rows = [torch.randn(length, 64, generator=generator) for length in lengths]
    # Whatever lies behind a row's end must not matter, so it is made to.
    batch = torch.full((4, 60, 64), 1e3)
    for place, row in enumerate(rows):
        batch[place, : len(row)] = row

    outputs = context(batch, torch.tensor(lengths))

    for place, row in enumerate(rows):
        alone = context(row[None])
        batched = outputs.logits[place, : len(row)], outputs.embeddings[place, : len(row)]
        torch.testing.assert_close(
            batched, (alone.logits[0], alone.embeddings[0]), atol=2e-5, rtol=0
        )


def test_the_mean_of_frame_logits_is_the_head_on_the_mean_embedding(
    tiny_checkpoint_dir: Path,
) -> None:
    model = network(tiny_checkpoint_dir)
    outputs = model(torch.from_numpy(noise(32_000))[None])

    utterance = model.context.head(outputs.embeddings.mean(dim=1))

    torch.testing.assert_close(outputs.logits.mean(dim=1), utterance)


def test_unused_classes_have_no_logit(tmp_path: Path) -> None:
    from benchmarks.random_checkpoint import LABELS_OF_FIVE_CLASSES, write_random_checkpoint

    folder = write_random_checkpoint(tmp_path / "five", labels=LABELS_OF_FIVE_CLASSES)
    checkpoint = load_folder(folder)

    outputs = build(checkpoint.sizes, checkpoint.tensors)(torch.from_numpy(noise(8_000))[None])

    assert checkpoint.info.labels.names == ("angry", "happy", "neutral", "sad", "unknown")
    assert outputs.logits.shape[-1] == 5


@pytest.mark.needs("funasr")
@pytest.mark.parametrize("heads", [4, 12, 16])
def test_attention_bias_is_funasrs(
    funasr: ModuleType, tiny_checkpoint_dir: Path, heads: int
) -> None:
    base = importlib.import_module("funasr.models.emotion2vec.base")
    emotion2vec = importlib.import_module("ser_engine.models.emotion2vec")

    slopes = emotion2vec._alibi_slopes(heads)

    distance = np.abs(np.subtract.outer(np.arange(30), np.arange(30)))
    expected = base.get_alibi(30, heads)
    torch.testing.assert_close(-slopes[:, None, None] * torch.from_numpy(distance), expected)
