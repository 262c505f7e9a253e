"""The results of a session, numbered in the order they fall due.

The engine's events of each channel come here, and what is about the stream as a whole: its
beginning, marks and flushes that were reached, warnings, alerts, summary and end.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec
from msgspec.structs import replace

from ser_engine.frames import samples_to_s
from ser_engine.schema import ChannelSummary, Event, Gap, Point, Segment
from ser_engine.timeline.course import Course
from stream_server.wire import results
from stream_server.wire.errors import ErrorCode, ProtocolError
from stream_server.wire.results import Flushed, Marked, Result, StreamChannel, in_envelope
from stream_server.wire.start import StreamSpec

MAX_WAITING_MARKERS = 1000
"""Marks and flushes that may wait; a client that sends more is closed."""

R = TypeVar("R", bound=Result)


@dataclass(frozen=True, slots=True)
class _Marker:
    at_sample: int
    mark: str | None  # None: a flush


class ResultLog:
    """Numbers the results of one stream and keeps them until they are taken."""

    def __init__(self, stream_id: str) -> None:
        self.next_seq = 0
        self._stream_id = stream_id
        self._results: list[Result] = []
        self._markers: deque[_Marker] = deque()

    def publish(self, kind: type[R], found: msgspec.Struct | None = None, **fields: Any) -> R:
        """Publish a result of ``kind``, made from what was ``found``, if given, and ``fields``."""
        envelope = {"stream_id": self._stream_id, "seq": self.next_seq, **fields}
        result = kind(**envelope) if found is None else in_envelope(kind, found, **envelope)
        # Counted only now: a result that cannot be made must leave no hole.
        self.next_seq += 1
        self._results.append(result)
        return result

    def take(self) -> list[Result]:
        """Return the results since the last call, in order."""
        taken, self._results = self._results, []
        return taken

    def mark(self, at_sample: int, mark: str | None) -> None:
        """Let a mark, or a flush for None, wait until what is before it is published.

        Raises:
            ProtocolError: too many wait.
        """
        if len(self._markers) >= MAX_WAITING_MARKERS:
            raise ProtocolError(
                ErrorCode.TOO_MANY_MESSAGES,
                f"got a mark or flush while {MAX_WAITING_MARKERS} wait for their audio to be"
                " scored, send fewer",
            )
        self._markers.append(_Marker(at_sample, mark))

    def publish_markers(self, is_accounted: Callable[[int], bool]) -> None:
        """Publish the marks and flushes whose position is accounted for."""
        while self._markers and is_accounted(self._markers[0].at_sample):
            marker = self._markers.popleft()
            at_sample, at_s = marker.at_sample, samples_to_s(marker.at_sample)
            if marker.mark is None:
                self.publish(Flushed, at_sample=at_sample, at_s=at_s)
            else:
                self.publish(Marked, name=marker.mark, at_sample=at_sample, at_s=at_s)


class ChannelResults:
    """Publishes the events of one analysed channel, and adds them up.

    Args:
        log: of the stream.
        channel: index of the channel.
        role: of the channel.
        model: name of the model that scores it.
    """

    def __init__(self, log: ResultLog, channel: int, role: str, model: str) -> None:
        self._log = log
        self._channel = channel
        self._role = role
        self._model = model
        self._label_samples: Counter[str] = Counter()
        self._unclear_samples = 0
        self._course = Course()
        self._gap_samples: Counter[str] = Counter()
        self._points = 0

    def publish(self, event: Event, *, narrow_band: bool) -> None:
        """Publish an event; ``narrow_band`` is said of points only."""
        about = {"channel": self._channel, "role": self._role}
        match event:
            case Point():
                self._points += 1
                point = replace(event, narrow_band=narrow_band)
                self._log.publish(results.Point, point, model=self._model, **about)
            case Segment():
                # Interim versions are replaced by later ones; only final ones tile the stream.
                if event.final:
                    self._course.take(event)
                    num_samples = event.end_sample - event.start_sample
                    if event.label is None:
                        self._unclear_samples += num_samples
                    else:
                        self._label_samples[event.label] += num_samples
                self._log.publish(results.Segment, event, **about)
            case Gap():
                if event.final:
                    self._course.take(event)
                    self._gap_samples[event.reason] += event.end_sample - event.start_sample
                self._log.publish(results.Gap, event, **about)

    def summary(self) -> ChannelSummary:
        """Return the sums in seconds."""
        return ChannelSummary(
            channel=self._channel,
            role=self._role,
            scored_s=samples_to_s(self._label_samples.total() + self._unclear_samples),
            label_s=_seconds(self._label_samples),
            unclear_s=samples_to_s(self._unclear_samples),
            gap_s=_seconds(self._gap_samples),
            points=self._points,
            whole=self._course.whole(),
        )


def stream_channels(spec: StreamSpec, analyse_roles: Collection[str]) -> tuple[StreamChannel, ...]:
    """Return the channels of a stream as results describe them.

    Raises:
        ProtocolError: none has a role that is analysed.
    """
    channels = tuple(
        StreamChannel(
            index=index,
            role=channel.role,
            name=channel.name,
            analysed=channel.role in analyse_roles,
        )
        for index, channel in enumerate(spec.channels)
    )
    if not any(channel.analysed for channel in channels):
        roles = ", ".join(sorted({channel.role for channel in channels}))
        raise ProtocolError(
            ErrorCode.NOTHING_TO_ANALYSE,
            f"got channels with the roles {roles}, expected at least one of"
            f" {', '.join(analyse_roles)}",
        )
    return channels


def _seconds(samples: Counter[str]) -> dict[str, float]:
    return {name: samples_to_s(count) for name, count in sorted(samples.items())}
