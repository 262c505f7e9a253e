"""Which engine scores: one in this process, or one elsewhere by the scheme of ``model.name``.

For an engine of this process: which model it loads, and whether there is memory for it, which
blocks. What needs torch is imported only there: with workers the other processes have none.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from ser_engine.config import EngineConfig
from ser_engine.core.batcher import Batcher, OnStep
from ser_engine.core.host import ThreadWorker, Worker
from ser_engine.errors import ConfigError, RuntimeUnavailableError
from ser_engine.types import Core
from stream_server.engines import Engine, OpenEngine
from stream_server.engines.group import zmq_engine
from stream_server.engines.ray_pool import ray_engine

if TYPE_CHECKING:
    from ser_engine.models.model import Model

_MEMINFO = Path("/proc/meminfo")
_CGROUP = Path("/sys/fs/cgroup")


def available_bytes(meminfo: Path = _MEMINFO, cgroup: Path = _CGROUP) -> int | None:
    """Return the bytes that can be taken without swapping; None where the system does not tell.

    That is the machine's ``MemAvailable``, or what a container's limit leaves if that is less.
    Files in the page cache count as free: the kernel drops them first.
    """
    found = [free for free in (_machine(meminfo), _container(cgroup)) if free is not None]
    return min(found, default=None)


def _machine(meminfo: Path) -> int | None:
    try:
        lines = meminfo.read_text().splitlines()
        line = next(line for line in lines if line.startswith("MemAvailable:"))
        return int(line.split()[1]) * 1024
    except (OSError, StopIteration, ValueError, IndexError):
        return None


def _container(cgroup: Path) -> int | None:
    try:
        limit = int((cgroup / "memory.max").read_text())
        used = int((cgroup / "memory.current").read_text())
        stat = dict(line.split() for line in (cgroup / "memory.stat").read_text().splitlines())
        return max(0, limit - used + int(stat.get("inactive_file", 0)))
    except (OSError, ValueError):  # "max" stands for no limit.
        return None


def model_to_upgrade_to(config: EngineConfig, in_use: str) -> Model | None:
    """Return the model that is to be fetched while another one is in use.

    With ``model.name: auto`` that is the best published one for the device, unless what is in use
    is at least as good, or ``model.offline`` is on.
    """
    model = config.model
    if model.name != "auto" or model.offline:
        return None
    from ser_engine.models.registry import is_better

    wanted = best_for_device(config)
    return wanted if is_better(wanted.name, than=in_use) else None


def best_for_device(config: EngineConfig) -> Model:
    """Return the published model that suits the device: large on CUDA, base on a CPU."""
    from ser_engine.core.runtimes.select import choose_device
    from ser_engine.models.registry import best_published

    return best_published(on_gpu=choose_device(config.model.device).startswith("cuda"))


EngineMaker = Callable[[], Core]
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
    one with the very same model, whatever is on disk by then.

    Raises:
        SerEngineError: as :func:`ser_engine.models.registry.find_model`.
    """
    from ser_engine.core.factory import engine_from_checkpoint
    from ser_engine.models.registry import find_model

    checkpoint = find_model(config.model)
    return lambda: engine_from_checkpoint(checkpoint, config)


def load_beside_another(config: EngineConfig) -> EngineMaker:
    """Do as :func:`load` unless memory is too short for a second engine.

    Raises:
        RuntimeUnavailableError: it is.
        SerEngineError: as :func:`load`.
    """
    from ser_engine.core.factory import engine_from_checkpoint
    from ser_engine.models.registry import find_model

    checkpoint = find_model(config.model)
    weights_bytes = sum(tensor.nbytes for tensor in checkpoint.tensors.values())
    needed_bytes = MEMORY_TIMES_WEIGHTS * weights_bytes
    free_bytes = available_bytes()
    if free_bytes is not None and free_bytes < needed_bytes:
        raise RuntimeUnavailableError(
            f"got {free_bytes >> 20} MiB of free memory for a second engine with"
            f" {checkpoint.info.name}, expected {needed_bytes >> 20} MiB; restart the server:"
            " the model is on disk now and replaces the first one"
        )
    return lambda: engine_from_checkpoint(checkpoint, config)


def local_engine(
    config: EngineConfig,
    *,
    beside_another: bool = False,
    on_step: OnStep | None = None,
    load: Load = load,
    make_worker: Callable[[], Worker] = ThreadWorker,
) -> Batcher:
    """Return an engine in this process; see :class:`~stream_server.engines.OpenEngine`.

    Args:
        load: reads the model; runs in the worker, once: a lost core is made again with the very
            same model, whatever is on disk by then.
    """
    # Here, and not in the worker's thread while others are served.
    _import_core()
    read = load_beside_another if beside_another else load
    maker: EngineMaker | None = None

    def make_core() -> Core:
        nonlocal maker
        maker = maker or read(config)
        core = maker()
        core.warm_up()
        return core

    return Batcher(make_core, config, make_worker=make_worker, on_step=on_step)


@cache
def _import_core() -> None:
    """Import what scores, and let the garbage collector leave out all that is there by now.

    A pass over it stops the whole process: 150 ms with PyTorch. Once, for what is frozen in a cycle
    is never freed, and a later engine is opened beside one that is to go.
    """
    import ser_engine.core.factory  # noqa: F401

    gc.freeze()


ENGINES: Mapping[str, OpenEngine] = {
    "": local_engine,
    "zmq": zmq_engine,
    "ray": ray_engine,
}
"""Engines by the scheme of ``model.name``, as in ``zmq://host:port``; "" is a plain name."""


def open_engine(config: EngineConfig, *, beside_another: bool, on_step: OnStep | None) -> Engine:
    """Return an engine of the kind ``model.name`` asks for, not yet started.

    Raises:
        ConfigError: no engine goes by its scheme.
    """
    scheme, colon, _ = config.model.name.partition("://")
    kind = ENGINES.get(scheme if colon else "")
    if kind is None:
        known = ", ".join(f"{each}://" for each in ENGINES if each) or "a model's name or folder"
        raise ConfigError(f"got model.name {config.model.name!r}, expected {known}")
    return kind(config, beside_another=beside_another, on_step=on_step)
