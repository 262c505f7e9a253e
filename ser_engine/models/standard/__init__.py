"""The standard model: a published speech encoder and a head of our own, in the package."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from ser_engine.models.built_in import BuiltInModel
from ser_engine.models.standard.network import Standard, StandardSizes

STANDARD_WEIGHTS = Path(__file__).resolve().parent / "weights.safetensors"
"""The file in the package."""

STANDARD_FORMAT = "emotion-monitor-standard-1"
"""Changed with the meaning of the file."""

_LICENCE = (
    "CC BY-NC-SA 4.0, https://creativecommons.org/licenses/by-nc-sa/4.0/"
    " (non-commercial; encoder: Whisper base, MIT; trained on EmoDB, RAVDESS, nEMO, ASED, AMI,"
    " LibriSpeech and others, see its model card)"
)

_NOTICE = (
    "Built-in standard model in use: learned emotions from acted speech, non-commercial licence"
    " (CC BY-NC-SA 4.0)."
)


def _build(sizes: StandardSizes, tensors: Mapping[str, Tensor]) -> Standard:
    model = Standard(sizes)
    model.load_state_dict(dict(tensors))
    return model.eval().requires_grad_(False)


STANDARD = BuiltInModel(
    name="standard",
    licence=_LICENCE,
    notice=_NOTICE,
    weights=STANDARD_WEIGHTS,
    file_format=STANDARD_FORMAT,
    sizes=lambda values: StandardSizes(**values),
    build=_build,
    neutral_logits=(-1.09, -1.13, -0.9, -1.34, 2.31, 0.0, -0.81, -1.22, 1.41),
)
