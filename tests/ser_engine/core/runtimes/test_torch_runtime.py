from __future__ import annotations

from pathlib import Path

import pytest
import torch

from ser_engine.core.runtimes.torch_runtime import TorchRuntime
from ser_engine.models.built_in import BuiltInModel
from ser_engine.models.compact import COMPACT
from ser_engine.models.standard import STANDARD
from tests.support.networks import network


@pytest.fixture
def rows() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(frames, 64, generator=generator) for frames in (60, 1, 23)]


def test_rows_of_one_call_are_answered_in_order(
    tiny_checkpoint_dir: Path, rows: list[torch.Tensor]
) -> None:
    runtime = TorchRuntime(network(tiny_checkpoint_dir))

    outputs = runtime.context([*rows, rows[0]])

    for row, output in zip([*rows, rows[0]], outputs, strict=True):
        (alone,) = runtime.context([row])
        torch.testing.assert_close(output.logits, alone.logits, atol=1e-5, rtol=0)


@pytest.mark.parametrize("model", [COMPACT, STANDARD, None], ids=["compact", "standard", "other"])
@torch.inference_mode()
def test_tracing_changes_no_bit_at_any_length(
    model: BuiltInModel | None, tiny_checkpoint_dir: Path
) -> None:
    made = network(tiny_checkpoint_dir) if model is None else model.read().build()
    runtime = TorchRuntime(made)
    generator = torch.Generator().manual_seed(0)

    for rows, samples in ((1, 400), (1, 720), (3, 16_240), (1, 33_000)):
        audio = 0.1 * torch.randn(rows, samples, generator=generator)
        features = made.local(audio)
        expected = made.context(features, None)

        assert torch.equal(runtime.local(audio), features)
        for place, found in enumerate(runtime.context(list(features))):
            assert torch.equal(found.embeddings, expected.embeddings[place])
            assert torch.equal(found.logits, expected.logits[place])


def test_padding_to_few_shapes_as_on_cuda_changes_nothing(
    tiny_checkpoint_dir: Path, rows: list[torch.Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = network(tiny_checkpoint_dir)
    runtime = TorchRuntime(model)
    expected = runtime.context(rows)
    shapes = []

    def replay(features: torch.Tensor, num_frames: torch.Tensor) -> object:
        shapes.append(tuple(features.shape))
        return model.context(features, num_frames)

    monkeypatch.setattr(runtime, "_graphs", replay)
    monkeypatch.setattr(runtime, "_padded_frames", 64)

    outputs = runtime.context(rows)

    assert shapes == [(4, 64, 64)]
    for output, alone in zip(outputs, expected, strict=True):
        torch.testing.assert_close(output, alone, atol=2e-5, rtol=0)


@pytest.mark.needs("gpu")
def test_graphs_of_one_shape_do_not_share_results(tiny_checkpoint_dir: Path) -> None:
    runtime = TorchRuntime(network(tiny_checkpoint_dir), "cuda")
    runtime.warm_up([60], 2)
    first, second = (torch.randn(60, 64, device="cuda") for _ in range(2))

    (before,) = runtime.context([first])
    kept = before.logits.clone()
    runtime.context([second])

    torch.testing.assert_close(before.logits, kept)
