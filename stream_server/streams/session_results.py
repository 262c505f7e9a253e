"""The results of a session, numbered in the order they fall due.

The engine's events of each analysed channel come here, and what is about the stream as a whole: its
beginning, marks and flushes that were reached, warnings, alerts, summary and end. Where speakers
are told apart, the events of a channel wait here until it is decided who speaks in them.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec
from msgspec.structs import replace

from ser_engine.frames import RECEPTIVE_FIELD_SAMPLES, samples_to_s
from ser_engine.raw_audio import FormatCheck
from ser_engine.schema import (
    ChannelMeasures,
    ChannelSummary,
    Event,
    Gap,
    GapReason,
    Point,
    Segment,
)
from ser_engine.speakers.attribution import Attribution, speaker_name
from ser_engine.speakers.pieces import VoicePiece
from ser_engine.timeline import ChannelStream
from ser_engine.timeline.course import Course
from ser_engine.timeline.quality import Finding, QualityCode, QualityMonitor
from ser_engine.types import FloatArray, Window
from stream_server.wire import results
from stream_server.wire.errors import ErrorCode, ProtocolError
from stream_server.wire.results import Flushed, Marked, Result, StreamChannel, Warning, in_envelope
from stream_server.wire.start import StreamSpec

MAX_WAITING_MARKERS = 1000
"""Marks and flushes that may wait; a client that sends more is closed."""

ChannelWindow = tuple[int, Window]
"""A window to be scored, and the index of its channel."""

_OF_NOISE: frozenset[QualityCode] = frozenset(("clipping", "too_quiet", "noisy"))
"""What is found of audio in a format that was told wrongly; turning the gain down helps nothing."""

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


class AnalysedChannel:
    """One analysed channel: the engine's timeline of it, who speaks, and its results, added up.

    Args:
        stream: its timeline.
        quality: what ``stream`` hears through.
        attribution: tells its speakers apart; None: they are not told apart.
    """

    def __init__(
        self,
        *,
        log: ResultLog,
        index: int,
        role: str,
        model: str,
        stream: ChannelStream,
        quality: QualityMonitor,
        attribution: Attribution | None,
    ) -> None:
        self.stream = stream
        self.index = index
        self._log = log
        self._role = role
        self._model = model
        self._quality = quality
        self._attribution = attribution
        self._held: list[Finding] = []
        self._label_samples: Counter[str] = Counter()
        self._unclear_samples = 0
        self._course = Course()
        self._gap_samples: Counter[str] = Counter()
        self._points = 0

    @property
    def published_samples(self) -> int:
        """Everything before this sample is published, save what goes on."""
        accounted = self.stream.accounted_samples
        if self._attribution is None:
            return accounted
        return min(accounted, self._attribution.released_to)

    def is_accounted(self, sample: int) -> bool:
        """Whether all frames before ``sample`` are published that were complete there."""
        # A frame reads 400 samples: the last slots before a mark are complete only after it.
        return self.published_samples + RECEPTIVE_FIELD_SAMPLES > sample

    def due(self, windows: list[Window]) -> list[ChannelWindow]:
        """Publish what fell due along with ``windows``; return these with the channel's index."""
        self.publish(self.stream.take_events())
        return [(self.index, window) for window in windows]

    def publish(self, events: Iterable[Event]) -> None:
        """Publish events; where speakers are told apart, by the next :meth:`release`."""
        if self._attribution is not None:
            self._attribution.take(events)
        else:
            self._publish(events)

    def publish_findings(self, check: FormatCheck, *, is_over: bool = False) -> None:
        """Publish what is wrong with the audio; nothing of noise that a wrong format makes."""
        self._held += self._quality.take_findings()
        held, self._held = self._held, []
        for finding in held:
            if finding.code in _OF_NOISE:
                if not (is_over or check.is_settled):
                    self._held.append(finding)
                    continue
                if check.finding is not None:
                    continue
            self._log.publish(
                Warning,
                code=finding.code,
                channel=self.index,
                message=finding.message,
                at_s=finding.at_s,
            )

    def close(self, reason: GapReason) -> ChannelSummary:
        """Publish everything that is left, speech without an answer as a gap; return the sums."""
        self.publish(self.stream.close(reason))
        if self._attribution is not None:
            self._publish(self._attribution.finish())
        return ChannelSummary(
            channel=self.index,
            role=self._role,
            scored_s=samples_to_s(self._label_samples.total() + self._unclear_samples),
            label_s=_seconds(self._label_samples),
            unclear_s=samples_to_s(self._unclear_samples),
            gap_s=_seconds(self._gap_samples),
            points=self._points,
            whole=self._course.whole(),
        )

    # -- speakers; without an attribution there is nobody, and nothing waits -----------------------

    def release(self) -> None:
        """Publish what waited until it was decided who speaks."""
        if self._attribution is not None:
            self._publish(self._attribution.release())

    def flush_speakers(self) -> None:
        """Decide who speaks in what came, as soon as the voices are answered."""
        if self._attribution is not None:
            self._attribution.speakers.flush()

    def take_pieces(self) -> list[VoicePiece]:
        return [] if self._attribution is None else self._attribution.speakers.take_pieces()

    def accept_voice(self, piece: VoicePiece, vector: FloatArray | None) -> None:
        """Take the vector of a piece, in any order; None: there will be none."""
        if self._attribution is not None:
            self._attribution.speakers.accept(piece, vector)

    def leave_out(self, speaker: str, is_left_out: bool) -> bool:
        if self._attribution is None:
            return False
        numbers = {speaker_name(number): number for number in range(self._attribution.num_speakers)}
        if speaker not in numbers:
            return False
        self._attribution.leave_out(numbers[speaker], is_left_out)
        return True

    def with_speakers(self, measures: ChannelMeasures) -> ChannelMeasures:
        """Return the measures of this channel with those of each who speaks in it."""
        if self._attribution is None:
            return measures
        return replace(measures, speakers=self._attribution.measures())

    def _publish(self, events: Iterable[Event]) -> None:
        about = {"channel": self.index, "role": self._role}
        for event in events:
            match event:
                case Point():
                    self._points += 1
                    is_narrow = self._quality.narrow_band_at(event.end_sample)
                    point = replace(event, narrow_band=is_narrow)
                    self._log.publish(results.Point, point, model=self._model, **about)
                case Segment():
                    self._log.publish(results.Segment, event, **about)
                    self._add(event)
                case Gap():
                    self._log.publish(results.Gap, event, **about)
                    self._add(event)

    def _add(self, event: Segment | Gap) -> None:
        # Interim versions are replaced by later ones; only final ones tile the stream.
        if not event.final:
            return
        self._course.take(event)
        num_samples = event.end_sample - event.start_sample
        if isinstance(event, Gap):
            self._gap_samples[event.reason] += num_samples
        elif event.label is None:
            self._unclear_samples += num_samples
        else:
            self._label_samples[event.label] += num_samples


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
