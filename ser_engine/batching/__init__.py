"""Windows of many streams through one blocking core, under asyncio."""

from __future__ import annotations

from ser_engine.batching.batcher import Batcher, OnStep
from ser_engine.batching.core_host import Core
from ser_engine.batching.queue import Priority
from ser_engine.batching.stats import BatchingStats

__all__ = ["Batcher", "BatchingStats", "Core", "OnStep", "Priority"]
