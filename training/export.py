"""From a training run to the file that is shipped."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from ser_engine.labels import EMOTION2VEC_TOKENS, LabelSet
from ser_engine.models.compact.model import COMPACT_FORMAT
from ser_engine.models.compact.network import Compact, CompactSizes
from training.clips import CLASSES

__all__ = ["export", "load_run"]


def load_run(run: Path) -> Compact:
    """Return the averaged network of a run, in evaluation mode, with the classes it learned."""
    sizes: dict[str, Any] = json.loads((run / "plan.json").read_text())["sizes"]
    for name in ("mel_channels", "pitch_channels"):
        sizes[name] = tuple(sizes[name])
    model = Compact(CompactSizes(**sizes))
    model.load_state_dict(torch.load(run / "average.pt", weights_only=True))
    return model.eval().requires_grad_(False)


def export(model: Compact, temperature: float, path: Path, facts: dict[str, str]) -> None:
    """Write a network as ``weights.safetensors``: half precision, calibrated, nine classes.

    Args:
        model: with one row of the head for each of ``CLASSES``.
        temperature: what logits are divided by; it goes into the head.
        path: the file.
        facts: further metadata, such as the seed.
    """
    names = LabelSet.from_tokens(EMOTION2VEC_TOKENS).names
    state: dict[str, Tensor] = dict(model.state_dict())
    weight, bias = state["context.head.weight"], state["context.head.bias"]
    wide_weight = torch.zeros(len(names), weight.shape[1])
    wide_bias = torch.full((len(names),), -torch.inf)
    for row, name in enumerate(CLASSES):
        wide_weight[names.index(name)] = weight[row] / temperature
        wide_bias[names.index(name)] = bias[row] / temperature
    state |= {"context.head.weight": wide_weight, "context.head.bias": wide_bias}
    sizes = replace(model.sizes, num_classes=len(names))
    # Matrices lose nothing that matters in half precision; variances could.
    halves = {name: value.half() if value.ndim > 1 else value for name, value in state.items()}
    metadata = {"format": COMPACT_FORMAT, "sizes": json.dumps(asdict(sizes)), **facts}
    save_file({name: value.contiguous() for name, value in halves.items()}, path, metadata=metadata)
