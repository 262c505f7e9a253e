"""One stretch of uninterrupted audio: which cells are known, due and accounted.

A stream is one stretch, or several with gaps between in which no audio came. No window reaches
across a gap, so every stretch has frames, boundaries and windows of its own, counted from its
first sample. Sample numbers in here are relative to that; only ``origin`` is on the clock::

    cells     0   1   2   3   4   5   6   7   8   9  10  11
             [---accounted---)[--- due ----)[-- not due --)
                              |             |             |
                          accounted      horizon        heard
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from ser_engine.events import GapReason
from ser_engine.frames import HOP_SAMPLES, RECEPTIVE_FIELD_SAMPLES

__all__ = ["LOST", "SILENCE", "SPEECH", "Due", "Stretch"]

SILENCE, SPEECH, LOST = 0, 1, 2
"""What a cell holds; the last: audio that never came, and silence in its place."""


@dataclass(frozen=True, slots=True)
class Due:
    """A window the engine was asked for.

    Attributes:
        start: first sample of the window.
        end: sample after its last one.
        previous: the horizon before this window was due: its zone begins here, or earlier where
            windows before it were given up.
        limit: the horizon it was issued for: the cell its zone ends before.
    """

    start: int
    end: int
    previous: int
    limit: int


_NO_SPEECH_YET = 1 << 62
"""Longer than any silence."""


@dataclass(slots=True)
class Stretch:
    """State of one stretch.

    Attributes:
        origin: its first sample on the stream's clock.
        hop: length of a cell in samples, 320 or 160.
        min_silence: silences of fewer cells between speech count as speech.
        heard: samples heard so far.
        accounted: cells before this one are published.
        horizon: cells before this one are due.
        silent: cells since the last speech.
        speech: one byte a cell from ``accounted`` on: :data:`SILENCE`, :data:`SPEECH` or
            :data:`LOST`.
        lost: the 320-sample cells to come whose audio is lost.
        pending: the windows without an answer, oldest first.
        closed: no more audio comes.
        gap_reason: with ``gap_samples``, the time without audio that follows.
        gap_samples: its length.
    """

    origin: int
    hop: int
    min_silence: int = 0
    heard: int = 0
    accounted: int = 0
    horizon: int = 0
    silent: int = _NO_SPEECH_YET
    speech: bytearray = field(default_factory=bytearray)
    lost: deque[int] = field(default_factory=deque)
    pending: deque[Due] = field(default_factory=deque)
    closed: bool = False
    gap_reason: GapReason | None = None
    gap_samples: int = 0

    @property
    def end_sample(self) -> int:
        """End of the audio heard, on the clock."""
        return self.origin + self.heard

    @property
    def accounted_sample(self) -> int:
        """End of what is published, on the clock."""
        return self.origin + self.accounted * self.hop

    @property
    def open_samples(self) -> int:
        """Samples heard and not accounted for."""
        return self.heard - self.accounted * self.hop

    @property
    def complete_cells(self) -> int:
        """Cells whose frame has all the 400 samples it reads."""
        if self.heard < RECEPTIVE_FIELD_SAMPLES:
            return 0
        return (self.heard - RECEPTIVE_FIELD_SAMPLES) // self.hop + 1

    def ripe_cells(self, look_ahead: int) -> int:
        """Return how many cells are complete and end ``look_ahead`` samples ago or more."""
        return max(0, min(self.complete_cells, (self.heard - look_ahead) // self.hop))

    def window_start(self, window_samples: int) -> int:
        """Return the smallest multiple of 320 from which a window to the end is not too long."""
        return -(-max(0, self.heard - window_samples) // HOP_SAMPLES) * HOP_SAMPLES

    def lose(self, num_samples: int) -> None:
        """Take note that the audio heard next is lost: the cells whose middle lies in it are."""
        first, limit = (
            -(-(at - HOP_SAMPLES // 2) // HOP_SAMPLES)
            for at in (self.heard, self.heard + num_samples)
        )
        self.lost.extend(range(first, limit))

    def hear(self, num_samples: int, flags: list[bool]) -> None:
        """Take note of audio and the flags of the 320-sample cells it completed.

        A silence that turns out to be short becomes speech as far as it is not due yet.
        """
        self.heard += num_samples
        cells = HOP_SAMPLES // self.hop
        for flag in flags:
            if self.lost and (self.accounted + len(self.speech)) // cells == self.lost[0]:
                self.lost.popleft()
                self.speech.extend((LOST,) * cells)
                self.silent = _NO_SPEECH_YET
                continue
            if not flag:
                self.silent += cells
            else:
                if 0 < self.silent < self.min_silence:
                    known = len(self.speech)
                    first = max(known - self.silent, self.horizon - self.accounted)
                    self.speech[first:] = bytes((True,)) * (known - first)
                self.silent = 0
            self.speech.extend((flag,) * cells)

    def has_speech(self, first: int, limit: int) -> bool:
        """Return whether a cell in ``[first, limit)`` that is not accounted for holds speech."""
        offsets = (max(0, cell - self.accounted) for cell in (first, limit))
        return self.speech.find(SPEECH, *offsets) >= 0

    def advance(self, limit: int) -> bytes:
        """Account for the cells before ``limit``; return their speech flags."""
        count = limit - self.accounted
        flags = bytes(self.speech[:count])
        del self.speech[:count]
        self.accounted = limit
        return flags

    def issue(self, limit: int, window_samples: int) -> Due | None:
        """Move the horizon to ``limit``; return the window that asks for, if it needs one.

        A window is needed where a cell that no pending window is for holds speech: in the new
        zone, or in one whose window was given up.
        """
        previous = self.horizon
        if limit <= previous:
            return None
        self.horizon = limit
        unclaimed = self.pending[-1].limit if self.pending else self.accounted
        if not self.has_speech(unclaimed, limit):
            return None
        due = Due(self.window_start(window_samples), self.heard, previous, limit)
        self.pending.append(due)
        return due

    def find(self, span: tuple[int, int]) -> Due | None:
        """Return the oldest pending window from ``span[0]`` to ``span[1]`` on the clock."""
        local = (span[0] - self.origin, span[1] - self.origin)
        return next((due for due in self.pending if (due.start, due.end) == local), None)
