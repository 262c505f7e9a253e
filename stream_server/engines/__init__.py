"""Engines while the server runs: opened, shared by streams, replaced by better ones, closed."""

from __future__ import annotations

from stream_server.engines.engine import Engine, EngineLease, EngineSource
from stream_server.engines.pool import EnginePool
from stream_server.engines.status import EngineStatus, PoolStatus, UpgradeState, UpgradeStatus

__all__ = [
    "Engine",
    "EngineLease",
    "EnginePool",
    "EngineSource",
    "EngineStatus",
    "PoolStatus",
    "UpgradeState",
    "UpgradeStatus",
]
