"""How the pool comes by a model and by an engine for it. Everything here blocks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from ser_engine.config import EngineConfig
from ser_engine.engine import Engine
from ser_engine.errors import RuntimeUnavailableError
from ser_engine.factory import engine_from_checkpoint
from ser_engine.models.compact.shipped import CompactCheckpoint
from ser_engine.models.find import find_model
from stream_server.engines.memory import available_bytes

__all__ = ["EngineMaker", "Load", "load", "load_beside_another"]

EngineMaker = Callable[[], Engine]
"""Makes an engine for one model, not yet warmed up; again, when the first one is lost."""

Load = Callable[[EngineConfig], EngineMaker]
"""Reads the model the settings name."""

MEMORY_TIMES_WEIGHTS = 4
"""Memory a second engine may take at the height of its making, in sizes of its float32 weights.
Measured with the network of emotion2vec base on a CPU, mapped files left out: 3.5 with OpenVINO
the first time, when the graph is converted, 2.2 later, 1.3 with PyTorch."""


def load(config: EngineConfig) -> EngineMaker:
    """Read the model the settings name from disk.

    The weights stay mapped for as long as the maker lives, so that a lost engine is replaced by
    one with the very same model, whatever is on disk by then. Where ``auto`` comes to the
    built-in compact model, that is executed by PyTorch, whatever ``model.runtime`` says.

    Raises:
        SerEngineError: as :func:`ser_engine.models.find.find_model`.
    """
    checkpoint = find_model(config.model)
    if config.model.name == "auto" and isinstance(checkpoint, CompactCheckpoint):
        # The settings' runtime is meant for the model that compact stands in for.
        config = replace(config, model=replace(config.model, runtime="auto"))
    return lambda: engine_from_checkpoint(checkpoint, config)


def load_beside_another(config: EngineConfig) -> EngineMaker:
    """Do as :func:`load` unless memory is too short for a second engine.

    Raises:
        RuntimeUnavailableError: it is.
        SerEngineError: as :func:`load`.
    """
    checkpoint = find_model(config.model)
    weights_bytes = sum(tensor.nbytes for tensor in checkpoint.tensors.values())
    needed_bytes = MEMORY_TIMES_WEIGHTS * weights_bytes
    free_bytes = available_bytes()
    if free_bytes is not None and free_bytes < needed_bytes:
        raise RuntimeUnavailableError(
            f"got {free_bytes >> 20} MiB of free memory for a second engine with"
            f" {checkpoint.info.name}, expected {needed_bytes >> 20} MiB; start the server anew:"
            " the model is on disk and will be the first one"
        )
    return lambda: engine_from_checkpoint(checkpoint, config)
