"""Which published model suits this machine, and whether one is to take the place of another."""

from __future__ import annotations

from ser_engine.config import EngineConfig
from ser_engine.models.hub_clients import MODEL_NAMES
from ser_engine.runtimes.select import choose_device

__all__ = ["best_published", "model_to_upgrade_to"]


def model_to_upgrade_to(config: EngineConfig, in_use: str) -> str | None:
    """Return the model that is to be fetched while another one is in use.

    With ``model.name: auto`` that is emotion2vec+ large on CUDA and base on a CPU, unless what is
    in use is at least as good, or ``model.offline`` is on.

    Args:
        config: the engine's settings.
        in_use: name of the model in use.
    """
    model = config.model
    if model.name != "auto" or model.offline:
        return None
    wanted = best_published(config)
    better = MODEL_NAMES[: MODEL_NAMES.index(wanted) + 1]
    return None if in_use in better else wanted


def best_published(config: EngineConfig) -> str:
    """Return the published model that suits the device: large on CUDA, base on a CPU."""
    large, base, _ = MODEL_NAMES
    return large if choose_device(config.model.device).startswith("cuda") else base
