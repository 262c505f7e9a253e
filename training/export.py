"""From a training run to the file that is shipped."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from ser_engine.labels import EMOTION2VEC_TOKENS, LabelSet
from ser_engine.models.compact import COMPACT_FORMAT, Compact, CompactSizes
from ser_engine.models.standard import STANDARD_FORMAT, Standard
from training.clips import CLASSES


def load_run(run: Path) -> Compact:
    """Return the averaged network of a run, in evaluation mode, with the classes it learned."""
    sizes: dict[str, Any] = json.loads((run / "plan.json").read_text())["sizes"]
    for name in ("mel_channels", "pitch_channels"):
        sizes[name] = tuple(sizes[name])
    model = Compact(CompactSizes(**sizes))
    model.load_state_dict(torch.load(run / "average.pt", weights_only=True))
    return model.eval().requires_grad_(False)


@dataclass(frozen=True, slots=True)
class Calibration:
    """How far a model's answers are to be believed; fitted to nothing it was trained on.

    Attributes:
        temperature: what logits are divided by.
        neutral_bias: then added to the logit of neutral.
        abstain_below: confidence below which an emotion is not shown, 0 to 1.
    """

    temperature: float = 1.0
    neutral_bias: float = 0.0
    abstain_below: float = 0.0


def export(
    model: Compact | Standard, calibration: Calibration, path: Path, facts: dict[str, str]
) -> None:
    """Write a network as ``weights.safetensors``: half precision, calibrated, nine classes.

    Temperature and bias go into the head, which is linear.
    """
    names = LabelSet.from_tokens(EMOTION2VEC_TOKENS).names
    standard = isinstance(model, Standard)
    head = "context.head.head" if standard else "context.head"
    state: dict[str, Tensor] = dict(model.state_dict())
    weight, bias = state[f"{head}.weight"], state[f"{head}.bias"]
    wide_weight = torch.zeros(len(names), weight.shape[1])
    wide_bias = torch.full((len(names),), -torch.inf)
    for row, name in enumerate(CLASSES):
        wide_weight[names.index(name)] = weight[row] / calibration.temperature
        wide_bias[names.index(name)] = bias[row] / calibration.temperature
    wide_bias[names.index("neutral")] += calibration.neutral_bias
    state |= {f"{head}.weight": wide_weight, f"{head}.bias": wide_bias}
    sizes = replace(model.sizes, num_classes=len(names))
    # Matrices lose nothing that matters in half precision; variances could.
    halves = {name: value.half() if value.ndim > 1 else value for name, value in state.items()}
    metadata = {
        "format": STANDARD_FORMAT if standard else COMPACT_FORMAT,
        "sizes": json.dumps(asdict(sizes)),
        "temperature": f"{calibration.temperature:.2f}",
        "neutral_bias": f"{calibration.neutral_bias:.2f}",
        "abstain_below": f"{calibration.abstain_below:.2f}",
        **facts,
    }
    save_file({name: value.contiguous() for name, value in halves.items()}, path, metadata=metadata)
