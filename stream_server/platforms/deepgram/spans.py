"""From one channel's points, segments and gaps to stretches: what ``/v1/listen`` tells of.

A stretch is a segment with the mean of its points, and with whether speech went on behind it. Both
are known only with the point of the zone a segment ends in, which follows it::

    points       [--point---)[--point---)[---point--)
    segments     [-------angry-----)[--sad--)           final, each before the point of its zone
    stretches    [-------angry-----)[--sad--)           with that point, or the next heartbeat

So a final segment waits for the next point. Where none comes, for the zone that follows holds no
speech, :meth:`StretchTracker.release` lets it go.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from stream_server.wire.results import Gap, Point, Segment

_MAX_POINTS = 256
"""Points kept one by one; those before them belong to the stretch that goes on, for certain."""
_DECIMALS = 6
"""As of other results."""
_LEAST_SAMPLES = 720
"""Two hops and the rest of a frame: a shorter remainder of a stretch is not told of."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """Consecutive speech with one stable label.

    Attributes:
        start_sample: on the stream's 16 kHz clock.
        end_sample: end, not included.
        label: the stable label.
        confidence: of a whole segment the mean over its frames, else of its points, 0 to 1.
        posteriors: one value a class, sum 1: that of the label is the confidence, the others share
            the rest as they do in the mean of the points by the speech they tell of.
        speech_share: mean of the points' shares.
        provisional: all its points are.
        narrow_band: one of its points is.
        goes_on: speech goes on behind it, with another label.
        follows_pause: silence, or the start of the stream, is before it.
    """

    start_sample: int
    end_sample: int
    label: str
    confidence: float
    posteriors: tuple[float, ...]
    speech_share: float
    provisional: bool
    narrow_band: bool
    goes_on: bool
    follows_pause: bool


@dataclass(frozen=True, slots=True)
class Pause:
    """Consecutive time without a result.

    Attributes:
        start_sample: on the stream's 16 kHz clock.
        end_sample: end, not included.
        reason: as of :class:`~stream_server.wire.results.Gap`.
    """

    start_sample: int
    end_sample: int
    reason: str


Tile = Stretch | Pause


@dataclass(slots=True)
class _Mean:
    """Sums over points, weighted by the speech they tell of."""

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


class StretchTracker:
    """Takes the results of one channel, in order.

    Args:
        labels: names of the classes, in the order of posteriors.
    """

    def __init__(self, labels: Sequence[str]) -> None:
        self._labels = tuple(labels)
        self._points: deque[Point] = deque()
        self._older = _Mean()
        self._waiting: list[Segment | Gap] = []
        self._tiled = 0  # end of the last tile
        self._told = 0  # end of what was told of a stretch before its end
        self._goes_on = False  # speech followed the last tile at once
        self._pause_since: int | None = None

    @property
    def pause_since(self) -> int | None:
        """Where the speech before the present pause ended; None: nobody spoke yet, or speaks."""
        return self._pause_since

    def take(self, result: Point | Segment | Gap) -> list[Tile]:
        """Take a result; return what is final by it, in order."""
        if isinstance(result, Point):
            self._points.append(result)
            if len(self._points) > _MAX_POINTS:
                self._older.add(self._points.popleft(), max(self._tiled, self._told), None)
            return self._release(result.label)
        if not result.final:
            return []
        self._waiting.append(result)
        # Only a segment needs its point.
        return self._release(None) if isinstance(self._waiting[0], Gap) else []

    def release(self) -> list[Tile]:
        """Return what waits for a point that does not come."""
        return self._release(None)

    def current(self) -> Stretch | None:
        """Return the state of the speech that goes on, as its last point tells it."""
        start = max(self._tiled, self._told)
        if not self._points or self._pause_since is not None:
            return None
        point = self._points[-1]
        if point.end_sample <= start:
            return None
        return Stretch(
            start_sample=start,
            end_sample=point.end_sample,
            label=point.label,
            confidence=point.confidence,
            posteriors=point.posteriors,
            speech_share=point.speech_share,
            provisional=point.provisional,
            narrow_band=point.narrow_band,
            goes_on=False,
            follows_pause=not self._goes_on,
        )

    def cut(self) -> Stretch | None:
        """Return what is there of the speech that goes on; what comes of it is told apart.

        What waits has to be released first. None: nobody speaks.
        """
        current = self.current()
        if current is None:
            return None
        stretch = self._stretch(current.start_sample, current.end_sample, current.label, None)
        self._told = current.end_sample
        self._older = _Mean()
        return stretch

    def _release(self, label: str | None) -> list[Tile]:
        """Let all tiles go that wait; ``label`` is that of the point they waited for."""
        tiles: list[Tile] = []
        for index, tile in enumerate(self._waiting):
            if isinstance(tile, Gap):
                tiles.append(Pause(tile.start_sample, tile.end_sample, tile.reason))
                self._goes_on, self._pause_since = False, None
            else:
                later = self._waiting[index + 1 : index + 2]
                if later:
                    goes_on = isinstance(later[0], Segment)
                else:
                    goes_on = label is not None and label != tile.label
                tiles += self._close(tile, goes_on)
            self._tiled = tile.end_sample
        self._waiting.clear()
        while self._points and self._points[0].end_sample <= self._tiled and len(self._points) > 1:
            self._points.popleft()
        return tiles

    def _close(self, segment: Segment, goes_on: bool) -> list[Tile]:
        start = max(segment.start_sample, self._told)
        confidence = segment.confidence if start == segment.start_sample else None
        stretch = self._stretch(
            start, segment.end_sample, segment.label, confidence, goes_on=goes_on
        )
        self._older = _Mean()
        self._goes_on = goes_on
        self._pause_since = None if goes_on else segment.end_sample
        is_rest = start > segment.start_sample
        least = _LEAST_SAMPLES if is_rest else 1
        return [stretch] if segment.end_sample - start >= least else []

    def _stretch(
        self, start: int, end: int, label: str, confidence: float | None, *, goes_on: bool = False
    ) -> Stretch:
        mean = self._older
        for point in self._points:
            mean.add(point, start, end)
        posteriors = mean.posteriors
        believed = self._labels.index(label)
        if posteriors and confidence is None:
            confidence = round(posteriors[believed], _DECIMALS)
        confidence = confidence or 0.0
        return Stretch(
            start_sample=start,
            end_sample=end,
            label=label,
            confidence=confidence,
            posteriors=_agreeing(posteriors, believed, confidence),
            speech_share=round(mean.speech_share, _DECIMALS),
            provisional=mean.provisional and mean.samples > 0,
            narrow_band=mean.narrow_band,
            goes_on=goes_on,
            follows_pause=not self._goes_on,
        )


def _agreeing(posteriors: tuple[float, ...], believed: int, confidence: float) -> tuple[float, ...]:
    """Return posteriors with the given one for the class that is believed.

    Points tell of the ends of their zones, a segment of its frames: near a change they differ.
    """
    if not posteriors:
        return ()
    others = sum(posteriors) - posteriors[believed]
    share = (1.0 - confidence) / others if others > 0 else 0.0
    scaled = [round(value * share, _DECIMALS) for value in posteriors]
    scaled[believed] = confidence
    return tuple(scaled)
