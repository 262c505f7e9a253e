"""The ledger of one channel: sees to it that every cell is accounted for once, in order.

One stretch of uninterrupted audio: which cells are known, due and accounted.

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

import numpy as np

from ser_engine.errors import WindowError
from ser_engine.frames import HOP_SAMPLES, RECEPTIVE_FIELD_SAMPLES
from ser_engine.schema import Event, GapReason
from ser_engine.timeline.scorer import Scorer, Zone
from ser_engine.types import FloatArray, WindowResult


def join(
    flags: bytes, first_row: int, outcome: WindowResult | WindowError, num_classes: int
) -> tuple[list[GapReason | None], FloatArray]:
    """Find each cell's frame in a window's result.

    Args:
        flags: one byte a cell, as in :attr:`Stretch.speech`.
        first_row: row of the result that belongs to the first cell. Negative where the cell lies
            before the window.
        outcome: the engine's answer.
        num_classes: size of ``classes``.

    Returns:
        A verdict a cell, None for those that are scored and otherwise why they are not; and the
        logits ``(frames, classes)`` of those that are. A frame whose logits hold NaN or +inf
        counts as an error of the engine; -inf is a class it never learned.
    """
    usable: list[bool] = []
    if isinstance(outcome, WindowResult):
        of_interest = outcome.logits[: max(0, first_row + len(flags))][max(0, first_row) :]
        # False for NaN and +inf, True for -inf.
        usable = np.all(of_interest < np.inf, axis=1).tolist()
    skipped = max(0, first_row)
    verdicts: list[GapReason | None] = []
    rows: list[int] = []
    for row, flag in enumerate(flags, start=first_row):
        if flag != SPEECH:
            verdicts.append("lost" if flag == LOST else "silence")
        elif row < 0:
            verdicts.append("overload")
        elif not (row - skipped < len(usable) and usable[row - skipped]):
            verdicts.append("error")
        else:
            verdicts.append(None)
            rows.append(row)
    if isinstance(outcome, WindowResult):
        return verdicts, outcome.logits[rows]
    return verdicts, np.empty((0, num_classes), dtype=np.float32)


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


@dataclass(slots=True)
class _State:
    stretches: deque[Stretch]
    events: list[Event] = field(default_factory=list)


class Ledger:
    """Books what was heard, what is due and what was answered; publishes what is final.

    Cells are published strictly in order: a stretch of silence waits for the answers to the
    windows before it. A window is known by its span, ``(start, end)`` on the stream's clock.

    Args:
        hop_samples: length of a cell, 320 or 160.
        window_samples: length of a full window.
        provisional_below: windows of fewer samples give provisional points.
        num_classes: size of ``classes``.
        scorer: turns zones into events.
        min_silence: silences of fewer cells between speech count as speech.
    """

    def __init__(
        self,
        *,
        hop_samples: int,
        window_samples: int,
        provisional_below: int,
        num_classes: int,
        scorer: Scorer,
        min_silence: int = 0,
    ) -> None:
        self._hop = hop_samples
        self._window_samples = window_samples
        self._provisional_below = provisional_below
        self._num_classes = num_classes
        self._scorer = scorer
        self._min_silence = min_silence
        self._state = _State(deque([self._stretch(0)]))

    def reset(self) -> None:
        """Begin a new stream at sample 0; events not taken yet are lost."""
        self._state = _State(deque([self._stretch(0)]))
        self._scorer.reset()

    @property
    def current(self) -> Stretch:
        """The stretch that audio is added to."""
        return self._state.stretches[-1]

    @property
    def accounted_sample(self) -> int:
        """Stream time up to which everything is published."""
        return self._state.stretches[0].accounted_sample

    @property
    def open_samples(self) -> int:
        """Samples heard and not accounted for."""
        return sum(stretch.open_samples for stretch in self._state.stretches)

    @property
    def pending_windows(self) -> int:
        """Windows without an answer."""
        return sum(len(stretch.pending) for stretch in self._state.stretches)

    def issue(self, limit: int) -> Due | None:
        """Make the cells of the current stretch before ``limit`` due; return the window needed."""
        return self.current.issue(limit, self._window_samples)

    def end_stretch(self, reason: GapReason | None = None, gap_samples: int = 0) -> None:
        """Let no more audio come to the current stretch; begin one after a gap."""
        stretches, stretch = self._state.stretches, self.current
        before = stretches[-2] if len(stretches) > 1 else None
        if not stretch.heard and before is not None and before.gap_reason == reason:
            before.gap_samples += gap_samples
            stretch.origin += gap_samples
            return
        stretch.closed = True
        stretch.gap_reason, stretch.gap_samples = reason, gap_samples
        stretches.append(self._stretch(stretch.end_sample + gap_samples))

    def accept(self, span: tuple[int, int], outcome: WindowResult | WindowError) -> None:
        """Book the answer to a window; windows before it are given up."""
        stretch = self._holder_of(span)
        if stretch is None:
            return
        while self._state.stretches[0] is not stretch:
            self._state.stretches[0].pending.clear()
            self.settle()
        asked = stretch.find(span)
        while stretch.pending[0] is not asked:
            stretch.pending.popleft()
        # Two windows share a span where a flush follows a boundary at once: one answer.
        while stretch.find(span) is not None:
            self._resolve(stretch, stretch.pending.popleft(), outcome)
        self.settle()

    def skip(self, span: tuple[int, int]) -> None:
        """Book that a window is given up."""
        stretch = self._holder_of(span)
        due = stretch and stretch.find(span)
        if stretch and due:
            stretch.pending.remove(due)
            self.settle()

    def skip_oldest(self) -> bool:
        """Give the oldest window up; return False where there is none."""
        for stretch in self._state.stretches:
            if stretch.pending:
                stretch.pending.popleft()
                self.settle()
                return True
        return False

    def close(self, reason: GapReason) -> None:
        """Account for all that is left; speech without an answer is a gap with ``reason``."""
        self.end_stretch()
        for stretch in self._state.stretches:
            stretch.pending.clear()
        self.settle(reason)
        self._state.events += self._scorer.finish()

    def settle(self, lost: GapReason = "overload") -> None:
        """Account for what no window will tell of, as far as it comes next."""
        stretches = self._state.stretches
        while not stretches[0].pending:
            stretch = stretches[0]
            # No window that comes holds what lies before one that would end now.
            covered_from = stretch.window_start(self._window_samples) // self._hop
            lost_limit = stretch.horizon if stretch.closed else min(covered_from, stretch.horizon)
            self._give_up(stretch, lost_limit, lost)
            if not stretch.has_speech(stretch.accounted, stretch.horizon):
                self._give_up(stretch, stretch.horizon, lost)
            if not stretch.closed:
                return
            self._leave(stretch)
            stretches.popleft()

    def take_events(self) -> list[Event]:
        """Return the events published since they were last taken, in order."""
        events, self._state.events = self._state.events, []
        return events

    def _stretch(self, origin: int) -> Stretch:
        return Stretch(origin, self._hop, self._min_silence)

    def _holder_of(self, span: tuple[int, int]) -> Stretch | None:
        return next((each for each in self._state.stretches if each.find(span)), None)

    def _resolve(self, stretch: Stretch, due: Due, outcome: WindowResult | WindowError) -> None:
        """Account for every cell before the limit of ``due``."""
        first, start_sample = stretch.accounted, stretch.accounted_sample
        # Before its own zone lie silent zones, or zones whose windows were given up.
        widened = stretch.has_speech(first, due.previous)
        zone_first = first if widened else due.previous
        covered_from = due.start // self._hop
        verdicts, logits = join(
            stretch.advance(due.limit), first - covered_from, outcome, self._num_classes
        )
        self._state.events += self._scorer.zone(
            Zone(
                start_sample=start_sample,
                hop_samples=self._hop,
                verdicts=verdicts,
                logits=logits,
                point_first=max(zone_first, covered_from) - first,
                provisional=due.end - due.start < self._provisional_below,
                widened=widened,
            )
        )

    def _give_up(self, stretch: Stretch, limit: int, lost: GapReason) -> None:
        """Account for the cells before ``limit`` without a result."""
        if limit <= stretch.accounted:
            return
        sample = stretch.accounted_sample
        for flag in stretch.advance(limit):
            reason: GapReason = lost if flag == SPEECH else "lost" if flag == LOST else "silence"
            self._state.events += self._scorer.gap(sample, sample + self._hop, reason)
            sample += self._hop

    def _leave(self, stretch: Stretch) -> None:
        """Publish what follows the last cell of a closed stretch."""
        end, events = stretch.end_sample, self._state.events
        if stretch.complete_cells:
            events += self._scorer.extend(end)
        elif stretch.heard:
            events += self._scorer.gap(stretch.origin, end, "too_short")
        if stretch.gap_reason is not None:
            events += self._scorer.gap(end, end + stretch.gap_samples, stretch.gap_reason)
