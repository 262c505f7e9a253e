"""Find the model the settings name: a folder, a known model, the one in the package, or the best.

A known model is looked for in this order, and asked of a hub only when it is nowhere::

    <models_dir>/<name>            fetched or put there by hand
    caches of the hubs' clients    fetched earlier by FunASR, for instance
    <models_dir>/prepared/<name>-* left over when the above was removed to save space

The models on this machine: what there is without reading it, and whether it can be relied on.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import torch

from ser_engine.config import ModelConfig
from ser_engine.errors import CheckpointError
from ser_engine.models.compact.shipped import (
    COMPACT_NAME,
    COMPACT_WEIGHTS,
    CompactCheckpoint,
    load_compact,
)
from ser_engine.models.emotion2vec.checkpoint import Checkpoint
from ser_engine.models.emotion2vec.folder import (
    FUNASR_LICENCE,
    WEIGHTS_FILE,
    is_published_folder,
    load_folder,
    model_name,
)
from ser_engine.models.emotion2vec.prepared import (
    PREPARED_FILE,
    is_prepared_folder,
    load_model,
    load_prepared,
    prepared_file,
    prepared_folders,
    read_prepared_info,
)
from ser_engine.models.hub import HUB_CLIENTS, MODEL_NAMES, HubClient, ProgressCallback, fetch


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


_log = logging.getLogger(__name__)


def find_model(
    config: ModelConfig,
    *,
    progress: ProgressCallback | None = None,
    clients: Sequence[HubClient] = HUB_CLIENTS,
) -> Checkpoint | CompactCheckpoint:
    """Return the model ``config.name`` stands for.

    A folder is read as it is. A known name is looked for on disk, then asked of a hub unless
    ``config.offline``. ``auto`` takes the best of the known models on disk, else ``compact``, which
    is part of the package; it never asks a hub: fetching a better one in the background is the
    caller's decision (:func:`fetch_model`).

    Args:
        config: name, folders and hub.
        progress: told how far a download has come.
        clients: the hubs there are.

    Raises:
        CheckpointError: there is no such model, or what is there cannot be used.
        HubUnavailableError: the model is not on disk and no hub gave it.
    """
    prepared_dir = _prepared_dir(config)
    if config.name == "auto":
        return _best_on_disk(config, clients)
    if config.name == COMPACT_NAME:
        return load_compact()
    folder = Path(config.name).expanduser()
    if folder.exists():
        return load_model(folder, prepared_dir)
    name = known_model(config.name, clients)
    if name is None:
        raise CheckpointError(
            f"got model.name {config.name!r}, which is no folder on this machine; expected a"
            f" model's folder, auto, {COMPACT_NAME}, or one of {', '.join(MODEL_NAMES)}"
        )
    places = _places(name, config, clients)
    for place in places:
        if _holds_model(place):
            return load_model(place, prepared_dir, name=name)
    if config.offline:
        raise CheckpointError(
            f"got no {name} on disk with model.offline on (looked in {_listed(places)}); copy the"
            f" model's folder to {places[0]} or turn model.offline off"
        )
    return fetch_model(name, config, progress=progress, clients=clients)


def fetch_model(
    name: str,
    config: ModelConfig,
    *,
    progress: ProgressCallback | None = None,
    clients: Sequence[HubClient] = HUB_CLIENTS,
) -> Checkpoint:
    """Fetch a known model from a hub into ``config.models_dir`` and return it.

    Raises:
        CheckpointError: ``config.offline`` is on, or what was fetched cannot be used.
        HubUnavailableError: no hub gave it.
    """
    if config.offline:
        raise CheckpointError(f"got model.offline on, expected it off to fetch {name}")
    folder = fetch(
        name,
        Path(config.models_dir).expanduser(),
        hub=config.hub,
        timeout_s=config.hub_timeout_s,
        progress=progress,
        clients=clients,
    )
    return load_model(folder, _prepared_dir(config), name=name)


def models_on_disk(
    config: ModelConfig, clients: Sequence[HubClient] = HUB_CLIENTS
) -> tuple[str, ...]:
    """Return the known models that need no download, best first."""
    return tuple(name for name in MODEL_NAMES if model_places(name, config, clients))


def model_places(
    name: str, config: ModelConfig, clients: Sequence[HubClient] = HUB_CLIENTS
) -> tuple[Path, ...]:
    """Return the folders that hold a known model, in the order they are looked at."""
    return tuple(place for place in _places(name, config, clients) if _holds_model(place))


def model_to_fetch(config: ModelConfig, clients: Sequence[HubClient] = HUB_CLIENTS) -> str | None:
    """Return the known model :func:`find_model` would ask a hub for; None if it would ask none."""
    if config.offline or Path(config.name).expanduser().exists():
        return None
    name = known_model(config.name, clients)
    return name if name is not None and not model_places(name, config, clients) else None


def _best_on_disk(
    config: ModelConfig, clients: Sequence[HubClient]
) -> Checkpoint | CompactCheckpoint:
    for name in MODEL_NAMES:
        for place in _places(name, config, clients):
            if not _holds_model(place):
                continue
            try:
                return load_model(place, _prepared_dir(config), name=name)
            except CheckpointError as error:
                _log.warning("model %s is passed over: %s", name, error)
    return load_compact()


def _places(name: str, config: ModelConfig, clients: Sequence[HubClient]) -> list[Path]:
    places = [Path(config.models_dir).expanduser() / name]
    for client in clients:
        try:
            places += client.cached_folders(client.repo_id(name))
        except ImportError:
            continue
    return places + prepared_folders(_prepared_dir(config), name)


def _holds_model(folder: Path) -> bool:
    return is_published_folder(folder) or is_prepared_folder(folder)


def known_model(name: str, clients: Sequence[HubClient] = HUB_CLIENTS) -> str | None:
    """Return the published model that ``name``, or a repository of a hub, stands for, if any."""
    for known in MODEL_NAMES:
        if name == known or name in (client.repo_id(known) for client in clients):
            return known
    return None


def _prepared_dir(config: ModelConfig) -> Path:
    return Path(config.models_dir).expanduser() / "prepared"


def _listed(places: Sequence[Path]) -> str:
    return ", ".join(dict.fromkeys(str(place.parent) for place in places))
