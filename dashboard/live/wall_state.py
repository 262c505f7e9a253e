"""The state of every live stream, for the wall. Pure: no clock, no sockets.

A channel's score is an exponential average over its recent past: of ``x = Σ weight · posterior``
at a point that covers ``dt`` seconds, and of ``x = 0`` where it is unclear and in a gap::

    score ← score · e^(−dt/memory) + x · (1 − e^(−dt/memory))

So tiles do not change places with every word, and a channel that calms down or falls silent moves
back.
"""

from __future__ import annotations

import math
from collections import OrderedDict, deque
from collections.abc import Iterable

import msgspec

from dashboard.config import WallConfig
from dashboard.live.tiles import (
    ChangedChannel,
    ChangedTile,
    Tile,
    TileAlert,
    TileChannel,
    TrendEntry,
)
from ser_engine.schema import GapReason
from ser_engine.timeline.course import StateTracker
from stream_server.wire.results import (
    Alert,
    Consent,
    Gap,
    Point,
    Result,
    Segment,
    StreamChannel,
    StreamClosed,
    StreamOpened,
)

TREND_S = 180
TREND_BUCKET_S = 5


class WallChannel:
    """One channel of a live stream.

    Attributes:
        label, confidence, since_s, speaking: as in a tile.
        score: how much it needs attention, see above.
        label_s: seconds of points by label; those without one by None.
        trend_version: grows with the trend.
    """

    def __init__(self, spec: StreamChannel, labels: tuple[str, ...], config: WallConfig) -> None:
        self.spec = spec
        self.label: str | None = None
        self.confidence: float | None = None
        self.since_s: float | None = None
        self.speaking = False
        self.score = 0.0
        self.label_s: dict[str | None, float] = {}
        self._trend: deque[TrendEntry] = deque(maxlen=TREND_S // TREND_BUCKET_S)
        self.trend_version = 0
        self._weights = [config.weights.get(label, 0.0) for label in labels]
        self._memory_s = config.memory_s
        self._known_to_s = 0.0
        self._bucket = -1
        self._bucket_s = 0.0
        self._states = StateTracker()
        self._labels_s: dict[str | None, float] = {}
        self._confidence_s: dict[str | None, float] = {}

    def point(self, point: Point) -> None:
        """Apply a point."""
        self.label, self.confidence = point.label, round(point.confidence, 3)
        self.speaking = True
        self._states.point(point)
        span_s = point.end_s - point.start_s
        self.label_s[point.label] = self.label_s.get(point.label, 0.0) + span_s
        badness = sum(
            weight * posterior
            # Not strict: a point of unexpected length must not stop the wall of all streams.
            for weight, posterior in zip(self._weights, point.posteriors, strict=False)
            # What nobody should believe does not bring a call to the front.
            if point.label is not None
        )
        self._average(badness, point.end_s)
        # A point counts where it starts: it is much shorter than a bucket.
        bucket = int(point.start_s // TREND_BUCKET_S)
        if bucket != self._bucket:
            self._close_bucket(bucket)
        self._bucket_s += span_s
        # Weighted by time: under load the step widens, and points are longer.
        label = point.label
        self._labels_s[label] = self._labels_s.get(label, 0.0) + span_s
        self._confidence_s[label] = self._confidence_s.get(label, 0.0) + point.confidence * span_s

    def segment(self, segment: Segment) -> None:
        """Apply a segment."""
        self.since_s = round(segment.start_s, 2)

    def gap(self, gap: Gap) -> None:
        """Apply a gap."""
        # A gap may be published after the point that follows it.
        if gap.end_s >= self._known_to_s:
            self.speaking = False
        self._average(0.0, gap.end_s)

    def _average(self, badness: float, end_s: float) -> None:
        span_s = end_s - self._known_to_s
        # An interim gap is published again and again while it grows.
        if span_s <= 0:
            return
        kept = math.exp(-span_s / self._memory_s)
        self.score = self.score * kept + badness * (1 - kept)
        self._known_to_s = end_s

    def _close_bucket(self, next_bucket: int) -> None:
        if self._bucket_s:
            longest = max(self._labels_s, key=self._labels_s.__getitem__)
            mean = self._confidence_s[longest] / self._labels_s[longest]
            start_s = float(self._bucket * TREND_BUCKET_S)
            self._trend.append((start_s, longest, round(mean, 2)))
            self.trend_version += 1
        # maxlen counts entries; after a long silence old ones leave by their time.
        oldest_s = (next_bucket + 1) * TREND_BUCKET_S - TREND_S
        while self._trend and self._trend[0][0] < oldest_s:
            self._trend.popleft()
        self._bucket, self._bucket_s = next_bucket, 0.0
        self._labels_s, self._confidence_s = {}, {}

    def whole(self) -> TileChannel:
        """Return all of it, for a page that has nothing yet."""
        return TileChannel(
            channel=self.spec.index,
            role=self.spec.role,
            name=self.spec.name,
            analysed=self.spec.analysed,
            label=self.label,
            confidence=self.confidence,
            since_s=self.since_s,
            speaking=self.speaking,
            state=self._states.state,
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
            state=self._states.state,
            trend=list(self._trend) if with_trend else msgspec.UNSET,
        )


# Ended streams whose ids are kept: their last results may not be stored yet.
_RECENT = 256

_encode = msgspec.json.Encoder().encode


class _Stream:
    """One live stream, and what is sent of it, encoded once for all pages."""

    def __init__(self, opened: StreamOpened, config: WallConfig) -> None:
        self.opened = opened
        self.channels = {
            spec.index: WallChannel(spec, opened.labels, config) for spec in opened.channels
        }
        self.alerts: dict[str, TileAlert] = {}
        self.duration_s = 0.0
        self.withheld: GapReason | None = None
        self._alert_weights = config.alert_weights
        self._texts: dict[str, bytes] = {}

    @property
    def trend_version(self) -> int:
        return sum(channel.trend_version for channel in self.channels.values())

    def take(self, result: Result) -> None:
        self._texts.clear()
        end_s = getattr(result, "end_s", getattr(result, "at_s", 0.0))
        self.duration_s = max(self.duration_s, end_s)
        match result:
            case Point() | Segment() | Gap() if result.channel in self.channels:
                channel = self.channels[result.channel]
                match result:
                    case Point():
                        channel.point(result)
                    case Segment():
                        channel.segment(result)
                    case Gap():
                        channel.gap(result)
            case Alert(state="raised"):
                self.alerts[result.alert_id] = _tile_alert(result)
            case Consent():
                self.withheld = result.withheld
            case Alert():  # cleared
                self._clear(result)
            case _:
                pass

    def _clear(self, cleared: Alert) -> None:
        alert = self.alerts.get(cleared.alert_id)
        if alert is None:
            return
        if alert.acknowledged:
            del self.alerts[alert.alert_id]
        else:
            # It stays until somebody has seen it: a tile without it would be a false all-clear.
            self.alerts[alert.alert_id] = msgspec.structs.replace(
                alert, cleared_s=round(cleared.at_s, 2)
            )

    def acknowledge(self, alert_id: str) -> bool:
        alert = self.alerts.get(alert_id)
        if alert is None:
            return False
        self._texts.clear()
        if alert.cleared_s is None:
            self.alerts[alert_id] = msgspec.structs.replace(alert, acknowledged=True)
        else:
            del self.alerts[alert_id]
        return True

    def shown_alerts(self) -> list[TileAlert]:
        """Return one alert for each rule and channel, so that a long call's tile stays small."""
        groups: dict[tuple[str, int], list[TileAlert]] = {}
        for alert in self.alerts.values():
            groups.setdefault((alert.rule, alert.channel), []).append(alert)
        return [
            msgspec.structs.replace(
                max(group, key=_urgency),
                times=max(1, sum(not alert.acknowledged for alert in group)),
            )
            for group in groups.values()
        ]

    @property
    def worst(self) -> float:
        scores = (channel.score for channel in self.channels.values())
        weights = (
            self._alert_weights.get(alert.severity, 0.0) * (1.0 if alert.cleared_s is None else 0.5)
            for alert in self.alerts.values()
            if not alert.acknowledged
        )
        # The worst channel and the worst alert: a calm agent must not dilute an angry customer.
        return round(max(scores, default=0.0) + max(weights, default=0.0), 3)

    def tile(self) -> Tile:
        opened = self.opened
        return Tile(
            stream_id=opened.stream_id,
            name=opened.name,
            team=opened.team,
            roles=[channel.role for channel in opened.channels],
            model=opened.model.name,
            opened_at=opened.opened_at,
            duration_s=round(self.duration_s, 2),
            channels=[channel.whole() for channel in self.channels.values()],
            alerts=self.shown_alerts(),
            worst=self.worst,
            withheld=self.withheld,
        )

    def whole_text(self) -> bytes:
        if "whole" not in self._texts:
            self._texts["whole"] = _encode(self.tile())
        return self._texts["whole"]

    def changed_text(self, with_trend: bool) -> bytes:
        key = "trend" if with_trend else "brief"
        if key not in self._texts:
            changed = ChangedTile(
                stream_id=self.opened.stream_id,
                duration_s=round(self.duration_s, 2),
                channels=[channel.changed(with_trend) for channel in self.channels.values()],
                alerts=self.shown_alerts(),
                worst=self.worst,
                withheld=self.withheld,
            )
            self._texts[key] = _encode(changed)
        return self._texts[key]


class WallState:
    """All live streams."""

    def __init__(self, config: WallConfig) -> None:
        self._config = config
        self._streams: dict[str, _Stream] = {}
        self._recent: OrderedDict[str, None] = OrderedDict()

    def __contains__(self, stream_id: str) -> bool:
        """Whether a stream is live."""
        return stream_id in self._streams

    def __len__(self) -> int:
        """Return how many streams are live."""
        return len(self._streams)

    def feed(self, results: Iterable[Result]) -> set[str]:
        """Apply results; return the streams whose tiles changed."""
        changed = set()
        for result in results:
            stream_id = result.stream_id
            if isinstance(result, StreamOpened):
                self._streams[stream_id] = _Stream(result, self._config)
            elif isinstance(result, StreamClosed):
                self._streams.pop(stream_id, None)
                self._recent[stream_id] = None
                if len(self._recent) > _RECENT:
                    self._recent.popitem(last=False)
            elif stream_id in self._streams:
                self._streams[stream_id].take(result)
            else:
                continue  # opened before this wall began to follow the bus
            changed.add(stream_id)
        return changed

    def acknowledge(self, alert_id: str) -> set[str]:
        """Mark an alert as acknowledged; return the streams whose tiles changed."""
        return {key for key, stream in self._streams.items() if stream.acknowledge(alert_id)}

    def is_recent(self, stream_id: str) -> bool:
        """Return whether a stream is live, or ended recently."""
        return stream_id in self._streams or stream_id in self._recent

    def tiles(self) -> list[Tile]:
        """Return all tiles, the worst first."""
        streams = sorted(self._streams.values(), key=lambda stream: -stream.worst)
        return [stream.tile() for stream in streams]

    def tile(self, stream_id: str) -> Tile | None:
        """Return one tile, None if the stream is not live."""
        stream = self._streams.get(stream_id)
        return None if stream is None else stream.tile()

    def opened(self) -> list[StreamOpened]:
        """Return the first message of each live stream, newest first."""
        return [stream.opened for stream in reversed(self._streams.values())]

    def label_s(self, stream_id: str) -> dict[str | None, float]:
        """Return seconds of points by label of a live stream, over its channels."""
        stream = self._streams.get(stream_id)
        total: dict[str | None, float] = {}
        for channel in stream.channels.values() if stream is not None else ():
            for label, seconds in channel.label_s.items():
                total[label] = total.get(label, 0.0) + seconds
        return total

    # JSON for pages. A tile is encoded once for all of them, until its next result.

    def stream_ids(self) -> list[str]:
        """Return the live streams, the worst first."""
        return sorted(self._streams, key=lambda key: -self._streams[key].worst)

    def trend_version(self, stream_id: str) -> int:
        """Return a number that grows with the trend of a stream; -1: the stream is not live."""
        stream = self._streams.get(stream_id)
        return -1 if stream is None else stream.trend_version

    def team(self, stream_id: str) -> str:
        """Return whose a live stream is."""
        return self._streams[stream_id].opened.team

    def whole_text(self, stream_id: str) -> bytes:
        """Return a :class:`Tile` as JSON."""
        return self._streams[stream_id].whole_text()

    def changed_text(self, stream_id: str, *, with_trend: bool) -> bytes:
        """Return a :class:`ChangedTile` as JSON."""
        return self._streams[stream_id].changed_text(with_trend)


def _urgency(alert: TileAlert) -> tuple[bool, bool, float]:
    return (not alert.acknowledged, alert.cleared_s is None, alert.at_s)


def _tile_alert(alert: Alert) -> TileAlert:
    return TileAlert(
        alert_id=alert.alert_id,
        rule=alert.rule,
        severity=alert.severity,
        channel=alert.channel,
        role=alert.role,
        since_s=alert.since_s,
        at_s=alert.at_s,
        acknowledged=False,
    )
