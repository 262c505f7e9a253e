"""From one channel's points, segments and gaps to the spans that ``/v1/listen`` reports.

A span of speech is a segment with the mean of its points, and with whether speech continues after
it. Both are known only with the point of the step in which the segment ends, which follows it::

    points       [--point---)[--point---)[---point--)
    segments     [-------angry-----)[--sad--)           final, each before the point of its step
    spans        [-------angry-----)[--sad--)           with that point, or the next heartbeat

So a final segment waits for the next point. If none comes, because the following step holds no
speech, :meth:`SpanTracker.release` returns it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from stream_server.wire.results import Gap, Point, Segment

_MAX_POINTS = 256
"""Points kept one by one; older ones certainly belong to the running span, and are summed."""
_DECIMALS = 6
"""As other results have."""
_LEAST_SAMPLES = 720
"""Two hops and the rest of a frame: a shorter remainder of a span is not reported."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeechSpan:
    """Consecutive speech with one stable label, or with none.

    Attributes:
        start_sample, end_sample: on the stream's 16 kHz clock; the end is not included.
        label: the stable label; None: unclear.
        best: the label, or the likeliest one.
        confidence: of a whole segment the mean over its frames, else over its points, 0 to 1.
        posteriors: one value a class, sum 1: that of ``best`` is the confidence, the others share
            the rest as in the mean of the points, weighted by their speech.
        speech_share: mean of the points' shares.
        provisional: all its points are.
        narrow_band: one of its points is.
        goes_on: speech with another label follows at once.
        follows_pause: silence, or the start of the stream, is before it.
    """

    start_sample: int
    end_sample: int
    label: str | None
    best: str
    confidence: float
    posteriors: tuple[float, ...]
    speech_share: float
    provisional: bool
    narrow_band: bool
    goes_on: bool
    follows_pause: bool


@dataclass(frozen=True, slots=True)
class SilentSpan:
    """Consecutive time without a result."""

    start_sample: int
    end_sample: int
    reason: str


Span = SpeechSpan | SilentSpan


@dataclass(slots=True)
class _Mean:
    """Sums over points, weighted by the samples of speech in them."""

    weight: float = 0.0
    samples: int = 0
    posterior_sums: list[float] = field(default_factory=list)
    provisional: bool = True
    narrow_band: bool = False

    def add(self, point: Point, start_sample: int, end_sample: int | None) -> None:
        start = max(point.start_sample, start_sample)
        end = point.end_sample if end_sample is None else min(point.end_sample, end_sample)
        if end <= start:
            return
        weight = (end - start) * point.speech_share
        sums = self.posterior_sums or [0.0] * len(point.posteriors)
        self.posterior_sums = [
            total + weight * value for total, value in zip(sums, point.posteriors, strict=True)
        ]
        self.weight += weight
        self.samples += end - start
        self.provisional = self.provisional and point.provisional
        self.narrow_band = self.narrow_band or point.narrow_band

    @property
    def posteriors(self) -> tuple[float, ...]:
        return tuple(total / self.weight for total in self.posterior_sums)

    @property
    def speech_share(self) -> float:
        return self.weight / self.samples if self.samples else 0.0


