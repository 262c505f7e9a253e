"""What the analysis of a file gives: channels, segments, warnings; as arrays, JSON and tables.

What the analysis of a recording gives, as arrays and as JSON.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ser_engine.files.listener import QualityWarning
from ser_engine.files.options import AnalysisOptions
from ser_engine.frames import SAMPLE_RATE_HZ, samples_to_s
from ser_engine.schema import Gap, Point, Segment
from ser_engine.speakers.diariser import Turn
from ser_engine.types import FloatArray, ModelInfo

Float64Array = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class UtteranceSegment:
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
    def start_s(self) -> float:
        """Start in seconds."""
        return samples_to_s(self.start_sample)

    @property
    def end_s(self) -> float:
        """End in seconds, not included."""
        return samples_to_s(self.end_sample)

    @property
    def emotion(self) -> str | None:
        """The strongest class; None: it was not scored."""
        return None if self.posteriors is None else self.labels[int(self.posteriors.argmax())]

    @property
    def confidence(self) -> float | None:
        """Its posterior, 0 to 1; None: it was not scored."""
        return None if self.posteriors is None else float(self.posteriors.max())


if TYPE_CHECKING:
    import pandas

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


_SMALL_BYTES = 16_384
_EVENT_BYTES = 1_000


@dataclass(frozen=True, slots=True, eq=False)
class SpeakerResult:
    """One speaker of a channel.

    Attributes:
        speaker: a name, unique in the channel.
        turns: when they spoke, in order.
        speech_s: how long, all turns together.
        emotion: the strongest class over all of it.
        confidence: its posterior, 0 to 1.
        posteriors: float64 ``(classes,)``, sum 1.
    """

    speaker: str
    turns: tuple[Turn, ...]
    speech_s: float
    emotion: str
    confidence: float
    posteriors: npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class ChannelAnalysis:
    """One channel of a file.

    Attributes:
        result: of the granularity asked for.
        overall: of the whole channel; the same object where that is what was asked for. None
            (``stream`` only): there is no speech, or the engine could score nothing of it.
        segments: pieces that tile the channel; a recording that fits into one pass is one.
        warnings: about its audio, each kind once.
        speakers: who spoke, where that was asked for.
    """

    result: Result
    overall: UtteranceResult | None
    segments: tuple[UtteranceSegment, ...] = ()
    warnings: tuple[QualityWarning, ...] = ()
    speakers: tuple[SpeakerResult, ...] = ()

    @property
    def num_bytes(self) -> int:
        """About how much memory it takes."""
        size = _SMALL_BYTES
        for segment in self.segments:
            size += _EVENT_BYTES
            size += 0 if segment.embedding is None else segment.embedding.nbytes
        match self.result:
            case FrameResult(logits=logits, posteriors=posteriors, embeddings=embeddings):
                size += logits.nbytes + posteriors.nbytes
                size += 0 if embeddings is None else embeddings.nbytes
            case StreamResult(points=points, segments=segments, gaps=gaps):
                size += _EVENT_BYTES * (len(points) + len(segments) + len(gaps))
        return size

    def to_json(self, *, scores: bool = False) -> dict[str, Any]:
        """Return everything, times in s."""
        overall = None if self.overall is None else self.overall.to_json(scores=scores)
        if overall is not None and self.overall is not None:
            level = self.overall.level_dbfs
            overall["level_dbfs"] = round(level, 1) if math.isfinite(level) else None
        return {
            "result": self.result.to_json(scores=scores),
            "overall": overall,
            "segments": [_segment(each, scores=scores) for each in self.segments],
            "warnings": [asdict(warning) for warning in self.warnings],
            "speakers": [self._speaker(each, scores=scores) for each in self.speakers],
        }

    def _speaker(self, each: SpeakerResult, *, scores: bool) -> dict[str, Any]:
        body: dict[str, Any] = {
            "speaker": each.speaker,
            "turns": [{"start": turn.start_s, "end": turn.end_s} for turn in each.turns],
            "speech_s": round(each.speech_s, 3),
            "emotion": each.emotion,
            "confidence": rounded(each.confidence),
        }
        if scores:
            body["scores"] = scores_of(self.result.labels, each.posteriors)
        return body


@dataclass(frozen=True, slots=True, eq=False)
class FileAnalysis:
    """A whole file.

    Attributes:
        name: of the file, as whoever asked calls it.
        model: that scored it.
        options: what was asked for, as far as it makes a difference.
        duration_s: of the recording.
        rate_hz: sample rate of the file.
        channels: in their order; never mixed.
    """

    name: str
    model: ModelInfo
    options: AnalysisOptions
    duration_s: float
    rate_hz: int
    channels: tuple[ChannelAnalysis, ...]

    @property
    def num_bytes(self) -> int:
        """About how much memory it takes."""
        return sum(channel.num_bytes for channel in self.channels)

    def to_json(self, *, scores: bool = False, details: bool = False) -> Any:
        """Return what JSON can hold.

        Without flags, a file with one channel is its bare result: ``emotion``, ``confidence``,
        ``granularity`` of an utterance, a list of ``time``, ``emotion``, ``score`` of frames. One
        with several is a list of such results, each with its ``channel``, from 1.

        Args:
            scores: tell of every class.
            details: return a document instead, always of one form: file, model, options, and of
                each channel its ``result``, ``overall``, ``segments``, ``warnings``, ``speakers``.
        """
        if details:
            return self._document(scores=scores)
        results = [channel.result.to_json(scores=scores) for channel in self.channels]
        if len(results) == 1:
            return results[0]
        return [
            {"channel": number, **_named(result)} for number, result in enumerate(results, start=1)
        ]

    def to_dataframe(self, *, segments: bool = False) -> pandas.DataFrame:
        """Return a table: a row an utterance, frame or point, and a column a class.

        Args:
            segments: a row a segment instead, whatever the granularity.

        Raises:
            RuntimeUnavailableError: pandas is not installed.
        """
        from ser_engine.files.tables import columns_of_results, columns_of_segments, data_frame

        return data_frame(columns_of_segments(self) if segments else columns_of_results(self))

    def _document(self, *, scores: bool) -> dict[str, Any]:
        return {
            "file": self.name,
            "model": {
                "name": self.model.name,
                "licence": self.model.licence,
                "sha256": self.model.sha256,
                "notice": self.model.notice,
            },
            "options": asdict(self.options),
            "duration_s": round(self.duration_s, 3),
            "rate_hz": self.rate_hz,
            "channels": [
                {"channel": number, **channel.to_json(scores=scores)}
                for number, channel in enumerate(self.channels, start=1)
            ],
        }


def _named(result: dict[str, Any] | list[dict[str, Any]]) -> dict[str, Any]:
    if isinstance(result, list):
        return {"granularity": "frame", "frames": result}
    return result


def _segment(segment: UtteranceSegment, *, scores: bool) -> dict[str, Any]:
    body: dict[str, Any] = {
        "start": segment.start_s,
        "end": segment.end_s,
        "emotion": segment.emotion,
        "confidence": None if segment.confidence is None else rounded(segment.confidence),
        "speech": segment.has_speech,
    }
    if segment.speaker is not None:
        body["speaker"] = segment.speaker
    if scores:
        posteriors = segment.posteriors
        body["scores"] = None if posteriors is None else scores_of(segment.labels, posteriors)
    return body
