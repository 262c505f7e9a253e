"""What the analysis of a recording gives, as arrays and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ser_engine.events import Gap, Point, Segment
from ser_engine.frames import SAMPLE_RATE_HZ, samples_to_s
from ser_engine.types import FloatArray

__all__ = [
    "FrameResult",
    "Result",
    "StreamResult",
    "UtteranceResult",
    "rounded",
    "scores_of",
]

_DIGITS = 6


@dataclass(frozen=True, slots=True, eq=False)
class UtteranceResult:
    """One result for a whole recording.

    Attributes:
        labels: class names in the order of ``classes``.
        num_samples: length of the recording at 16 kHz.
        logits: float32 ``(classes,)``, mean over all frames.
        posteriors: float64 ``(classes,)``, sum 1.
        embedding: float32 ``(dim,)``, mean over all frames.
        level_dbfs: RMS level, in dB of full scale. The model hears an emotion in anything: where
            this is silence, the result means nothing.
    """

    labels: tuple[str, ...]
    num_samples: int
    logits: FloatArray
    posteriors: npt.NDArray[np.float64]
    embedding: FloatArray
    level_dbfs: float

    @property
    def emotion(self) -> str:
        """The strongest class."""
        return self.labels[int(self.posteriors.argmax())]

    @property
    def confidence(self) -> float:
        """Its posterior, 0 to 1."""
        return float(self.posteriors.max())

    def to_json(self, *, scores: bool = False) -> dict[str, Any]:
        """Return ``emotion``, ``confidence`` and ``granularity``; with ``scores``, all classes."""
        body: dict[str, Any] = {
            "emotion": self.emotion,
            "confidence": round(self.confidence, _DIGITS),
            "granularity": "utterance",
        }
        if scores:
            body["scores"] = scores_of(self.labels, self.posteriors)
        return body


@dataclass(frozen=True, slots=True, eq=False)
class FrameResult:
    """One result a frame.

    Attributes:
        labels: class names in the order of ``classes``.
        num_samples: length of the recording at 16 kHz.
        hop_samples: samples from frame to frame: 320, or 160 on a 10 ms timeline.
        logits: float32 ``(frames, classes)``.
        posteriors: float64 ``(frames, classes)``, each row by itself: nothing is smoothed.
        embeddings: float32 ``(frames, dim)``, where they were asked for.
    """

    labels: tuple[str, ...]
    num_samples: int
    hop_samples: int
    logits: FloatArray
    posteriors: npt.NDArray[np.float64]
    embeddings: FloatArray | None

    @property
    def times_s(self) -> npt.NDArray[np.float64]:
        """Start of every frame in seconds, ``(frames,)``."""
        starts = np.arange(len(self.logits), dtype=np.float64) * self.hop_samples
        return starts / SAMPLE_RATE_HZ

    def to_json(self, *, scores: bool = False) -> list[dict[str, Any]]:
        """Return ``time`` (s), ``emotion`` and ``score`` of every frame; with ``scores``, all."""
        strongest = self.posteriors.argmax(axis=1)
        frames: list[dict[str, Any]] = []
        for index, (winner, row) in enumerate(zip(strongest, self.posteriors, strict=True)):
            frame: dict[str, Any] = {
                "time": samples_to_s(index * self.hop_samples),
                "emotion": self.labels[winner],
                "score": round(float(row[winner]), _DIGITS),
            }
            if scores:
                frame["scores"] = scores_of(self.labels, row)
            frames.append(frame)
        return frames


@dataclass(frozen=True, slots=True)
class StreamResult:
    """What a live stream of the recording would have given.

    Attributes:
        labels: class names in the order of ``classes``.
        num_samples: length of the recording at 16 kHz.
        points: one a step with speech.
        segments: the final ones; with ``gaps`` they tile the recording.
        gaps: the final ones.
    """

    labels: tuple[str, ...]
    num_samples: int
    points: tuple[Point, ...]
    segments: tuple[Segment, ...]
    gaps: tuple[Gap, ...]

    def to_json(self, *, scores: bool = False) -> dict[str, Any]:
        """Return ``points``, ``segments`` and ``gaps``, times in s; ``scores`` adds all classes."""
        return {
            "granularity": "stream",
            "points": [self._point(point, scores=scores) for point in self.points],
            "segments": [
                {
                    "start": segment.start_s,
                    "end": segment.end_s,
                    "emotion": segment.label,
                    "confidence": round(segment.confidence, _DIGITS),
                }
                for segment in self.segments
            ],
            "gaps": [
                {"start": gap.start_s, "end": gap.end_s, "reason": gap.reason} for gap in self.gaps
            ],
        }

    def _point(self, point: Point, *, scores: bool) -> dict[str, Any]:
        body: dict[str, Any] = {
            "start": point.start_s,
            "end": point.end_s,
            "emotion": point.label,
            "confidence": round(point.confidence, _DIGITS),
            "speech_share": round(point.speech_share, _DIGITS),
            "provisional": point.provisional,
            "widened": point.widened,
        }
        if scores:
            body["scores"] = scores_of(self.labels, point.posteriors)
        return body


Result = UtteranceResult | FrameResult | StreamResult


def rounded(value: float) -> float:
    """Return a posterior as JSON has it."""
    return round(float(value), _DIGITS)


def scores_of(
    labels: Sequence[str], posteriors: Sequence[float] | npt.NDArray[np.float64]
) -> dict[str, float]:
    """Return the posterior of every class, as JSON has it."""
    return {label: rounded(value) for label, value in zip(labels, posteriors, strict=True)}
