"""Where a long recording is cut into segments: in its pauses.

::

    speech   ████████ ███████  ████   ██████████ ███  ███████████████████████ ████ ███████
    range             [ min ......... max )
    cut                              |                 the longest pause of the range
    range                                        [ min ......... max )       none: at max

A detector says that speech lasts for some time after its last cell; what lies in that time counts
as a part of the pause.

A segment is scored by a forward pass of its own. Cuts lie between cells, and a window reads the 80
samples after its last cell, so that every frame of the recording is in exactly one segment.
A recording that fits into one pass is one segment: its result is the model's own.

Cutting a recording of any length into forward passes.

Passes overlap; a frame is taken from the pass that holds it with context on both sides::

    pass 0   [============================~~~~~]
    pass 1                      [~~~~~============================~~~~~]
    pass 2                                                [~~~~~=============]
             = frames that are kept, ~ context: heard, not kept

A recording that fits into one pass is one pass.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ser_engine.config import OfflineConfig
from ser_engine.errors import WindowError
from ser_engine.frames import (
    HOP_SAMPLES,
    RECEPTIVE_FIELD_SAMPLES,
    SAMPLE_RATE_HZ,
    ms_to_samples,
)
from ser_engine.types import FloatArray, Window, WindowResult

Outcome = WindowResult | WindowError


@dataclass(frozen=True, slots=True, eq=False)
class Ask:
    """A window, and who is told what the engine says of it."""

    window: Window
    deliver: Callable[[Outcome], None]


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


READ_ON_SAMPLES = RECEPTIVE_FIELD_SAMPLES - HOP_SAMPLES
"""What the last frame of a segment reads of the next one."""


@dataclass(frozen=True, slots=True)
class Span:
    """A segment of a recording.

    Attributes:
        start_sample: a multiple of 320.
        end_sample: not included; a multiple of 320, or where the recording ends.
        has_speech: whether the detector heard any.
    """

    start_sample: int
    end_sample: int
    has_speech: bool


class SegmentCutter:
    """Decides on cuts from sample counts and speech flags; holds the flags of some 30 s.

    Args:
        config: lengths.
        hangover_ms: how long speech lasts after its last cell, as the flags have it.
    """

    def __init__(self, config: OfflineConfig, *, hangover_ms: int) -> None:
        self._hangover_cells = ms_to_samples(hangover_ms) // HOP_SAMPLES
        longest_pass = int(config.max_pass_s * SAMPLE_RATE_HZ)
        self._one_pass = longest_pass // HOP_SAMPLES * HOP_SAMPLES
        longest = min(int(config.segment_max_s * SAMPLE_RATE_HZ), longest_pass - READ_ON_SAMPLES)
        self._max_cells = longest // HOP_SAMPLES
        shortest_cells = int(config.segment_min_s * SAMPLE_RATE_HZ) // HOP_SAMPLES
        self._min_cells = min(shortest_cells, self._max_cells // 2)
        # With so much beyond it a cut leaves no rest that would be too short for a segment.
        both = (self._min_cells + self._max_cells) * HOP_SAMPLES
        self._hold_samples = max(self._one_pass, both)
        self._heard = 0
        self._start = 0
        self._flags: list[bool] = []

    @property
    def start_sample(self) -> int:
        """Where the segment begins that comes next: audio before it is not needed any more."""
        return self._start

    def push(self, num_samples: int, flags: list[bool]) -> list[Span]:
        """Take what was heard; return the segments that are certain now.

        Args:
            num_samples: how much.
            flags: whether there is speech in each 320-sample cell that became whole.
        """
        self._heard += num_samples
        self._flags += flags
        spans: list[Span] = []
        while self._heard - self._start > self._hold_samples:
            spans.append(self._cut(self._max_cells))
        return spans

    def finish(self) -> list[Span]:
        """Return the segments of what is left; none where nothing was heard."""
        spans: list[Span] = []
        if self._start or self._heard > self._one_pass:
            while (left := self._heard - self._start) > self._max_cells * HOP_SAMPLES:
                most = min(self._max_cells, left // HOP_SAMPLES - self._min_cells)
                spans.append(self._cut(max(most, self._min_cells)))
        if self._heard > self._start:
            has_speech = any(self._flags) or not self._flags
            spans.append(Span(self._start, self._heard, has_speech))
            self._start = self._heard
            self._flags = []
        return spans

    def _cut(self, max_cells: int) -> Span:
        cells = max_cells
        pause = self._longest_pause(max_cells)
        if pause is not None:
            begin, end = pause
            cells = max((begin - self._hangover_cells + end + 1) // 2, self._min_cells)
            # What follows is silence, not the speech before the cut.
            self._flags[cells:begin] = [False] * max(begin - cells, 0)
        flags, self._flags = self._flags[:cells], self._flags[cells:]
        start, self._start = self._start, self._start + cells * HOP_SAMPLES
        return Span(start, self._start, any(flags))

    def _longest_pause(self, max_cells: int) -> tuple[int, int] | None:
        """Return from where to where it lasts in the range; of equal ones the latest."""
        best: tuple[int, int] | None = None
        begin = self._min_cells
        for cell in range(self._min_cells, max_cells + 1):
            if cell < max_cells and not self._flags[cell]:
                continue
            length = cell - begin
            if length and (best is None or length >= best[1] - best[0]):
                best = (begin, cell)
            begin = cell + 1
        return best
