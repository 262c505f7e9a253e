"""Windows of many streams through one blocking core, under asyncio."""

from __future__ import annotations

from ser_engine.core.batcher import Batcher, BatchingStats, OnStep
from ser_engine.core.host import Core
from ser_engine.core.queue import Priority

__all__ = ["Batcher", "BatchingStats", "Core", "OnStep", "Priority"]
