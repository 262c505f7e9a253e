"""Every model known by name, and which one the settings mean.

``model.name`` is a folder, a known model or a hub's repository of one, or ``auto``: the first of
:data:`MODELS` that is on this machine.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from ser_engine.config import ModelConfig
from ser_engine.errors import CheckpointError
from ser_engine.models.compact import COMPACT
from ser_engine.models.emotion2vec.model import (
    EMOTION2VEC_PLUS_BASE,
    EMOTION2VEC_PLUS_LARGE,
    EMOTION2VEC_PLUS_SEED,
)
from ser_engine.models.hub import HUB_CLIENTS, HubClient, ProgressCallback, Published, fetch
from ser_engine.models.model import Checkpoint, Model, ModelOnDisk
from ser_engine.models.standard import STANDARD

MODELS: tuple[Model, ...] = (
    EMOTION2VEC_PLUS_LARGE,
    EMOTION2VEC_PLUS_BASE,
    EMOTION2VEC_PLUS_SEED,
    STANDARD,
    COMPACT,
)
"""Best first: the order is the rank by which ``auto`` chooses. The last one is always there."""

_log = logging.getLogger(__name__)


def model_named(name: str) -> Model | None:
    """Return the known model that a name, or a hub's repository, stands for."""
    for model in MODELS:
        repositories = model.published.repositories.values() if model.published else ()
        if name == model.name or name in repositories:
            return model
    return None


def published_named(name: str) -> Published | None:
    """Return where the hubs have the known model of this name or repository, if they do."""
    model = model_named(name)
    return None if model is None else model.published


def published_names() -> tuple[str, ...]:
    """Return the names of the models that can be fetched, best first."""
    return tuple(model.name for model in MODELS if model.published)


def best_published(*, on_gpu: bool) -> Model:
    """Return the best model that can be fetched and suits the device."""
    return next(model for model in MODELS if model.published and (on_gpu or not model.for_gpu))


def is_better(name: str, than: str) -> bool:
    """Return whether a known model ranks before another one. A model that is not known is best."""
    ranks = {model.name: rank for rank, model in enumerate(MODELS)}
    return ranks[name] < ranks.get(than, -1)


def find_model(
    config: ModelConfig,
    *,
    progress: ProgressCallback | None = None,
    clients: Sequence[HubClient] = HUB_CLIENTS,
) -> Checkpoint:
    """Return the model ``config.name`` stands for.

    A folder is read as it is. A known model is looked for on disk, then asked of a hub unless
    ``config.offline``. ``auto`` never asks a hub: fetching a better model in the background is the
    caller's decision (:func:`fetch_model`).

    Raises:
        CheckpointError: there is no such model, or what is there cannot be used.
        HubUnavailableError: the model is not on disk and no hub gave it.
    """
    if config.name == "auto":
        return _best_on_disk(config, clients)
    model = model_named(config.name)
    folder = Path(config.name).expanduser()
    # A folder that happens to be called as a built-in model is not what its name stands for.
    if folder.exists() and (model is None or model.published is not None):
        return _in_folder(folder).load(folder, config)
    if model is None:
        raise CheckpointError(
            f"got model.name {config.name!r}, which is no folder on this machine; expected a"
            f" model's folder, auto, or one of {', '.join(each.name for each in MODELS)}"
        )
    for place in model.places(config, clients):
        return model.load(place, config)
    if config.offline:
        raise CheckpointError(
            f"got no {model.name} on disk with model.offline on (looked in {config.models_dir} and"
            f" the hubs' caches); copy the model's folder to"
            f" {Path(config.models_dir).expanduser() / model.name} or turn model.offline off"
        )
    return fetch_model(model, config, progress=progress, clients=clients)


def fetch_model(
    model: Model,
    config: ModelConfig,
    *,
    progress: ProgressCallback | None = None,
    clients: Sequence[HubClient] = HUB_CLIENTS,
) -> Checkpoint:
    """Fetch a known model from a hub into ``config.models_dir`` and return it.

    Raises:
        CheckpointError: ``config.offline`` is on, no hub has it, or it cannot be used.
        HubUnavailableError: no hub gave it.
    """
    if config.offline:
        raise CheckpointError(f"got model.offline on, expected it off to fetch {model.name}")
    if model.published is None:
        raise CheckpointError(
            f"{model.name} is missing from the installed package; install it again"
        )
    folder = fetch(
        model.published,
        Path(config.models_dir).expanduser(),
        hub=config.hub,
        timeout_s=config.hub_timeout_s,
        progress=progress,
        clients=clients,
    )
    return model.load(folder, config)


def model_to_fetch(config: ModelConfig, clients: Sequence[HubClient] = HUB_CLIENTS) -> Model | None:
    """Return the known model :func:`find_model` would ask a hub for; None if it would ask none."""
    if config.offline or Path(config.name).expanduser().exists():
        return None
    model = model_named(config.name)
    if model is None or model.published is None or model.places(config, clients):
        return None
    return model


def inventory(
    config: ModelConfig, clients: Sequence[HubClient] = HUB_CLIENTS
) -> tuple[ModelOnDisk, ...]:
    """Return the known models on this machine, each in every place, in the order of rank."""
    return tuple(
        model.describe(place, config) for model in MODELS for place in model.places(config, clients)
    )


def model_in_folder(folder: Path, config: ModelConfig) -> ModelOnDisk:
    """Return what a folder that is named by its path holds. Raises CheckpointError: no model."""
    return _in_folder(folder).describe(folder, config)


def check_model(found: ModelOnDisk, config: ModelConfig) -> Checkpoint:
    """Read a model whole and return it. Raises CheckpointError: it is damaged."""
    model = model_named(found.name) or _in_folder(found.folder)
    return model.check(found.folder, config)


def _in_folder(folder: Path) -> Model:
    faults: list[CheckpointError] = []
    for model in MODELS:
        try:
            return model.in_folder(folder)
        except CheckpointError as error:
            faults.append(error)
    # What the best model misses in the folder tells most.
    raise faults[0]


def _best_on_disk(config: ModelConfig, clients: Sequence[HubClient]) -> Checkpoint:
    found = [(model, place) for model in MODELS for place in model.places(config, clients)]
    for model, place in found[:-1]:
        try:
            return model.load(place, config)
        except CheckpointError as error:
            _log.warning("model %s is passed over: %s", model.name, error)
    model, place = found[-1]
    return model.load(place, config)
