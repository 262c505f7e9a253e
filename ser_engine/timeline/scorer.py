"""From a zone's frame logits to events: pooled, smoothed, labelled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ser_engine.config import SmoothingConfig
from ser_engine.frames import ms_to_samples
from ser_engine.labels import LabelSet
from ser_engine.schema import Event, FrameDetail, GapReason, Point
from ser_engine.timeline.segments import SegmentBuilder
from ser_engine.timeline.smoothing import LabelTracker, LogitPool, softmax


@dataclass(frozen=True, slots=True, eq=False)
class Zone:
    """Successive cells that are accounted for together.

    Attributes:
        start_sample: start of the first cell on the stream's clock.
        hop_samples: length of a cell.
        verdicts: one a cell: None for a scored one, otherwise why it is not.
        logits: float32 ``(frames, classes)`` of the scored cells.
        point_first: the cell the point begins with; those before it are accounted for without
            belonging to the point.
        provisional: see :class:`~ser_engine.schema.Point`.
        widened: see :class:`~ser_engine.schema.Point`.
    """

    start_sample: int
    hop_samples: int
    verdicts: Sequence[GapReason | None]
    logits: npt.NDArray[np.float32]
    point_first: int
    provisional: bool
    widened: bool


class Scorer:
    """Turns the zones of one channel, in order, into events, in order.

    The segments and gaps of a zone come before its point.
    """

    def __init__(self, smoothing: SmoothingConfig, labels: LabelSet, *, details: bool) -> None:
        self._names = labels.names
        self._details = details
        self._pool = LogitPool(ms_to_samples(smoothing.span_ms), len(labels))
        self._tracker = LabelTracker(smoothing)
        self._segments = SegmentBuilder(labels.names)

    def reset(self) -> None:
        """Forget everything, without publishing what is open."""
        self._pool.reset()
        self._tracker.reset()
        self._segments.reset()

    def gap(self, start_sample: int, end_sample: int, reason: GapReason) -> list[Event]:
        """Take time without audio."""
        return [*self._segments.gap(start_sample, end_sample, reason)]

    def extend(self, end_sample: int) -> list[Event]:
        """Let what is open last until ``end_sample``."""
        return [*self._segments.extend(end_sample)]

    def finish(self) -> list[Event]:
        """Publish what is open."""
        return [*self._segments.finish()]

    def zone(self, zone: Zone) -> list[Event]:
        """Account for the cells of ``zone``."""
        hop = zone.hop_samples
        scored = [cell for cell, verdict in enumerate(zone.verdicts) if verdict is None]
        starts = zone.start_sample + hop * np.array(scored, dtype=np.int64)
        posteriors = softmax(self._pool.push(starts, zone.logits)) if scored else np.empty((0, 0))
        rows: list[list[float]] = posteriors.tolist()
        events: list[Event] = []
        labels: list[int] = []
        end = zone.start_sample
        for verdict in zone.verdicts:
            start, end = end, end + hop
            if verdict is not None:
                events += self._segments.gap(start, end, verdict)
                continue
            frame = len(labels)
            decision = self._tracker.push(start, end, rows[frame])
            labels.append(decision.label)
            events += self._segments.frame(start, end, posteriors[frame], decision)
        if not scored:
            return events
        detail = None
        if self._details:
            indices = np.array(labels, dtype=np.int64)
            detail = FrameDetail(starts, hop, zone.logits, posteriors, indices)
        events.append(
            Point(
                start_sample=zone.start_sample + zone.point_first * hop,
                end_sample=zone.start_sample + len(zone.verdicts) * hop,
                posteriors=tuple(rows[-1]),
                label=self._names[labels[-1]],
                confidence=rows[-1][labels[-1]],
                speech_share=len(scored) / (len(zone.verdicts) - zone.point_first),
                provisional=zone.provisional,
                widened=zone.widened,
                frames=detail,
            )
        )
        return events
