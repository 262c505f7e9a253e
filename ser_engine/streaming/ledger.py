"""The ledger of one channel: sees to it that every cell is accounted for once, in order."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from ser_engine.errors import WindowError
from ser_engine.events import Event, GapReason
from ser_engine.streaming.join import join
from ser_engine.streaming.scorer import Scorer, Zone
from ser_engine.streaming.stretch import LOST, SPEECH, Due, Stretch
from ser_engine.types import WindowResult

__all__ = ["Ledger"]


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
