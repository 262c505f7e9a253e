"""What is told of the engines: to the operator, the dashboard and the metrics."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from ser_engine.core.batcher import BatchingStats
from ser_engine.types import ModelInfo


class UpgradeState(StrEnum):
    """How far the pool is with a model that has to be fetched."""

    IDLE = "idle"
    """Nothing is to be fetched."""
    FETCHING = "fetching"
    """A hub is asked or sends."""
    WARMING = "warming"
    """It is on disk; its engine is made."""
    READY = "ready"
    """New streams use it."""
    FAILED = "failed"
    """It could not be had; ``reason`` says why."""


@dataclass(frozen=True, slots=True)
class UpgradeStatus:
    """A model that is fetched while the server runs.

    Attributes:
        model: its name, or "".
        licence: the licence its publisher names, or "".
        hub: name of the hub that sends, or "".
        total_bytes: bytes there are; None: not known yet.
        reason: why it failed, or "".
    """

    state: UpgradeState = UpgradeState.IDLE
    model: str = ""
    licence: str = ""
    hub: str = ""
    done_bytes: int = 0
    total_bytes: int | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class EngineStatus:
    """One engine of the pool.

    Attributes:
        runtime: how that is executed, e.g. ``openvino fp32``.
        takes_new_streams: whether it is the one new streams use.
        num_pending: windows that wait for it.
        stats: what it has done; goes on counting.
    """

    info: ModelInfo
    runtime: str
    takes_new_streams: bool
    num_streams: int
    is_alive: bool
    num_pending: int
    stats: BatchingStats


@dataclass(frozen=True, slots=True)
class PoolStatus:
    """All engines, the one new streams use first.

    Attributes:
        is_ready: whether a new stream would be scored.
        engines: those that are open.
        upgrade: a model that is fetched, or was.
    """

    is_ready: bool
    engines: tuple[EngineStatus, ...]
    upgrade: UpgradeStatus
