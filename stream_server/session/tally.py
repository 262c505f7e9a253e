"""What is said of a channel when its stream has ended."""

from __future__ import annotations

from collections import Counter

from ser_engine.events import Event, Gap, Point, Segment
from ser_engine.frames import samples_to_s
from stream_server.protocol.results import ChannelSummary

__all__ = ["Tally"]


class Tally:
    """Adds up the final segments and gaps of one channel, in samples."""

    def __init__(self) -> None:
        self._label_samples: Counter[str] = Counter()
        self._gap_samples: Counter[str] = Counter()
        self._points = 0

    def add(self, event: Event) -> None:
        """Take note of an event."""
        match event:
            case Point():
                self._points += 1
            case Segment(final=True):
                self._label_samples[event.label] += event.end_sample - event.start_sample
            case Gap(final=True):
                self._gap_samples[event.reason] += event.end_sample - event.start_sample

    def summary(self, channel: int, role: str) -> ChannelSummary:
        """Return the sums in seconds."""
        return ChannelSummary(
            channel=channel,
            role=role,
            scored_s=samples_to_s(self._label_samples.total()),
            label_s=_seconds(self._label_samples),
            gap_s=_seconds(self._gap_samples),
            points=self._points,
        )


def _seconds(samples: Counter[str]) -> dict[str, float]:
    return {name: samples_to_s(count) for name, count in sorted(samples.items())}
