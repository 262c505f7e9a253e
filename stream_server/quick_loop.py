"""The event loop a server runs on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

__all__ = ["quick_loop"]


def quick_loop() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Return what makes uvloop's event loop, which spends less on every message.

    Returns:
        None where uvloop is not installed: asyncio's own loop does the same, slower.
    """
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop
