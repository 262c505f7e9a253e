"""What makes a window impossible to score."""

from __future__ import annotations

import numpy as np

from ser_engine.errors import WindowError
from ser_engine.frames import RECEPTIVE_FIELD_SAMPLES
from ser_engine.types import Window

__all__ = ["window_fault"]


def window_fault(window: Window) -> WindowError | None:
    """Return what is wrong with a window, or None."""
    samples = window.samples
    if samples.dtype != np.float32 or samples.ndim != 1:
        return WindowError(
            f"got samples of type {samples.dtype} and shape {samples.shape}, expected float32"
            " (samples,): scale integers to ±1 and split channels"
        )
    if len(samples) < RECEPTIVE_FIELD_SAMPLES:
        return WindowError(
            f"got a window of {len(samples)} samples, expected at least"
            f" {RECEPTIVE_FIELD_SAMPLES} (25 ms)"
        )
    if not np.isfinite(samples).all():
        return WindowError("got a window with NaN or infinite samples, expected finite ones")
    return None
