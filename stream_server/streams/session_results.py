"""What is said of a channel when its stream has ended.

The results of a stream in the order of ``seq``.

What a session says of a stream as a whole: its channels, beginning, marks and end.

Marks and flushes that wait until the audio before them is accounted for.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import TypeVar

from ser_engine.frames import samples_to_s
from ser_engine.schema import Event, FrameDetail, Gap, Point, Segment
from ser_engine.types import ModelInfo
from stream_server.wire import results
from stream_server.wire.errors import ErrorCode, ProtocolError
from stream_server.wire.results import (
    ChannelSummary,
    CloseReason,
    Flushed,
    Marked,
    ModelNotice,
    Result,
    StreamChannel,
    StreamClosed,
    StreamOpened,
    Summary,
)
from stream_server.wire.start import StreamSpec

POSTERIOR_DECIMALS = 6
"""Digits posteriors are published with: a hundredth of what int8 or cached features change."""

R = TypeVar("R", bound=Result)


class ResultLog:
    """Numbers results and keeps them until they are taken.

    Args:
        stream_id: of the stream.
        model: name of the model, told by every point.
        labels: names of the classes.
    """

    def __init__(self, stream_id: str, model: str, labels: tuple[str, ...]) -> None:
        self._stream_id = stream_id
        self._model = model
        self._labels = labels
        self._next_seq = 0
        self._results: list[Result] = []

    @property
    def next_seq(self) -> int:
        """Number of the next result."""
        return self._next_seq

    def publish(self, make: Callable[[int], R]) -> R:
        """Number and keep the result that ``make`` returns for its ``seq``; return it."""
        result = make(self._next_seq)
        self._next_seq += 1
        self._results.append(result)
        return result

    def take(self) -> list[Result]:
        """Return the results since the last call, in order."""
        taken, self._results = self._results, []
        return taken

    def event(self, channel: int, role: str, event: Event, *, narrow_band: bool) -> None:
        """Publish what the engine's streaming core says of a channel."""
        match event:
            case Point():
                self._point(channel, role, event, narrow_band=narrow_band)
            case Segment():
                self._segment(channel, role, event)
            case Gap():
                self._gap(channel, role, event)

    def _point(self, channel: int, role: str, event: Point, *, narrow_band: bool) -> None:
        self.publish(
            lambda seq: results.Point(
                stream_id=self._stream_id,
                seq=seq,
                channel=channel,
                role=role,
                start_sample=event.start_sample,
                end_sample=event.end_sample,
                start_s=event.start_s,
                end_s=event.end_s,
                posteriors=_rounded(event.posteriors),
                label=event.label,
                confidence=round(event.confidence, POSTERIOR_DECIMALS),
                speech_share=round(event.speech_share, POSTERIOR_DECIMALS),
                provisional=event.provisional,
                widened=event.widened,
                narrow_band=narrow_band,
                model=self._model,
                frames=None if event.frames is None else self._frames(event.frames),
            )
        )

    def _segment(self, channel: int, role: str, event: Segment) -> None:
        self.publish(
            lambda seq: results.Segment(
                stream_id=self._stream_id,
                seq=seq,
                channel=channel,
                role=role,
                start_sample=event.start_sample,
                end_sample=event.end_sample,
                start_s=event.start_s,
                end_s=event.end_s,
                label=event.label,
                confidence=round(event.confidence, POSTERIOR_DECIMALS),
                final=event.final,
            )
        )

    def _gap(self, channel: int, role: str, event: Gap) -> None:
        self.publish(
            lambda seq: results.Gap(
                stream_id=self._stream_id,
                seq=seq,
                channel=channel,
                role=role,
                start_sample=event.start_sample,
                end_sample=event.end_sample,
                start_s=event.start_s,
                end_s=event.end_s,
                reason=event.reason,
                final=event.final,
            )
        )

    def _frames(self, frames: FrameDetail) -> results.Frames:
        return results.Frames(
            start_samples=tuple(frames.start_samples.tolist()),
            hop_samples=frames.hop_samples,
            posteriors=tuple(_rounded(row) for row in frames.posteriors.tolist()),
            labels=tuple(self._labels[label] for label in frames.labels.tolist()),
        )


