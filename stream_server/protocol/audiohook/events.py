"""Results as entities of AudioHook's ``event`` messages.

The platform limits how many messages it takes a second, so several results go into one: the
latest point of each channel and what else there is, once an interval of the audio. An alert goes
at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from stream_server.protocol.audiohook.durations import format_duration, to_duration
from stream_server.protocol.results import Alert, Gap, Point, Result, Segment, StreamClosed

__all__ = ["ALERT_TYPE", "POINT_TYPE", "SEGMENT_TYPE", "EventWriter"]

POINT_TYPE = "emotion.point"
SEGMENT_TYPE = "emotion.segment"
ALERT_TYPE = "emotion.alert"

_RESULT_RATE_HZ = 16_000
"""Rate of the clock that results count on."""
_MAX_HELD = 64
"""Entities of one message."""

Entity = Mapping[str, object]


class EventWriter:
    """Collects results until it is time to tell them.

    Args:
        channels: names of the stream's channels, ``external`` and ``internal``.
        labels: of the classes, in the order of posteriors.
        origin_ns: the platform's position of the stream's first sample.
        interval_ms: of the audio, between messages.
    """

    def __init__(
        self, channels: Sequence[str], labels: Sequence[str], origin_ns: int, interval_ms: int
    ) -> None:
        self._channels = channels
        self._labels = labels
        self._origin_ns = origin_ns
        self._interval_samples = interval_ms * _RESULT_RATE_HZ // 1000
        self._points: dict[int, Entity] = {}
        self._others: list[Entity] = []
        self._due_sample = self._interval_samples

    def add(self, result: Result) -> list[Entity]:
        """Take a result; return the entities to send now, if any."""
        match result:
            case Point():
                self._points[result.channel] = self._point(result)
            case Segment(final=True):
                self._others.append(self._segment(result))
            case Alert():
                self._others.append(self._alert(result))
                return self.flush()
            case StreamClosed():
                return self.flush()
        if isinstance(result, Point | Segment | Gap) and result.end_sample >= self._due_sample:
            self._due_sample = result.end_sample + self._interval_samples
            return self.flush()
        return self.flush() if len(self._others) >= _MAX_HELD else []

    def flush(self) -> list[Entity]:
        """Return what is held, points last."""
        held = [*self._others, *self._points.values()]
        self._others.clear()
        self._points.clear()
        return held

    def _point(self, point: Point) -> Entity:
        data = self._span(point) | {
            "label": point.label,
            "confidence": round(point.confidence, 4),
            "posteriors": {
                label: round(value, 4)
                for label, value in zip(self._labels, point.posteriors, strict=False)
            },
        }
        return {"type": POINT_TYPE, "data": data}

    def _segment(self, segment: Segment) -> Entity:
        data = self._span(segment) | {
            "label": segment.label,
            "confidence": round(segment.confidence, 4),
        }
        return {"type": SEGMENT_TYPE, "data": data}

    def _alert(self, alert: Alert) -> Entity:
        return {
            "type": ALERT_TYPE,
            "data": {
                "id": alert.alert_id,
                "rule": alert.rule,
                "state": alert.state,
                "severity": alert.severity,
                "channel": self._channels[alert.channel],
                "labels": alert.labels,
                "posterior": round(alert.posterior, 4),
                "since": self._position(alert.since_sample),
                "at": self._position(alert.at_sample),
            },
        }

    def _span(self, result: Point | Segment) -> dict[str, object]:
        return {
            "channel": self._channels[result.channel],
            "start": self._position(result.start_sample),
            "end": self._position(result.end_sample),
        }

    def _position(self, sample: int) -> str:
        return format_duration(self._origin_ns + to_duration(sample, _RESULT_RATE_HZ))
