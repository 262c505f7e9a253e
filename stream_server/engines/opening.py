"""Which engine scores: one in this process, or one elsewhere by the scheme of ``model.name``."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ser_engine.config import EngineConfig
from ser_engine.core.batcher import Batcher, OnStep
from ser_engine.core.engine import Core
from ser_engine.core.host import ThreadWorker, Worker
from ser_engine.errors import ConfigError
from stream_server.engines.engine import Engine, OpenEngine
from stream_server.engines.loading import EngineMaker, Load, load, load_beside_another


def local_engine(
    config: EngineConfig,
    *,
    beside_another: bool = False,
    on_step: OnStep | None = None,
    load: Load = load,
    make_worker: Callable[[], Worker] = ThreadWorker,
) -> Batcher:
    """Return an engine in this process; see :class:`~stream_server.engines.engine.OpenEngine`.

    Args:
        config: settings of model and batches.
        beside_another: see there.
        on_step: see there.
        load: reads the model; runs in the worker, once: a lost core is made again with the very
            same model, whatever is on disk by then.
        make_worker: makes what runs the core.
    """
    read = load_beside_another if beside_another else load
    maker: EngineMaker | None = None

    def make_core() -> Core:
        nonlocal maker
        maker = maker or read(config)
        core = maker()
        core.warm_up()
        return core

    return Batcher(make_core, config, make_worker=make_worker, on_step=on_step)


ENGINES: Mapping[str, OpenEngine] = {
    "": local_engine,
}
"""Engines by the scheme of ``model.name``, as in ``ray://host:port/model``; "" is a plain name."""


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
