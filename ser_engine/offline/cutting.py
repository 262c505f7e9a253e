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
"""

from __future__ import annotations

from dataclasses import dataclass

from ser_engine.config import OfflineConfig
from ser_engine.frames import (
    HOP_SAMPLES,
    RECEPTIVE_FIELD_SAMPLES,
    SAMPLE_RATE_HZ,
    ms_to_samples,
)

__all__ = ["READ_ON_SAMPLES", "SegmentCutter", "Span"]

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
