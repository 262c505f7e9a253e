"""The compact model's weights: in the package, so that they are always there.

``MODEL_CARD.md`` beside them says what they were trained on, how good they are and what they may
be used for.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import Tensor

from ser_engine.errors import CheckpointError
from ser_engine.labels import LabelSet
from ser_engine.models.compact.network import Compact, CompactSizes
from ser_engine.types import ModelInfo

__all__ = [
    "COMPACT_FORMAT",
    "COMPACT_NAME",
    "COMPACT_TOKENS",
    "COMPACT_WEIGHTS",
    "CompactCheckpoint",
    "build_compact",
    "load_compact",
    "read_compact",
]

COMPACT_NAME = "compact"

COMPACT_WEIGHTS = Path(__file__).resolve().parent / "weights.safetensors"
"""The file in the package."""

COMPACT_FORMAT = "emotion-monitor-compact-2"
"""Changed with the meaning of the file."""

COMPACT_TOKENS = (
    "生气/angry",
    "厌恶/disgusted",
    "恐惧/fearful",
    "开心/happy",
    "中立/neutral",
    "其他/other",
    "难过/sad",
    "吃惊/surprised",
    "<unk>",
)
"""The classes of emotion2vec+, in its order. ``other`` was never learned: its logit is -inf."""

_LICENCE = (
    "CC BY-NC-SA 4.0, https://creativecommons.org/licenses/by-nc-sa/4.0/"
    " (non-commercial; trained on EmoDB, RAVDESS and nEMO)"
)

_NOTICE = (
    "Built-in compact model in use: trained on acted speech, weaker than emotion2vec+,"
    " non-commercial licence (CC BY-NC-SA 4.0)."
)


@dataclass(frozen=True, slots=True)
class CompactCheckpoint:
    """A compact network's sizes, labels and weights.

    Attributes:
        sizes: dimensions of the network.
        info: name, source, licence, hash and labels.
        tensors: float32 weights under the network's own names.
    """

    sizes: CompactSizes
    info: ModelInfo
    tensors: Mapping[str, Tensor]


def load_compact() -> CompactCheckpoint:
    """Return the model that is part of the package.

    Raises:
        CheckpointError: the installation is damaged.
    """
    return read_compact(COMPACT_WEIGHTS)


def read_compact(path: Path) -> CompactCheckpoint:
    """Read a compact model's file.

    Raises:
        CheckpointError: it is missing, damaged or something else.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = dict(file.metadata() or {})
            tensors = {name: file.get_tensor(name).float() for name in file.keys()}
        if metadata.get("format") != COMPACT_FORMAT:
            raise CheckpointError(
                f"got format {metadata.get('format')!r} in {path}, expected {COMPACT_FORMAT!r}"
            )
        values = json.loads(metadata["sizes"])
        for name in ("mel_channels", "pitch_channels"):
            values[name] = tuple(values[name])
        sizes = CompactSizes(**values)
        sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"got {path} that cannot be read as a compact model ({error}); install the package anew"
        ) from error
    info = ModelInfo(
        name=COMPACT_NAME,
        source="built in" if path == COMPACT_WEIGHTS else str(path),
        licence=_LICENCE,
        sha256=sha256,
        labels=LabelSet.from_tokens(COMPACT_TOKENS),
        embedding_dim=sizes.embed_dim,
        notice=_NOTICE,
    )
    return CompactCheckpoint(sizes, info, tensors)


def build_compact(sizes: CompactSizes, tensors: Mapping[str, Tensor]) -> Compact:
    """Make the network in evaluation mode from its weights.

    Raises:
        CheckpointError: the weights do not fit the sizes.
    """
    model = Compact(sizes)
    try:
        model.load_state_dict(dict(tensors))
    except RuntimeError as error:
        raise CheckpointError(f"got weights that do not fit {sizes}: {error}") from error
    model.eval().requires_grad_(False)
    model.context.mel.fuse()
    model.context.pitch.fuse()
    return model