class SpanTracker:
    """Makes spans of the results of one channel, taken in order."""

    def __init__(self, labels: Sequence[str]) -> None:
        self._labels = tuple(labels)
        self._points: deque[Point] = deque()
        self._older = _Mean()
        self._waiting: list[Segment | Gap] = []
        self._spans_end = 0  # of the spans returned
        self._reported_end = 0  # of what cut() returned of the running speech
        self._goes_on = False  # speech followed the last span at once
        self.pause_since: int | None = None  # where the last speech ended; None: during it

    def take(self, result: Point | Segment | Gap) -> list[Span]:
        """Take a result; return the spans that it makes final, in order."""
        if isinstance(result, Point):
            self._points.append(result)
            if len(self._points) > _MAX_POINTS:
                self._older.add(
                    self._points.popleft(), max(self._spans_end, self._reported_end), None
                )
            return self._release(result)
        if not result.final:
            return []
        self._waiting.append(result)
        # Only a segment waits for its point.
        return self._release(None) if isinstance(self._waiting[0], Gap) else []

    def release(self) -> list[Span]:
        """Return the spans that wait for a point that does not come."""
        return self._release(None)

    def current(self) -> SpeechSpan | None:
        """Return the running speech up to its last point, in the state of that point."""
        start = max(self._spans_end, self._reported_end)
        if not self._points or self.pause_since is not None:
            return None
        point = self._points[-1]
        if point.end_sample <= start:
            return None
        return SpeechSpan(
            start_sample=start,
            end_sample=point.end_sample,
            label=point.label,
            best=point.best,
            confidence=point.confidence,
            posteriors=point.posteriors,
            speech_share=point.speech_share,
            provisional=point.provisional,
            narrow_band=point.narrow_band,
            goes_on=False,
            follows_pause=not self._goes_on,
        )

    def cut(self) -> SpeechSpan | None:
        """Return the running speech so far, and report its rest apart; None without speech.

        :meth:`release` comes first.
        """
        current = self.current()
        if current is None:
            return None
        span = self._speech_span(current.start_sample, current.end_sample, current, None)
        self._reported_end = current.end_sample
        self._older = _Mean()
        return span

    def _release(self, point: Point | None) -> list[Span]:
        """Return the waiting spans; ``point`` is the one they waited for, if it came."""
        spans: list[Span] = []
        for index, each in enumerate(self._waiting):
            if isinstance(each, Gap):
                spans.append(SilentSpan(each.start_sample, each.end_sample, each.reason))
                self._goes_on, self.pause_since = False, None
            else:
                later = self._waiting[index + 1 : index + 2]
                if later:
                    goes_on = isinstance(later[0], Segment)
                else:
                    # The point's label is that at the end of its step. Where it is the segment's
                    # own, the segment ended by a pause and not by a change.
                    goes_on = point is not None and point.label != each.label
                spans += self._close(each, goes_on)
            self._spans_end = each.end_sample
        self._waiting.clear()
        # The last point stays: current() needs it.
        while len(self._points) > 1 and self._points[0].end_sample <= self._spans_end:
            self._points.popleft()
        return spans

    def _close(self, segment: Segment, goes_on: bool) -> list[Span]:
        start = max(segment.start_sample, self._reported_end)
        # The segment's confidence is not that of its rest after a cut.
        confidence = segment.confidence if start == segment.start_sample else None
        span = self._speech_span(start, segment.end_sample, segment, confidence, goes_on=goes_on)
        self._older = _Mean()
        self._goes_on = goes_on
        self.pause_since = None if goes_on else segment.end_sample
        is_rest = start > segment.start_sample
        least = _LEAST_SAMPLES if is_rest else 1
        return [span] if segment.end_sample - start >= least else []

    def _speech_span(
        self,
        start: int,
        end: int,
        labelled: Segment | SpeechSpan,
        confidence: float | None,
        *,
        goes_on: bool = False,
    ) -> SpeechSpan:
        mean = self._older
        for point in self._points:
            mean.add(point, start, end)
        posteriors = mean.posteriors
        label_index = self._labels.index(labelled.best)
        if posteriors and confidence is None:
            confidence = round(posteriors[label_index], _DECIMALS)
        confidence = confidence or 0.0
        return SpeechSpan(
            start_sample=start,
            end_sample=end,
            label=labelled.label,
            best=labelled.best,
            confidence=confidence,
            posteriors=_agreeing(posteriors, label_index, confidence),
            speech_share=round(mean.speech_share, _DECIMALS),
            provisional=mean.provisional and mean.samples > 0,
            narrow_band=mean.narrow_band,
            goes_on=goes_on,
            follows_pause=not self._goes_on,
        )


def _agreeing(
    posteriors: tuple[float, ...], label_index: int, confidence: float
) -> tuple[float, ...]:
    """Return posteriors whose value for the class of the label is ``confidence``."""
    # A point describes the end of its step, a segment the mean of its frames: they differ near a
    # change of label, and a client must not see a label that its own posteriors deny.
    if not posteriors:
        return ()
    others = sum(posteriors) - posteriors[label_index]
    share = (1.0 - confidence) / others if others > 0 else 0.0
    scaled = [round(value * share, _DECIMALS) for value in posteriors]
    scaled[label_index] = confidence
    return tuple(scaled)
