"""From frames and their labels to segments and gaps that tile the stream.

A segment or gap is published when it ends, with ``final`` set, and never altered afterwards.
One that goes on is announced once it is 1 s long and again every 10 s, so that a live consumer
knows in time and one that joins late catches up. What is announced is certain: the final event
has the same start, label or reason and an end that is no earlier.

A segment ends where another label takes over and at every gap: a pause splits it even where the
label is the same on both sides. A change of label that began before a gap is dated back to the
end of that gap, since what lies before is published.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from ser_engine.frames import SAMPLE_RATE_HZ
from ser_engine.schema import Gap, GapReason, Segment
from ser_engine.timeline.smoothing import Decision

ANNOUNCE_AFTER_SAMPLES = SAMPLE_RATE_HZ
"""Length at which a segment or gap that goes on is announced for the first time: 1 s."""

ANNOUNCE_EVERY_SAMPLES = 10 * SAMPLE_RATE_HZ
"""Time between further announcements: 10 s."""


@dataclass(slots=True)
class _Tally:
    """Posteriors of successive frames, summed by class."""

    start_sample: int
    end_sample: int
    posterior_sum: npt.NDArray[np.float64]
    frames: int = 0

    def add(self, end_sample: int, posterior: npt.NDArray[np.float64]) -> None:
        self.end_sample = end_sample
        self.posterior_sum += posterior
        self.frames += 1

    def fold(self, later: _Tally) -> None:
        self.end_sample = later.end_sample
        self.posterior_sum += later.posterior_sum
        self.frames += later.frames


@dataclass(slots=True)
class _OpenSegment:
    label: int
    settled: bool
    sure: _Tally
    doubt_since: int | None = None
    doubtful: _Tally | None = None

    def settle_doubt(self) -> None:
        if self.doubtful is not None:
            self.sure.fold(self.doubtful)
        self.doubtful = self.doubt_since = None


@dataclass(slots=True)
class _OpenGap:
    start_sample: int
    end_sample: int
    reason: GapReason


@dataclass(slots=True)
class _State:
    open: _OpenSegment | _OpenGap | None = None
    announce_at_samples: int = ANNOUNCE_AFTER_SAMPLES
    events: list[Segment | Gap] = field(default_factory=list)


class SegmentBuilder:
    """Takes the cells of a stream in order, scored or not, and says what tiles it.

    Every method returns the events that became due.
    """

    def __init__(self, class_names: Sequence[str]) -> None:
        self._names = tuple(class_names)
        self._state = _State()

    def reset(self) -> None:
        """Forget what is open, without publishing it."""
        self._state = _State()

    def gap(self, start_sample: int, end_sample: int, reason: GapReason) -> list[Segment | Gap]:
        """Take a span without a result. It merges with a gap of the same reason before it.

        One call announces at most once. Where announcements must not depend on how time was
        grouped into calls, call this cell by cell.
        """
        state = self._state
        if isinstance(state.open, _OpenGap) and state.open.reason == reason:
            state.open.end_sample = end_sample
        else:
            self._close()
            state.open = _OpenGap(start_sample, end_sample, reason)
        self._announce()
        return self._take()

    def frame(
        self,
        start_sample: int,
        end_sample: int,
        posterior: npt.NDArray[np.float64],
        decision: Decision,
    ) -> list[Segment | Gap]:
        """Take a scored cell with its smoothed posterior ``(classes,)`` and decision."""
        state = self._state
        if not isinstance(state.open, _OpenSegment):
            self._close()
            sure = self._tally(start_sample)
            state.open = _OpenSegment(decision.label, decision.settled, sure)
        segment = state.open
        if decision.changed_at is not None:
            segment = self._change(segment, start_sample, decision.label)
        segment.label, segment.settled = decision.label, decision.settled
        if decision.doubt_since != segment.doubt_since:
            segment.settle_doubt()
        if decision.doubt_since is None:
            segment.sure.add(end_sample, posterior)
        else:
            if segment.doubtful is None:
                segment.doubtful = self._tally(start_sample)
                segment.doubt_since = decision.doubt_since
            segment.doubtful.add(end_sample, posterior)
        self._announce()
        return self._take()

    def extend(self, end_sample: int) -> list[Segment | Gap]:
        """Let what is open last until ``end_sample``: samples too few for a frame of their own."""
        match self._state.open:
            case _OpenSegment(sure=sure, doubtful=doubtful):
                (sure if doubtful is None else doubtful).end_sample = end_sample
            case _OpenGap() as gap:
                gap.end_sample = end_sample
        return self._take()

    def finish(self) -> list[Segment | Gap]:
        """Publish what is open: the stream has ended."""
        self._close()
        return self._take()

    def _change(self, segment: _OpenSegment, start_sample: int, label: int) -> _OpenSegment:
        sure = segment.doubtful or self._tally(start_sample)
        if segment.sure.frames:
            self._publish(segment.label, segment.sure, final=True)
            self._state.announce_at_samples = ANNOUNCE_AFTER_SAMPLES
        self._state.open = changed = _OpenSegment(label, True, sure)
        return changed

    def _close(self) -> None:
        state = self._state
        if isinstance(state.open, _OpenSegment):
            state.open.settle_doubt()
            self._publish(state.open.label, state.open.sure, final=True)
        elif state.open is not None:
            gap = state.open
            state.events.append(Gap(gap.start_sample, gap.end_sample, gap.reason, final=True))
        state.open = None
        state.announce_at_samples = ANNOUNCE_AFTER_SAMPLES

    def _announce(self) -> None:
        state = self._state
        if isinstance(state.open, _OpenSegment):
            segment, sure = state.open, state.open.sure
            if segment.settled and self._announcement_due(sure.end_sample - sure.start_sample):
                self._publish(segment.label, sure, final=False)
        elif state.open is not None:
            gap = state.open
            if self._announcement_due(gap.end_sample - gap.start_sample):
                state.events.append(Gap(gap.start_sample, gap.end_sample, gap.reason, final=False))

    def _announcement_due(self, length_samples: int) -> bool:
        state = self._state
        if length_samples < state.announce_at_samples:
            return False
        periods = (length_samples - ANNOUNCE_AFTER_SAMPLES) // ANNOUNCE_EVERY_SAMPLES + 1
        state.announce_at_samples = ANNOUNCE_AFTER_SAMPLES + periods * ANNOUNCE_EVERY_SAMPLES
        return True

    def _publish(self, label: int, tally: _Tally, *, final: bool) -> None:
        confidence = float(tally.posterior_sum[label]) / tally.frames
        start, end = tally.start_sample, tally.end_sample
        self._state.events.append(Segment(start, end, self._names[label], confidence, final))

    def _tally(self, start_sample: int) -> _Tally:
        return _Tally(start_sample, start_sample, np.zeros(len(self._names)))

    def _take(self) -> list[Segment | Gap]:
        if not self._state.events:
            return []
        events, self._state.events = self._state.events, []
        return events
