"""Results of a channel of a recording while they are in memory: arrays, to compute with.

What is written, sent or printed is :class:`ser_engine.schema.FileResult`, which
:mod:`ser_engine.files.analysis` makes of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ser_engine.frames import SAMPLE_RATE_HZ, samples_to_s
from ser_engine.labels import least_posterior
from ser_engine.schema import (
    Gap,
    GapReason,
    Point,
    Segment,
    Warning,
    Whole,
)
from ser_engine.speakers import Turn
from ser_engine.timeline.course import Course, whole_of
from ser_engine.types import FloatArray

if TYPE_CHECKING:
    pass

Float64Array = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class PieceResult:
    """A piece of a recording, cut amid a pause, with a result of its own.

    Attributes:
        labels: class names in the order of ``classes``.
        start_sample, end_sample: where it lies, at 16 kHz; the end is not included.
        has_speech: whether the detector heard any.
        logits: float32 ``(classes,)``, mean over its frames. None, as are the others: it has no
            speech, or (in ``stream``) the engine could not score it.
        posteriors: float64 ``(classes,)``, sum 1.
        embedding: float32 ``(dim,)``, mean over its frames.
        speaker: who speaks, where that was asked for.
        abstain_below: posterior below which nothing is said.
    """

    labels: tuple[str, ...]
    start_sample: int
    end_sample: int
    has_speech: bool
    logits: FloatArray | None
    posteriors: Float64Array | None
    embedding: FloatArray | None
    speaker: str | None = None
    abstain_below: float = 0.0

    @property
    def start_s(self) -> float:
        """Start in seconds."""
        return samples_to_s(self.start_sample)

    @property
    def end_s(self) -> float:
        """End in seconds, not included."""
        return samples_to_s(self.end_sample)

    @property
    def best(self) -> str | None:
        """The strongest class; None: it was not scored."""
        return None if self.posteriors is None else self.labels[int(self.posteriors.argmax())]

    @property
    def label(self) -> str | None:
        """The same where it is worth believing; None: unclear, or not scored."""
        best, confidence = self.best, self.confidence
        if best is None or confidence is None:
            return None
        return best if confidence >= least_posterior(best, self.abstain_below) else None

    @property
    def confidence(self) -> float | None:
        """Its posterior, 0 to 1; None: it was not scored."""
        return None if self.posteriors is None else float(self.posteriors.max())


@dataclass(frozen=True, slots=True, eq=False)
class UtteranceResult:
    """One result for a whole recording.

    Attributes:
        labels: class names in the order of ``classes``.
        num_samples: length of the recording at 16 kHz.
        logits: float32 ``(classes,)``, mean over all frames.
        posteriors: float64 ``(classes,)``, sum 1.
        embedding: float32 ``(dim,)``, mean over all frames.
        level_dbfs: RMS level without offset, in dB of full scale; -inf: digital silence.
        abstain_below: posterior below which nothing is said.
        has_speech: whether the detector heard any; if not, the posteriors mean nothing.
    """

    labels: tuple[str, ...]
    num_samples: int
    logits: FloatArray
    posteriors: Float64Array
    embedding: FloatArray
    level_dbfs: float
    abstain_below: float = 0.0
    has_speech: bool = True

    @property
    def best(self) -> str:
        """The strongest class."""
        return self.labels[int(self.posteriors.argmax())]

    @property
    def label(self) -> str | None:
        """The same where it is worth believing; None: unclear, or nobody speaks."""
        needed = least_posterior(self.best, self.abstain_below)
        return self.best if self.has_speech and self.confidence >= needed else None

    @property
    def confidence(self) -> float:
        """Its posterior, 0 to 1."""
        return float(self.posteriors.max())


@dataclass(frozen=True, slots=True, eq=False)
class FrameResult:
    """One result a frame.

    Attributes:
        labels: class names in the order of ``classes``.
        num_samples: length of the recording at 16 kHz.
        hop_samples: samples from frame to frame: 320, or 160 on a 10 ms timeline.
        logits: float32 ``(frames, classes)``.
        posteriors: float64 ``(frames, classes)``, each row by itself: nothing is smoothed.
        speech: bool ``(frames,)``, whether each is speech, short silences within speech included.
        abstain_below: posterior below which nothing is said.
        embeddings: float32 ``(frames, dim)``, where they were asked for.
        segments, gaps: what the engine's smoother makes of the frames; they tile the recording.
    """

    labels: tuple[str, ...]
    num_samples: int
    hop_samples: int
    logits: FloatArray
    posteriors: Float64Array
    speech: npt.NDArray[np.bool_]
    abstain_below: float
    embeddings: FloatArray | None
    segments: tuple[Segment, ...] = ()
    gaps: tuple[Gap, ...] = ()

    @property
    def times_s(self) -> Float64Array:
        """Start of every frame in seconds, ``(frames,)``."""
        starts = np.arange(len(self.logits), dtype=np.float64) * self.hop_samples
        return starts / SAMPLE_RATE_HZ

    def labels_of(
        self, posteriors: Float64Array, speech: npt.NDArray[np.floating]
    ) -> list[str | None]:
        """Return the label of each row of ``posteriors``: the strongest class of what is speech.

        Args:
            posteriors: ``(rows, classes)``, of frames or of means of neighbours.
            speech: ``(rows,)``, how much of each is speech, 0 to 1.
        """
        needed = np.array([least_posterior(each, self.abstain_below) for each in self.labels])
        winners = posteriors.argmax(axis=1)
        is_said = (speech > 0) & (posteriors.max(axis=1, initial=0.0) >= needed[winners])
        return [
            self.labels[winner] if said else None
            for winner, said in zip(winners.tolist(), is_said.tolist(), strict=True)
        ]


@dataclass(frozen=True, slots=True)
class StreamResult:
    """What a live stream of the recording would have given.

    Attributes:
        labels: class names in the order of ``classes``.
        num_samples: length of the recording at 16 kHz.
        points: one a step with speech.
        segments, gaps: the final ones; they tile the recording.
    """

    labels: tuple[str, ...]
    num_samples: int
    points: tuple[Point, ...]
    segments: tuple[Segment, ...]
    gaps: tuple[Gap, ...]


Result = UtteranceResult | FrameResult | StreamResult


@dataclass(frozen=True, slots=True, eq=False)
class SpeakerResult:
    """One speaker of a channel.

    Attributes:
        name: unique in the channel.
        turns: when they spoke, in order.
        label: the strongest class over all of it; None: unclear.
        best: the strongest class.
        confidence: its posterior, 0 to 1.
        posteriors: float64 ``(classes,)``, sum 1.
    """

    name: str
    turns: tuple[Turn, ...]
    speech_s: float
    label: str | None
    best: str
    confidence: float
    posteriors: Float64Array


_SMALL_BYTES = 16_384
_EVENT_BYTES = 1_000


@dataclass(frozen=True, slots=True, eq=False)
class ChannelAnalysis:
    """One channel of a file.

    Attributes:
        result: of the granularity asked for.
        overall: of the whole channel; the same object where that is what was asked for. None
            (``stream`` only): there is no speech, or the engine could score nothing of it.
        pieces: they tile the channel; a recording that fits into one pass is one.
        warnings: about its audio, each kind once.
        speakers: who spoke, where that was asked for.
    """

    result: Result
    overall: UtteranceResult | None
    pieces: tuple[PieceResult, ...] = ()
    warnings: tuple[Warning, ...] = ()
    speakers: tuple[SpeakerResult, ...] = ()

    @property
    def embedding(self) -> FloatArray | None:
        """``(frames, dim)`` of frames that kept theirs; else ``(dim,)`` of the whole, if scored.

        None with ``frame`` where the embeddings of frames were not asked for.
        """
        if isinstance(self.result, FrameResult):
            return self.result.embeddings
        return None if self.overall is None else self.overall.embedding

    @property
    def whole(self) -> Whole | None:
        """Shares and course: of segments and gaps, or of an utterance of its pieces."""
        if not isinstance(self.result, UtteranceResult):
            return whole_of((*self.result.segments, *self.result.gaps))
        course = Course()
        for piece in self.pieces:
            scored: GapReason | None = None if piece.best is not None else "error"
            course.add(piece.end_sample, piece.label, scored if piece.has_speech else "silence")
        return course.whole()

    @property
    def num_bytes(self) -> int:
        """About how much memory it takes."""
        size = _SMALL_BYTES
        for piece in self.pieces:
            size += _EVENT_BYTES
            size += 0 if piece.embedding is None else piece.embedding.nbytes
        match self.result:
            case FrameResult(logits=logits, posteriors=posteriors, embeddings=embeddings) as frames:
                size += logits.nbytes + posteriors.nbytes
                size += 0 if embeddings is None else embeddings.nbytes
                size += _EVENT_BYTES * (len(frames.segments) + len(frames.gaps))
            case StreamResult(points=points, segments=segments, gaps=gaps):
                size += _EVENT_BYTES * (len(points) + len(segments) + len(gaps))
        return size
