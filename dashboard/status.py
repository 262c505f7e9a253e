"""How a live stream is doing."""

from __future__ import annotations

import msgspec

__all__ = ["StreamStatus"]


class StreamStatus(msgspec.Struct, frozen=True, kw_only=True):
    """How a live stream is doing; fields as in ``heartbeat``."""

    received_s: float
    published_s: float
    lag_ms: float
    real_time_factor: float
    effective_step_ms: float