def _rounded(posteriors: list[float] | tuple[float, ...]) -> tuple[float, ...]:
    return tuple([round(posterior, POSTERIOR_DECIMALS) for posterior in posteriors])


def stream_channels(spec: StreamSpec, analyse_roles: Collection[str]) -> tuple[StreamChannel, ...]:
    """Return the channels of a stream as the server sees them.

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


class Framing:
    """Publishes the results that are about no channel alone.

    Args:
        stream_id: of the stream.
        log: where results go.
    """

    def __init__(self, stream_id: str, log: ResultLog) -> None:
        self._stream_id = stream_id
        self._log = log

    def opened(
        self,
        spec: StreamSpec,
        channels: tuple[StreamChannel, ...],
        model: ModelInfo,
        step_ms: int,
        at: float,
    ) -> None:
        """Say that the stream began at ``at``, seconds since 1970."""
        self._log.publish(
            lambda seq: StreamOpened(
                stream_id=self._stream_id,
                seq=seq,
                name=spec.name,
                channels=channels,
                model=ModelNotice(name=model.name, licence=model.licence, notice=model.notice),
                labels=model.labels.names,
                metadata=spec.metadata,
                sample_rate=spec.format.sample_rate_hz,
                encoding=spec.format.encoding,
                step_ms=step_ms,
                opened_at=at,
            )
        )

    def note(self, note: Note) -> None:
        """Tell a client that its mark or flush was reached."""
        at_sample, at_s = note.at_sample, samples_to_s(note.at_sample)
        mark, stream_id = note.mark, self._stream_id
        if mark is None:
            self._log.publish(
                lambda seq: Flushed(stream_id=stream_id, seq=seq, at_sample=at_sample, at_s=at_s)
            )
        else:
            self._log.publish(
                lambda seq: Marked(
                    stream_id=stream_id, seq=seq, name=mark, at_sample=at_sample, at_s=at_s
                )
            )

    def closed(
        self,
        reason: CloseReason,
        at: float,
        *,
        clock_samples: int,
        received_samples: int,
        channels: tuple[ChannelSummary, ...],
        alerts: int,
    ) -> None:
        """Sum up, and say that the stream ended at ``at``, seconds since 1970."""
        self._log.publish(
            lambda seq: Summary(
                stream_id=self._stream_id,
                seq=seq,
                reason=reason,
                duration_s=samples_to_s(clock_samples),
                received_samples=received_samples,
                channels=channels,
                alerts=alerts,
            )
        )
        self._log.publish(
            lambda seq: StreamClosed(
                stream_id=self._stream_id, seq=seq, reason=reason, closed_at=at
            )
        )


MAX_WAITING_NOTES = 1000
"""Marks and flushes that may wait; a client that sends more is sent away."""


@dataclass(frozen=True, slots=True)
class Note:
    """Something to publish at a position.

    Attributes:
        at_sample: where, on the stream's clock.
        mark: name of the mark; None: a flush.
    """

    at_sample: int
    mark: str | None


class Notes:
    """A queue in the order of positions."""

    def __init__(self) -> None:
        self._waiting: deque[Note] = deque()

    def add(self, note: Note) -> None:
        """Let a note wait; its position is not before those of others.

        Raises:
            ProtocolError: too many wait.
        """
        if len(self._waiting) >= MAX_WAITING_NOTES:
            raise ProtocolError(
                ErrorCode.TOO_MANY_MESSAGES,
                f"got a mark or flush while {MAX_WAITING_NOTES} wait for their audio to be scored,"
                " expected fewer",
            )
        self._waiting.append(note)

    def take_due(self, is_due: Callable[[int], bool]) -> Iterator[Note]:
        """Yield the notes, in order, as long as their positions are due."""
        while self._waiting and is_due(self._waiting[0].at_sample):
            yield self._waiting.popleft()


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
