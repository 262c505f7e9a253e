"""Segments of a channel, and how the whole follows from them.

The whole is the mean of the segments' logits, weighted by their frames; then softmax. Segments
without speech are left out: the model hears an emotion in anything. Where nothing is speech the
whole is that of everything.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ser_engine.frames import HOP_SAMPLES
from ser_engine.offline.cutting import Span
from ser_engine.offline.results import UtteranceResult
from ser_engine.pooling import softmax
from ser_engine.span import SampleSpan
from ser_engine.types import FloatArray, ModelInfo, WindowResult

__all__ = ["Scores", "SegmentScores", "UtteranceSegment", "native_rows"]

Float64Array = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class UtteranceSegment(SampleSpan):
    """A piece of a recording, cut in pauses, with a result of its own.

    Attributes:
        labels: class names in the order of ``classes``.
        start_sample, end_sample: where it lies, at 16 kHz; the end is not included.
        has_speech: whether the detector heard any.
        logits: float32 ``(classes,)``, mean over its frames. None, as are the others: it has no
            speech, or (in ``stream``) the engine could not score it.
        posteriors: float64 ``(classes,)``, sum 1.
        embedding: float32 ``(dim,)``, mean over its frames.
        speaker: who speaks, where that was asked for.
    """

    labels: tuple[str, ...]
    start_sample: int
    end_sample: int
    has_speech: bool
    logits: FloatArray | None
    posteriors: Float64Array | None
    embedding: FloatArray | None
    speaker: str | None = None

    @property
    def emotion(self) -> str | None:
        """The strongest class; None: it was not scored."""
        return None if self.posteriors is None else self.labels[int(self.posteriors.argmax())]

    @property
    def confidence(self) -> float | None:
        """Its posterior, 0 to 1; None: it was not scored."""
        return None if self.posteriors is None else float(self.posteriors.max())


@dataclass(frozen=True, slots=True, eq=False)
class Scores:
    """Sums over the frames of a segment, 20 ms apart.

    Attributes:
        frames: how many.
        logit_sum: ``(classes,)``.
        embedding_sum: ``(dim,)``.
    """

    frames: int
    logit_sum: Float64Array
    embedding_sum: Float64Array

    @classmethod
    def of_rows(cls, logits: FloatArray, embeddings: FloatArray) -> Scores:
        """Add up ``(frames, classes)`` and ``(frames, dim)``."""
        return cls(
            len(logits),
            logits.sum(axis=0, dtype=np.float64),
            embeddings.sum(axis=0, dtype=np.float64),
        )


class SegmentScores:
    """Collects the scores of one channel's segments, in any order."""

    def __init__(self, info: ModelInfo) -> None:
        self._labels = info.labels.names
        self._spans: list[Span] = []
        self._scores: dict[int, Scores] = {}

    def __len__(self) -> int:
        """Return how many segments there are."""
        return len(self._spans)

    def add(self, span: Span) -> int:
        """Take the next segment; return its number."""
        self._spans.append(span)
        return len(self._spans) - 1

    def put(self, number: int, scores: Scores) -> None:
        """Take the scores of a segment."""
        self._scores[number] = scores

    def segments(self) -> tuple[UtteranceSegment, ...]:
        """Return every segment."""
        return tuple(self._segment(number) for number in range(len(self._spans)))

    def whole(self, num_samples: int, level_dbfs: float) -> UtteranceResult | None:
        """Return the result of the whole channel; None: no segment was scored."""
        speech = [number for number in sorted(self._scores) if self._spans[number].has_speech]
        scores = [self._scores[number] for number in speech or sorted(self._scores)]
        frames = sum(each.frames for each in scores)
        if not frames:
            return None
        logits = _total([each.logit_sum for each in scores]) / frames
        embedding = _total([each.embedding_sum for each in scores]) / frames
        return UtteranceResult(
            labels=self._labels,
            num_samples=num_samples,
            logits=logits.astype(np.float32),
            posteriors=softmax(logits),
            embedding=embedding.astype(np.float32),
            level_dbfs=level_dbfs,
        )

    def _segment(self, number: int) -> UtteranceSegment:
        span, scores = self._spans[number], self._scores.get(number)
        logits = posteriors = embedding = None
        if scores is not None and scores.frames and span.has_speech:
            mean = scores.logit_sum / scores.frames
            logits, posteriors = mean.astype(np.float32), softmax(mean)
            embedding = (scores.embedding_sum / scores.frames).astype(np.float32)
        return UtteranceSegment(
            labels=self._labels,
            start_sample=span.start_sample,
            end_sample=span.end_sample,
            has_speech=span.has_speech,
            logits=logits,
            posteriors=posteriors,
            embedding=embedding,
        )


def native_rows(result: WindowResult) -> slice:
    """Return which rows are 20 ms apart: the model has one frame every 20 ms.

    The second pass of a 10 ms timeline is left out of what the model says of a whole.
    """
    return slice(None, None, HOP_SAMPLES // result.hop_samples)


def _total(sums: Sequence[Float64Array]) -> Float64Array:
    total: Float64Array = np.sum(sums, axis=0, dtype=np.float64)
    return total
