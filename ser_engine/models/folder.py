"""Read a model folder as FunASR publishes it: ``config.yaml``, ``tokens.txt``, ``model.pt``.

::

    emotion2vec_plus_base/
    ├── config.yaml          sizes and options
    ├── tokens.txt           one class a line
    ├── model.pt             weights, with or without training state
    └── configuration.json   optional: what the hubs call it
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from ser_engine.errors import CheckpointError
from ser_engine.labels import LabelSet
from ser_engine.models.checkpoint import Checkpoint
from ser_engine.models.config_yaml import read_sizes
from ser_engine.models.weights import read_weights
from ser_engine.types import ModelInfo

__all__ = [
    "CONFIG_FILE",
    "FUNASR_LICENCE",
    "HUB_FILE",
    "TOKENS_FILE",
    "WEIGHTS_FILE",
    "check_folder",
    "is_published_folder",
    "load_folder",
    "model_name",
    "read_labels",
]

CONFIG_FILE = "config.yaml"
TOKENS_FILE = "tokens.txt"
WEIGHTS_FILE = "model.pt"
HUB_FILE = "configuration.json"

FUNASR_LICENCE = (
    "FunASR Model License 1.1, https://github.com/modelscope/FunASR/blob/main/MODEL_LICENSE"
    " (attribution; keep the model's name; for reference and learning)"
)
"""Licence the publisher names for the weights. The folder's files do not repeat it."""

_UNSTATED_LICENCE = "not stated in the model's folder; ask its publisher"


def is_published_folder(folder: Path) -> bool:
    """Return whether the three files of a published model are there."""
    return all((folder / name).is_file() for name in (CONFIG_FILE, TOKENS_FILE, WEIGHTS_FILE))


def load_folder(folder: Path, *, name: str | None = None) -> Checkpoint:
    """Read a published folder. Nothing is written.

    Args:
        folder: where the three files are.
        name: name of the model; None: as its files or its folder call it.

    Raises:
        CheckpointError: the folder or a file is missing, damaged, or of another network.
    """
    check_folder(folder)
    sizes = read_sizes(folder / CONFIG_FILE)
    labels = read_labels(folder / TOKENS_FILE)
    weights = folder / WEIGHTS_FILE
    tensors = read_weights(weights, sizes, labels)
    named = name or model_name(folder)
    with weights.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    info = ModelInfo(
        name=named,
        source=str(folder.resolve()),
        licence=FUNASR_LICENCE if named.startswith("emotion2vec") else _UNSTATED_LICENCE,
        sha256=sha256,
        labels=labels,
        embedding_dim=sizes.embed_dim,
    )
    return Checkpoint(sizes, info, tensors)


def check_folder(folder: Path) -> None:
    """Raise :class:`CheckpointError` unless ``folder`` has all files of a published model."""
    if not folder.is_dir():
        got = "a file" if folder.exists() else "nothing"
        raise CheckpointError(
            f"got {got} at {folder}, expected a folder with {CONFIG_FILE}, {TOKENS_FILE} and"
            f" {WEIGHTS_FILE}; check model.name"
        )
    names = (CONFIG_FILE, TOKENS_FILE, WEIGHTS_FILE)
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise CheckpointError(
            f"got {folder} without {' and '.join(missing)}, expected {', '.join(names)}; fetch the"
            " folder again from its publisher"
        )


def read_labels(path: Path) -> LabelSet:
    """Read a ``tokens.txt``; blank lines at its end do not count.

    Raises:
        CheckpointError: the file is missing, is no text, or names no or repeated classes.
    """
    try:
        tokens = path.read_text(encoding="utf-8-sig").rstrip().split("\n")
        return LabelSet.from_tokens([token.strip() for token in tokens])
    except FileNotFoundError:
        raise CheckpointError(f"got no {path}, expected one class name a line") from None
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"got {path} that cannot be read: {error}; fetch the folder again from its publisher"
        ) from error


def model_name(folder: Path) -> str:
    """Return what ``configuration.json``, the hub's cache or the folder's name calls a model."""
    try:
        facts = json.loads((folder / HUB_FILE).read_text(encoding="utf-8"))
        hubs = facts["model_name_in_hub"]
        named = next((str(hub) for hub in (hubs["ms"], hubs["hf"]) if hub), "")
    except (OSError, ValueError, KeyError, TypeError):
        named = ""
    folder = folder.resolve()
    if not named and folder.parent.name == "snapshots":
        # Hub caches: <organisation>--<name>/snapshots/<revision>.
        named = folder.parent.parent.name.split("--")[-1]
    return named.split("/")[-1] or folder.name
