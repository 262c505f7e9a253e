"""Waiting for what other processes and threads do, of which no event tells."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

__all__ = ["until"]

_LOOK_AGAIN_S = 0.01


async def until(condition: Callable[[], object], within_s: float = 120.0) -> None:
    """Look again and again, in wall-clock time, until ``condition`` holds.

    Raises:
        TimeoutError: it did not hold within ``within_s``.
    """
    async with asyncio.timeout(within_s):
        while not condition():  # noqa: ASYNC110 - no event tells of it
            await asyncio.sleep(_LOOK_AGAIN_S)
