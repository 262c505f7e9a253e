"""Cutting a recording of any length into forward passes.

Passes overlap; a frame is taken from the pass that holds it with context on both sides::

    pass 0   [============================~~~~~]
    pass 1                      [~~~~~============================~~~~~]
    pass 2                                                [~~~~~=============]
             = frames that are kept, ~ context: heard, not kept

A recording that fits into one pass is one pass.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ser_engine.frames import HOP_SAMPLES, RECEPTIVE_FIELD_SAMPLES, SAMPLE_RATE_HZ
from ser_engine.types import FloatArray, Window, WindowResult

__all__ = ["MAX_CONTEXT_SAMPLES", "Pass", "PassCutter"]

MAX_CONTEXT_SAMPLES = 2 * SAMPLE_RATE_HZ
"""Context on either side of a cut: 2 s, or a quarter of a pass where that is less. The encoder's
positional convolutions reach 0.9 s, and its attention fades with distance."""


@dataclass(frozen=True, slots=True, eq=False)
class Pass:
    """One forward pass.

    Attributes:
        window: its audio.
        keep_from: frames that start at this sample of the recording or later are kept, ...
        keep_to: ... if they start before this one. None: to the end.
    """

    window: Window
    keep_from: int
    keep_to: int | None

    def rows(self, result: WindowResult) -> slice:
        """Return which frames of the pass's result are kept."""
        start, hop = self.window.start_sample, result.hop_samples
        stop = None if self.keep_to is None else (self.keep_to - start) // hop
        return slice((self.keep_from - start) // hop, stop)


class PassCutter:
    """Takes a recording piece by piece; holds back no more than one pass of it.

    Args:
        max_samples: longest pass, at least 1 s.
    """

    def __init__(self, max_samples: int) -> None:
        self._length = max_samples // HOP_SAMPLES * HOP_SAMPLES
        context = min(MAX_CONTEXT_SAMPLES, self._length // 4)
        self._context = context // HOP_SAMPLES * HOP_SAMPLES
        self._held: FloatArray = np.empty(0, dtype=np.float32)
        self._start = 0
        self._keep_from = 0

    @property
    def heard_samples(self) -> int:
        """Samples taken so far."""
        return self._start + len(self._held)

    def push(self, samples: FloatArray) -> list[Pass]:
        """Take ``(samples,)``; return the passes that are complete."""
        self._held = np.concatenate([self._held, samples])
        passes: list[Pass] = []
        while len(self._held) > self._length:
            keep_to = self._start + self._length - self._context
            window = Window(self._held[: self._length].copy(), self._start)
            passes.append(Pass(window, self._keep_from, keep_to))
            advance = self._length - 2 * self._context
            self._held = self._held[advance:]
            self._start += advance
            self._keep_from = keep_to
        return passes

    def finish(self) -> list[Pass]:
        """Return the last pass; none where there was too little audio for a frame."""
        if self.heard_samples < RECEPTIVE_FIELD_SAMPLES:
            return []
        return [Pass(Window(self._held.copy(), self._start), self._keep_from, None)]
