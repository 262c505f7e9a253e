"""The results of a stream in the order of ``seq``."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from ser_engine.events import Event, FrameDetail, Gap, Point, Segment
from stream_server.protocol import results
from stream_server.protocol.results import Result

__all__ = ["POSTERIOR_DECIMALS", "ResultLog"]

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
