"""The models on this machine: what there is without reading it, and whether it can be relied on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import torch

from ser_engine.config import ModelConfig
from ser_engine.errors import CheckpointError
from ser_engine.models.checkpoint import Checkpoint
from ser_engine.models.compact.shipped import (
    COMPACT_NAME,
    COMPACT_WEIGHTS,
    CompactCheckpoint,
    load_compact,
)
from ser_engine.models.find import model_places
from ser_engine.models.folder import (
    FUNASR_LICENCE,
    WEIGHTS_FILE,
    is_published_folder,
    load_folder,
    model_name,
)
from ser_engine.models.hub import HUB_CLIENTS
from ser_engine.models.hub_clients import MODEL_NAMES, HubClient
from ser_engine.models.prepared import (
    PREPARED_FILE,
    load_prepared,
    prepared_file,
    read_prepared_info,
)

__all__ = ["Form", "ModelOnDisk", "check_model", "inventory", "model_in_folder"]


class Form(StrEnum):
    """How a model is kept."""

    BUILT_IN = "built in"
    """Part of the package."""
    PUBLISHED = "published"
    """A folder as the hubs give it."""
    PREPARED = "prepared"
    """What a start has made of such a folder."""


@dataclass(frozen=True, slots=True)
class ModelOnDisk:
    """A model in one place.

    Attributes:
        name: e.g. ``emotion2vec_plus_base``.
        form: how it is kept.
        folder: where it is.
        size_bytes: of its weight file.
        licence: of its weights.
        sha256: of the weight file as published, hex; "": not known before it is first read.
    """

    name: str
    form: Form
    folder: Path
    size_bytes: int
    licence: str
    sha256: str


def inventory(
    config: ModelConfig, clients: Sequence[HubClient] = HUB_CLIENTS
) -> tuple[ModelOnDisk, ...]:
    """Return the known models on this machine, each in every place, in the order ``auto`` prefers.

    Args:
        config: where models are kept.
        clients: the hubs whose caches are looked into.
    """
    found = [
        _in_folder(name, place, config)
        for name in MODEL_NAMES
        for place in model_places(name, config, clients)
    ]
    compact = load_compact().info
    size_bytes = COMPACT_WEIGHTS.stat().st_size
    built_in = ModelOnDisk(
        COMPACT_NAME,
        Form.BUILT_IN,
        COMPACT_WEIGHTS.parent,
        size_bytes,
        compact.licence,
        compact.sha256,
    )
    return (*found, built_in)


def model_in_folder(folder: Path, config: ModelConfig) -> ModelOnDisk:
    """Return what a folder that is named by its path holds.

    Raises:
        CheckpointError: no model.
    """
    if not is_published_folder(folder) and not (folder / PREPARED_FILE).is_file():
        raise CheckpointError(f"got {folder}, expected a model's folder with {WEIGHTS_FILE} in it")
    return _in_folder(None, folder, config)


def check_model(model: ModelOnDisk, config: ModelConfig) -> Checkpoint | CompactCheckpoint:
    """Read a model whole and return it.

    Of a published folder every needed byte is read and hashed, and what was prepared from it is
    compared with it.

    Raises:
        CheckpointError: it is damaged.
    """
    if model.form is Form.BUILT_IN:
        return load_compact()
    if model.form is Form.PREPARED:
        prepared = load_prepared(model.folder / PREPARED_FILE)
        _check_numbers(prepared, model.folder)
        return prepared
    published = load_folder(model.folder, name=model.name)
    _check_numbers(published, model.folder)
    kept = _prepared_of(model.folder, model.name, config)
    if kept.is_file():
        prepared = load_prepared(kept)
        same = prepared.info.sha256 == published.info.sha256 and all(
            torch.equal(tensor, prepared.tensors[name])
            for name, tensor in published.tensors.items()
        )
        if not same:
            raise CheckpointError(
                f"got {kept} that differs from {model.folder}, expected what was prepared from it;"
                " remove the file, it is made anew"
            )
    return published


def _check_numbers(checkpoint: Checkpoint, folder: Path) -> None:
    for name, tensor in checkpoint.tensors.items():
        if not bool(torch.isfinite(tensor).all()):
            raise CheckpointError(
                f"got {folder} with values in {name} that are not numbers; remove the folder and"
                " fetch it again"
            )


def _in_folder(name: str | None, folder: Path, config: ModelConfig) -> ModelOnDisk:
    published = is_published_folder(folder)
    weights = folder / (WEIGHTS_FILE if published else PREPARED_FILE)
    named = name or (model_name(folder) if published else folder.name)
    licence = FUNASR_LICENCE if named.startswith("emotion2vec") else ""
    sha256 = ""
    try:
        info = read_prepared_info(_prepared_of(folder, named, config) if published else weights)
        named, licence, sha256 = name or info.name, info.licence, info.sha256
    except (CheckpointError, OSError):
        pass  # Not read yet, or damaged, which a check tells.
    form = Form.PUBLISHED if published else Form.PREPARED
    return ModelOnDisk(named, form, folder, weights.stat().st_size, licence, sha256)


def _prepared_of(folder: Path, name: str, config: ModelConfig) -> Path:
    return prepared_file(folder, Path(config.models_dir).expanduser() / "prepared", name)
