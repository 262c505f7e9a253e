"""From frames and their labels to segments and gaps that tile the stream.

::

    logits of the speech slots -> pool -> minus what is the voice's own -> softmax (baseline)
    posteriors -> label, or none                                      (smoothing)
    slots, with their label or the reason of a gap -> segments, gaps  (SegmentBuilder)

:class:`Smoother` is both, and the only one: of streams and of files.

A segment or gap is published when it ends, with ``final`` set, and never altered afterwards.
One that goes on is announced once it is 1 s long and again every 10 s, so that a live consumer
knows in time and one that joins late catches up. What is announced is certain: the final event
has the same start and the same label or reason, and an end that is no earlier.

A segment ends where another label, or doubt, takes over and at every gap: a pause splits it even
where the label is the same on both sides. A segment of doubt has no label; ``best`` is the class
with the largest mean posterior.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import numpy.typing as npt

from ser_engine.config import SmoothingConfig
from ser_engine.frames import SAMPLE_RATE_HZ, ms_to_samples
from ser_engine.labels import least_posterior
from ser_engine.schema import Frames, Gap, GapReason, Point, Segment, rounded, rounded_all
from ser_engine.timeline.baseline import SpeakerBaseline
from ser_engine.timeline.smoothing import UNCLEAR, Decision, LabelTracker, LogitPool, softmax
from ser_engine.types import FloatArray, ModelInfo

ANNOUNCE_AFTER_SAMPLES = SAMPLE_RATE_HZ
"""Length at which a segment or gap that goes on is announced for the first time: 1 s."""

ANNOUNCE_EVERY_SAMPLES = 10 * SAMPLE_RATE_HZ
"""Time between further announcements: 10 s."""


@dataclass(slots=True)
class _Sums:
    """Posteriors of successive frames, summed by class."""

    start_sample: int
    end_sample: int
    posterior_sum: npt.NDArray[np.float64]
    frames: int = 0

    def add(self, end_sample: int, posteriors: npt.NDArray[np.float64]) -> None:
        self.end_sample = end_sample
        # Row after row: another order of adding would depend on how frames were grouped into calls.
        rows = np.concatenate([self.posterior_sum[None], posteriors])
        self.posterior_sum = np.add.accumulate(rows, axis=0)[-1]
        self.frames += len(posteriors)

    def fold(self, later: _Sums) -> None:
        self.end_sample = later.end_sample
        self.posterior_sum += later.posterior_sum
        self.frames += later.frames


@dataclass(slots=True)
class _OpenSegment:
    label: int
    settled: bool  # False: the first label, still too short to be announced
    sure: _Sums
    doubt_since: int | None = None
    doubtful: _Sums | None = None  # frames that may turn out to belong to the next label
    is_lost: bool = False  # at the last frame

    def settle_doubt(self) -> None:
        if self.doubtful is not None:
            self.sure.fold(self.doubtful)
        self.doubtful = self.doubt_since = None


@dataclass(slots=True)
class _OpenGap:
    start_sample: int
    end_sample: int
    reason: GapReason

    def event(self, *, final: bool) -> Gap:
        return Gap(
            start_sample=self.start_sample,
            end_sample=self.end_sample,
            reason=self.reason,
            final=final,
        )


class SegmentBuilder:
    """Takes the slots of a channel in order, scored or not; returns the events that became due.

    Args:
        class_names: in the order of the posteriors.
    """

    def __init__(self, class_names: Sequence[str], abstain_below: float = 0.0) -> None:
        self._names = tuple(class_names)
        self._abstain_below = abstain_below
        self._open: _OpenSegment | _OpenGap | None = None
        self._announce_at_samples = ANNOUNCE_AFTER_SAMPLES
        self._events: list[Segment | Gap] = []

    def gap(
        self, start_sample: int, end_sample: int, reason: GapReason, hop_samples: int = 0
    ) -> list[Segment | Gap]:
        """Take a span without a result. It merges with a gap of the same reason before it.

        Args:
            hop_samples: of the slots that the span is made of, each of which may be announced, so
                that announcements do not depend on how slots were grouped into calls. 0: it is
                made of none, and announced at its end at most.
        """
        if isinstance(self._open, _OpenGap) and self._open.reason == reason:
            gap = self._open
        else:
            self._close()
            self._open = gap = _OpenGap(start_sample, start_sample, reason)
        at, hop_samples = start_sample, hop_samples or max(1, end_sample - start_sample)
        while True:
            at = min(end_sample, self._announced_by(gap.start_sample, at, hop_samples))
            gap.end_sample = at
            self._announce()
            if at >= end_sample:
                return self._take()

    def frames(
        self,
        start_sample: int,
        hop_samples: int,
        posteriors: npt.NDArray[np.float64],
        decision: Decision,
    ) -> list[Segment | Gap]:
        """Take successive scored slots: smoothed posteriors ``(slots, classes)``, one decision."""
        if not isinstance(self._open, _OpenSegment):
            self._close()
            sure = self._sums_from(start_sample)
            self._open = _OpenSegment(decision.label, decision.settled, sure)
        segment = self._open
        if decision.changed_at is not None:
            segment = self._change(segment, start_sample, decision.label)
        # A first label that has not settled may still change; the segment then changes with it.
        segment.label, segment.settled = decision.label, decision.settled
        segment.is_lost = decision.is_lost
        if decision.doubt_since != segment.doubt_since:
            # Doubt that passed, or began anew for another label: those frames keep the old label.
            segment.settle_doubt()
        sums = segment.sure
        if decision.doubt_since is not None:
            if segment.doubtful is None:
                segment.doubtful = self._sums_from(start_sample)
                segment.doubt_since = decision.doubt_since
            sums = segment.doubtful
        at, end = start_sample, start_sample + len(posteriors) * hop_samples
        while at < end:
            # In doubt nothing is announced, so there is nothing to stop at.
            stop = end
            if sums is segment.sure:
                stop = min(end, self._announced_by(sums.start_sample, at, hop_samples))
            first, limit = (at - start_sample) // hop_samples, (stop - start_sample) // hop_samples
            sums.add(stop, posteriors[first:limit])
            self._announce()
            at = stop
        return self._take()

    def extend(self, end_sample: int) -> list[Segment | Gap]:
        """Let what is open last until ``end_sample``: samples too few for a frame of their own."""
        match self._open:
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
        # The doubtful frames spoke for the new label, so its segment begins with them. A change
        # that began before a gap begins here instead, after it: what lies before is published.
        sure = segment.doubtful or self._sums_from(start_sample)
        if segment.sure.frames:
            self._publish(segment.label, segment.sure, final=True)
            self._announce_at_samples = ANNOUNCE_AFTER_SAMPLES
        self._open = changed = _OpenSegment(label, True, sure)
        return changed

    def _close(self) -> None:
        if isinstance(self._open, _OpenSegment):
            segment, doubtful = self._open, self._open.doubtful
            if doubtful is not None and segment.is_lost:
                # The label was lost before the gap: no frame of speech after it can bring it back.
                if segment.sure.frames:
                    self._publish(segment.label, segment.sure, final=True)
                self._publish(UNCLEAR, doubtful, final=True)
            else:
                # A change in doubt cannot be dated back across a gap: its frames keep the label.
                segment.settle_doubt()
                self._publish(segment.label, segment.sure, final=True)
        elif self._open is not None:
            self._events.append(self._open.event(final=True))
        self._open = None
        self._announce_at_samples = ANNOUNCE_AFTER_SAMPLES

    def _announce(self) -> None:
        if isinstance(self._open, _OpenSegment):
            segment, sure = self._open, self._open.sure
            # Only as far as the label is sure: what is announced must come true.
            if segment.settled and self._is_announcement_due(sure.end_sample - sure.start_sample):
                self._publish(segment.label, sure, final=False)
        elif self._open is not None:
            gap = self._open
            if self._is_announcement_due(gap.end_sample - gap.start_sample):
                self._events.append(gap.event(final=False))

    def _announced_by(self, start_sample: int, at: int, hop_samples: int) -> int:
        """Return the end of the slot after ``at`` at which what began at ``start_sample`` is due.

        Slots of ``hop_samples`` begin at ``at``; it is the end of the first one at least.
        """
        missing = start_sample + self._announce_at_samples - at
        return at + max(1, -(-missing // hop_samples)) * hop_samples

    def _is_announcement_due(self, length_samples: int) -> bool:
        if length_samples < self._announce_at_samples:
            return False
        # A long gap may pass several times of announcement at once: it is announced once.
        periods = (length_samples - ANNOUNCE_AFTER_SAMPLES) // ANNOUNCE_EVERY_SAMPLES + 1
        self._announce_at_samples = ANNOUNCE_AFTER_SAMPLES + periods * ANNOUNCE_EVERY_SAMPLES
        return True

    def _publish(self, label: int, sums: _Sums, *, final: bool) -> None:
        # The mean over the frames of this segment, not over those that were pooled before it.
        means = sums.posterior_sum / sums.frames
        is_announced = self._announce_at_samples > ANNOUNCE_AFTER_SAMPLES
        needed = 0.0
        if label != UNCLEAR:
            needed = least_posterior(self._names[label], self._abstain_below)
        if label != UNCLEAR and means[label] < needed and not is_announced:
            # A first label that changed before it settled speaks for frames that did not.
            label = UNCLEAR
        best = int(means.argmax()) if label == UNCLEAR else label
        self._events.append(
            Segment(
                start_sample=sums.start_sample,
                end_sample=sums.end_sample,
                label=None if label == UNCLEAR else self._names[label],
                best=self._names[best],
                confidence=rounded(float(means[best])),
                final=final,
            )
        )

    def _sums_from(self, start_sample: int) -> _Sums:
        return _Sums(start_sample, start_sample, np.zeros(len(self._names)))

    def _take(self) -> list[Segment | Gap]:
        if not self._events:
            return []
        events, self._events = self._events, []
        return events


@dataclass(frozen=True, slots=True)
class Smoothed:
    """What speech slots came to.

    Attributes:
        names: of the classes.
        hop_samples: of a slot.
        starts: first sample of each.
        posteriors: of each, one value a class, pooled.
        labels: class index of what is said at each, or ``UNCLEAR``.
    """

    names: tuple[str, ...]
    hop_samples: int
    starts: tuple[int, ...]
    posteriors: list[list[float]]
    labels: list[int]

    def point(
        self,
        start_sample: int,
        end_sample: int,
        provisional: bool,
        widened: bool,
        *,
        with_frames: bool,
    ) -> Point:
        """Return what is published of them: the last one, in the name of ``[start, end)``."""
        label, last = self.labels[-1], self.posteriors[-1]
        # The class that is said, or the strongest where none is.
        best = last.index(max(last)) if label == UNCLEAR else label
        return Point(
            start_sample=start_sample,
            end_sample=end_sample,
            posteriors=rounded_all(last),
            label=self._name(label),
            best=self.names[best],
            confidence=rounded(last[best]),
            speech_share=rounded(
                len(self.labels) / ((end_sample - start_sample) // self.hop_samples)
            ),
            provisional=provisional,
            widened=widened,
            frames=self._frames() if with_frames else None,
        )

    def _frames(self) -> Frames:
        return Frames(
            start_samples=self.starts,
            hop_samples=self.hop_samples,
            posteriors=tuple(map(rounded_all, self.posteriors)),
            labels=tuple(map(self._name, self.labels)),
        )

    def _name(self, label: int) -> str | None:
        return None if label == UNCLEAR else self.names[label]


class Smoother:
    """Follows one channel. Slots and spans come in order and tile it."""

    def __init__(self, config: SmoothingConfig, model: ModelInfo) -> None:
        self._names = model.labels.names
        abstain_below = config.abstain_threshold(model.abstain_below)
        span_samples = ms_to_samples(config.span_ms)
        self._pool = LogitPool(span_samples, len(self._names))
        neutral_logits = model.neutral_logits if config.speaker_baseline else ()
        self._baseline = SpeakerBaseline(self._names, neutral_logits, span_samples)
        self._tracker = LabelTracker(config, abstain_below, self._names)
        self._segments = SegmentBuilder(self._names, abstain_below)
        self._events: list[Segment | Gap] = []

    def slots(
        self,
        start_sample: int,
        hop_samples: int,
        reasons: Sequence[GapReason | None],
        logits: FloatArray,
    ) -> Smoothed:
        """Take successive slots.

        Args:
            hop_samples: of each.
            reasons: of each why it is a gap; None: it is speech, and scored.
            logits: ``(speech slots, classes)``, finite or -inf.
        """
        scored = [slot for slot, reason in enumerate(reasons) if reason is None]
        # Only speech is pooled: the mean of a pause and a word would be the label of neither.
        starts = start_sample + hop_samples * np.array(scored, dtype=np.int64)
        # Pool, then softmax, not the other way round: the head was trained on means of logits.
        pooled = self._pool.push(starts, logits) if scored else _NOTHING
        posteriors = np.empty_like(pooled)
        # As Python floats: the tracker looks at each, which costs less than as NumPy scalars.
        values: list[list[float]] = []
        decisions: list[Decision] = []
        while (row := len(values)) < len(pooled):
            # As many as are judged by the baseline as it is: the next may move it.
            part = slice(row, row + -(-self._baseline.left_samples // hop_samples))
            posteriors[part] = softmax(self._baseline.centred(pooled[part]))
            values += posteriors[part].tolist()
            # Pool and tracker notice from a frame's start how long there was none before it.
            steady = self._tracker.push_steady(starts[part], hop_samples, posteriors[part])
            decisions += (
                [
                    self._tracker.push(start, start + hop_samples, posterior)
                    for start, posterior in zip(starts[part].tolist(), values[row:], strict=True)
                ]
                if steady is None
                else [steady] * (len(values) - row)
            )
            spoken = (len(values) - row) * hop_samples
            self._baseline.hear(spoken, pooled[len(values) - 1], decisions[-1].said(), values[-1])
        row, labels = 0, list[int]()
        for reason, run in groupby(reasons):
            end_sample = start_sample + hop_samples * len(list(run))
            if reason is not None:
                self._events += self._segments.gap(start_sample, end_sample, reason, hop_samples)
                start_sample = end_sample
            while start_sample < end_sample:
                decision, first = decisions[row], row
                while start_sample < end_sample and decisions[row] is decision:
                    start_sample, row = start_sample + hop_samples, row + 1
                labels += [decision.said()] * (row - first)
                self._events += self._segments.frames(
                    start_sample - (row - first) * hop_samples,
                    hop_samples,
                    posteriors[first:row],
                    decision,
                )
        return Smoothed(self._names, hop_samples, tuple(starts.tolist()), values, labels)

    def gap(
        self, start_sample: int, end_sample: int, reason: GapReason, hop_samples: int = 0
    ) -> None:
        """Take a span without a result; see :meth:`SegmentBuilder.gap`."""
        self._events += self._segments.gap(start_sample, end_sample, reason, hop_samples)

    def extend(self, end_sample: int) -> None:
        """Let what is open last until ``end_sample``: samples too few for a slot of their own."""
        self._events += self._segments.extend(end_sample)

    def finish(self) -> None:
        """End what is open."""
        self._events += self._segments.finish()

    def take(self) -> list[Segment | Gap]:
        """Return the segments and gaps that became due."""
        events, self._events = self._events, []
        return events


_NOTHING: npt.NDArray[np.float64] = np.empty((0, 0))
