"""The compact model: a megabyte, trained on acted speech, so that everything works at once."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from ser_engine.models.built_in import BuiltInModel
from ser_engine.models.compact.network import Compact, CompactSizes

COMPACT_WEIGHTS = Path(__file__).resolve().parent / "weights.safetensors"
"""The file in the package."""

COMPACT_FORMAT = "emotion-monitor-compact-2"
"""Changed with the meaning of the file."""

_LICENCE = (
    "CC BY-NC-SA 4.0, https://creativecommons.org/licenses/by-nc-sa/4.0/"
    " (non-commercial; trained on EmoDB, RAVDESS, nEMO, ASED, AMI, LibriSpeech and others, see its"
    " model card)"
)

_NOTICE = (
    "Built-in compact model in use: trained on acted speech, weaker than emotion2vec+,"
    " non-commercial licence (CC BY-NC-SA 4.0)."
)


def _sizes(values: dict[str, Any]) -> CompactSizes:
    for name in ("mel_channels", "pitch_channels"):
        values[name] = tuple(values[name])
    return CompactSizes(**values)


def _build(sizes: CompactSizes, tensors: Mapping[str, Tensor]) -> Compact:
    model = Compact(sizes)
    model.load_state_dict(dict(tensors))
    model.eval().requires_grad_(False)
    model.context.mel.fuse()
    model.context.pitch.fuse()
    return model


COMPACT = BuiltInModel(
    name="compact",
    licence=_LICENCE,
    notice=_NOTICE,
    weights=COMPACT_WEIGHTS,
    file_format=COMPACT_FORMAT,
    sizes=_sizes,
    build=_build,
    neutral_logits=(-0.98, -1.21, -0.89, -0.5, 3.02, 0.0, -0.43, -1.42, 0.7),
)
