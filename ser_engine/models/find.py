"""Find the model the settings name: a folder, a known model, the one in the package, or the best.

A known model is looked for in this order, and asked of a hub only when it is nowhere::

    <models_dir>/<name>            fetched or put there by hand
    caches of the hubs' clients    fetched earlier by FunASR, for instance
    <models_dir>/prepared/<name>-* left over when the above was removed to save space
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from ser_engine.config import ModelConfig
from ser_engine.errors import CheckpointError
from ser_engine.models.checkpoint import Checkpoint
from ser_engine.models.compact.shipped import COMPACT_NAME, CompactCheckpoint, load_compact
from ser_engine.models.folder import is_published_folder
from ser_engine.models.hub import HUB_CLIENTS, ProgressCallback, fetch
from ser_engine.models.hub_clients import MODEL_NAMES, HubClient
from ser_engine.models.prepared import is_prepared_folder, load_model, prepared_folders

__all__ = [
    "fetch_model",
    "find_model",
    "known_model",
    "model_places",
    "model_to_fetch",
    "models_on_disk",
]

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
