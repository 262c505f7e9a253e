"""How a recording of any length is cut into forward passes.

Frames come from passes that overlap: each frame is kept from the pass that has context on both
sides of it. ``=`` are the frames that are kept, ``~`` is context that is scored and dropped::

    pass 0   [============================~~~~~]
    pass 1                      [~~~~~============================~~~~~]
    pass 2                                                [~~~~~=============]

A result for the whole needs no overlap. It comes from pieces that are cut in pauses and take one
pass each::

    speech   ████████ ███████  ████   ██████████ ███  ███████████████████████ ████ ███████
    range             [ min ......... max )
    cut                              |                 the longest pause of the range
    range                                        [ min ......... max )       no pause: at max

Both cut between slots of 320 samples. A frame reads 400 samples, so a window goes on for 80 more
than the slots it is for; then every frame of the recording is in exactly one piece. A recording
that fits into one pass is one pass or piece, and its result is the model's own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
from ser_engine.timeline.slots import SPEECH, add_states
from ser_engine.types import FloatArray, Window, WindowResult

MAX_CONTEXT_SAMPLES = 2 * SAMPLE_RATE_HZ
"""Context on either side of a cut: 2 s, or a quarter of a pass where that is less. The encoder's
positional convolutions reach 0.9 s, and its attention fades with distance."""
READ_ON_SAMPLES = RECEPTIVE_FIELD_SAMPLES - HOP_SAMPLES
"""What the last frame of a piece reads of the next one."""

Outcome = WindowResult | WindowError


@dataclass(frozen=True, slots=True, eq=False)
class WindowRequest:
    """A window to be scored, and the function that takes its outcome."""

    window: Window
    deliver: Callable[[Outcome], None]


@dataclass(frozen=True, slots=True, eq=False)
class Pass:
    """One of the passes that overlap.

    Attributes:
        window: its audio, a copy.
        keep_from: first sample of the recording whose frame is kept.
        keep_to: first sample after it whose frame is not; None: kept to the end.
    """

    window: Window
    keep_from: int
    keep_to: int | None

    def rows(self, result: WindowResult) -> slice:
        start, hop = self.window.start_sample, result.hop_samples
        stop = None if self.keep_to is None else (self.keep_to - start) // hop
        return slice((self.keep_from - start) // hop, stop)


class PassCutter:
    """Cuts passes that overlap; holds no more than one pass of audio.

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
        return self._start + len(self._held)

    def push(self, samples: FloatArray) -> list[Pass]:
        """Take ``(samples,)``; return the passes that are complete."""
        self._held = np.concatenate([self._held, samples])
        passes: list[Pass] = []
        # Not at exactly one pass: a recording that ends there must stay one pass without context.
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
        """Return the last pass, or no pass if the recording is too short for a frame."""
        if self.heard_samples < RECEPTIVE_FIELD_SAMPLES:
            return []
        return [Pass(Window(self._held.copy(), self._start), self._keep_from, None)]


@dataclass(frozen=True, slots=True)
class PieceSpan:
    """Where a piece lies in the recording.

    Attributes:
        start_sample: a multiple of 320.
        end_sample: not included; a multiple of 320, or where the recording ends.
        has_speech: whether any of its slots holds speech.
    """

    start_sample: int
    end_sample: int
    has_speech: bool


class PieceCutter:
    """Cuts pieces in pauses, from sample counts and slots' states; holds those of some 30 s.

    Args:
        config: ``segment_min_s``, ``segment_max_s`` and ``max_pass_s``.
        hangover_ms: how long the states say speech after it has ended. That time counts as a part
            of the pause that follows.
    """

    def __init__(self, config: OfflineConfig, *, hangover_ms: int) -> None:
        self._hangover_slots = ms_to_samples(hangover_ms) // HOP_SAMPLES
        longest_pass = int(config.max_pass_s * SAMPLE_RATE_HZ)
        self._one_pass = longest_pass // HOP_SAMPLES * HOP_SAMPLES
        longest = min(int(config.segment_max_s * SAMPLE_RATE_HZ), longest_pass - READ_ON_SAMPLES)
        self._max_slots = longest // HOP_SAMPLES
        shortest_slots = int(config.segment_min_s * SAMPLE_RATE_HZ) // HOP_SAMPLES
        self._min_slots = min(shortest_slots, self._max_slots // 2)
        # With this much held, even the latest cut leaves enough for another piece behind it.
        both = (self._min_slots + self._max_slots) * HOP_SAMPLES
        self._hold_samples = max(self._one_pass, both)
        self._heard = 0
        self._start = 0
        self._states = bytearray()  # of the slots from _start on

    def push(self, num_samples: int, states: Sequence[int]) -> list[PieceSpan]:
        """Go on by ``num_samples``; return the pieces that are certain now.

        Args:
            states: of each 320-sample slot that they completed, as a detector gives them.
        """
        self._heard += num_samples
        add_states(self._states, states)
        spans: list[PieceSpan] = []
        while self._heard - self._start > self._hold_samples:
            spans.append(self._cut(self._max_slots))
        return spans

    def finish(self) -> list[PieceSpan]:
        """Return the pieces of what is left; of an empty recording no piece."""
        spans: list[PieceSpan] = []
        # The rest of a long recording is cut by length; a whole one that fits a pass is not cut.
        if self._start or self._heard > self._one_pass:
            while (left := self._heard - self._start) > self._max_slots * HOP_SAMPLES:
                most = min(self._max_slots, left // HOP_SAMPLES - self._min_slots)
                spans.append(self._cut(max(most, self._min_slots)))
        if self._heard > self._start:
            # Less than a slot has no flag; it is scored rather than passed off as silence.
            has_speech = SPEECH in self._states or not self._states
            spans.append(PieceSpan(self._start, self._heard, has_speech))
            self._start = self._heard
            self._states = bytearray()
        return spans

    def _cut(self, max_slots: int) -> PieceSpan:
        slots = max_slots
        pause = self._longest_pause(max_slots)
        if pause is not None:
            begin, end = pause
            # The middle of the pause, which really began a hangover before its first silent slot.
            slots = max((begin - self._hangover_slots + end + 1) // 2, self._min_slots)
            # A cut inside the hangover leaves the next piece speech that it does not hold.
            self._states[slots:begin] = bytes(max(begin - slots, 0))
        states, self._states = self._states[:slots], self._states[slots:]
        start, self._start = self._start, self._start + slots * HOP_SAMPLES
        return PieceSpan(start, self._start, SPEECH in states)

    def _longest_pause(self, max_slots: int) -> tuple[int, int] | None:
        """Return ``[begin, end)`` of the longest pause in the range; of equal ones the latest."""
        best: tuple[int, int] | None = None
        begin = self._min_slots
        for slot in range(self._min_slots, max_slots + 1):
            if slot < max_slots and self._states[slot] != SPEECH:
                continue
            length = slot - begin
            if length and (best is None or length >= best[1] - best[0]):
                best = (begin, slot)
            begin = slot + 1
        return best
