"""One channel of a live stream on the wall.

How bad a channel is, is an average over its recent past: at a point of ``x = Σ weight · posterior``
that tells of ``dt`` seconds, and in a gap with ``x = 0``::

    score ← score · e^(−dt/memory) + x · (1 − e^(−dt/memory))

so tiles do not change places with every word, and who has calmed down or fallen silent goes back.
"""

from __future__ import annotations

import math
from collections import deque

import msgspec

from dashboard.config import WallConfig
from dashboard.live.tiles import ChangedChannel, TileChannel, TrendEntry
from stream_server.protocol.message_base import StreamChannel
from stream_server.protocol.results import Gap, Point, Segment

__all__ = ["TREND_BUCKET_S", "TREND_S", "WallChannel"]

TREND_S = 180
TREND_BUCKET_S = 5


class WallChannel:
    """One channel of a live stream.

    Args:
        spec: the channel.
        labels: classes, in the order of posteriors.
        config: what comes first.

    Attributes:
        spec: the channel.
        label, confidence, since_s, speaking: as in a tile.
        score: how bad it is, see above.
        label_s: seconds of points by label.
        trend_version: grows with the trend.
    """

    def __init__(self, spec: StreamChannel, labels: tuple[str, ...], config: WallConfig) -> None:
        self.spec = spec
        self.label: str | None = None
        self.confidence: float | None = None
        self.since_s: float | None = None
        self.speaking = False
        self.score = 0.0
        self.label_s: dict[str, float] = {}
        self._trend: deque[TrendEntry] = deque(maxlen=TREND_S // TREND_BUCKET_S)
        self.trend_version = 0
        self._labels = labels
        self._weights = [config.weights.get(label, 0.0) for label in labels]
        self._memory_s = config.memory_s
        self._known_to_s = 0.0
        self._bucket = -1
        self._bucket_s = 0.0
        self._sums = [0.0] * len(labels)

    def point(self, point: Point) -> None:
        """Take note of a point."""
        self.label, self.confidence = point.label, round(point.confidence, 3)
        self.speaking = True
        span_s = point.end_s - point.start_s
        self.label_s[point.label] = self.label_s.get(point.label, 0.0) + span_s
        badness = sum(
            weight * posterior
            for weight, posterior in zip(self._weights, point.posteriors, strict=False)
        )
        self._average(badness, point.end_s)
        bucket = int(point.start_s // TREND_BUCKET_S)
        if bucket != self._bucket:
            self._close_bucket(bucket)
        self._bucket_s += span_s
        for index, posterior in enumerate(point.posteriors[: len(self._sums)]):
            self._sums[index] += posterior * span_s

    def segment(self, segment: Segment) -> None:
        """Take note of a segment."""
        self.since_s = round(segment.start_s, 2)

    def gap(self, gap: Gap) -> None:
        """Take note of a gap; one that comes after later speech does not end that."""
        if gap.end_s >= self._known_to_s:
            self.speaking = False
        self._average(0.0, gap.end_s)

    def _average(self, badness: float, end_s: float) -> None:
        span_s = end_s - self._known_to_s
        if span_s <= 0:
            return
        kept = math.exp(-span_s / self._memory_s)
        self.score = self.score * kept + badness * (1 - kept)
        self._known_to_s = end_s

    def _close_bucket(self, next_bucket: int) -> None:
        if self._bucket_s:
            best = max(range(len(self._sums)), key=self._sums.__getitem__)
            mean = self._sums[best] / self._bucket_s
            start_s = float(self._bucket * TREND_BUCKET_S)
            self._trend.append((start_s, self._labels[best], round(mean, 2)))
            self.trend_version += 1
        oldest_s = (next_bucket + 1) * TREND_BUCKET_S - TREND_S
        while self._trend and self._trend[0][0] < oldest_s:
            self._trend.popleft()
        self._bucket, self._bucket_s = next_bucket, 0.0
        self._sums = [0.0] * len(self._labels)

    def whole(self) -> TileChannel:
        """Return all there is to show."""
        return TileChannel(
            channel=self.spec.index,
            role=self.spec.role,
            name=self.spec.name,
            analysed=self.spec.analysed,
            label=self.label,
            confidence=self.confidence,
            since_s=self.since_s,
            speaking=self.speaking,
            trend=list(self._trend),
        )

    def changed(self, with_trend: bool) -> ChangedChannel:
        """Return what may have changed."""
        return ChangedChannel(
            channel=self.spec.index,
            label=self.label,
            confidence=self.confidence,
            since_s=self.since_s,
            speaking=self.speaking,
            trend=list(self._trend) if with_trend else msgspec.UNSET,
        )
