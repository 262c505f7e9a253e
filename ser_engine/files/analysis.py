"""The analysis of a file, and as :class:`ser_engine.schema.FileResult`, whole or in chunks of JSON.

The frames of an hour are 180,000 rows. :func:`json_chunks` never holds the text of all of them, and
a page is given no more than :data:`MAX_ROWS` rows of a channel: neighbours are averaged.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import numpy.typing as npt

from ser_engine.errors import ConfigError
from ser_engine.files.options import AnalysisOptions
from ser_engine.files.results import (
    ChannelAnalysis,
    FrameResult,
    PieceResult,
    SpeakerResult,
    StreamResult,
    UtteranceResult,
)
from ser_engine.files.tables import Columns, columns_of_pieces, columns_of_results, data_frame
from ser_engine.frames import samples_to_s
from ser_engine.schema import (
    POSTERIOR_DECIMALS,
    ChannelResult,
    FileModel,
    FileResult,
    Frames,
    LabelName,
    Measures,
    Overall,
    Piece,
    Span,
    Speaker,
    rounded,
    rounded_all,
)
from ser_engine.types import FloatArray, ModelInfo

if TYPE_CHECKING:
    import pandas

MAX_ROWS = 6000
"""Frames of a channel that a page draws: more than any screen has columns."""

_CHUNK_ROWS = 2000
_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True, eq=False)
class FileAnalysis:
    """A whole file.

    Attributes:
        name: of the file, as its owner calls it.
        model: that scored it.
        options: what was asked for, as far as it makes a difference.
        duration_s: of the recording.
        rate_hz: sample rate of the file.
        channels: those that were analysed, in their order; never mixed.
        measures: of the conversation; None: speech was not detected.
        analysed: their indices in the file; (): all of them, in their order.
    """

    name: str
    model: ModelInfo
    options: AnalysisOptions
    duration_s: float
    rate_hz: int
    channels: tuple[ChannelAnalysis, ...]
    measures: Measures | None = None
    analysed: tuple[int, ...] = ()

    @property
    def numbered(self) -> list[tuple[int, ChannelAnalysis]]:
        """The channels with their indices in the file."""
        indices = self.analysed or range(len(self.channels))
        return list(zip(indices, self.channels, strict=True))

    @property
    def num_bytes(self) -> int:
        """About how much memory it takes."""
        return sum(channel.num_bytes for channel in self.channels)

    @property
    def embedding(self) -> FloatArray | None:
        """That of the channel, or of several one array with an axis for them in front.

        A channel that could not be scored is NaN among others; None: no channel has any.
        """
        found = [channel.embedding for channel in self.channels]
        known = [array for array in found if array is not None]
        if not known or len(found) == 1:
            return found[0]
        return np.stack([np.full_like(known[0], np.nan) if a is None else a for a in found])

    def document(self) -> FileResult:
        """Return the result as it is written, sent and printed: ``docs/reference/results.md``."""
        return document_of(self)

    def to_json(self) -> dict[str, Any]:
        """Return :meth:`document` as plain data."""
        document: dict[str, Any] = msgspec.to_builtins(self.document())
        return document

    def demo_json(self, *, scores: bool = False) -> Any:
        """Return what the emotion2vec+ web demo would; see :func:`demo_of`."""
        return demo_of(self, scores=scores)

    def to_dataframe(self, *, pieces: bool = False) -> pandas.DataFrame:
        """Return a table: a row an utterance, frame or point, and a column a class.

        Args:
            pieces: a row a piece instead, whatever the granularity.

        Raises:
            RuntimeUnavailableError: pandas is not installed.
        """
        return data_frame(self.columns(pieces=pieces))

    def columns(self, *, pieces: bool = False) -> Columns:
        """Return a row an utterance, frame or point of every channel; ``pieces``: a row a piece."""
        make = columns_of_pieces if pieces else columns_of_results
        return make(self.name, self.numbered)


def document_of(analysis: FileAnalysis, *, max_rows: int | None = None) -> FileResult:
    """Return the result of a file.

    Args:
        max_rows: of frames; neighbours are averaged where there are more. None: every frame, 0:
            none.
    """
    model = analysis.model
    return FileResult(
        name=analysis.name,
        granularity=analysis.options.granularity,
        model=FileModel(
            name=model.name, licence=model.licence, notice=model.notice, sha256=model.sha256
        ),
        labels=tuple(
            LabelName(name=label.name, name_zh=label.name_zh) for label in model.labels.labels
        ),
        duration_s=round(analysis.duration_s, 3),
        sample_rate=analysis.rate_hz,
        frame_hop_ms=analysis.options.frame_hop_ms,
        has_embedding=any(channel.embedding is not None for channel in analysis.channels),
        measures=analysis.measures,
        channels=tuple(
            _channel(index, analysis.options.role_of(index), channel, max_rows)
            for index, channel in analysis.numbered
        ),
    )


def json_chunks(analysis: FileAnalysis) -> Iterator[bytes]:
    """Yield :func:`document_of` as JSON, every frame of it, without holding all of it at once."""
    head = document_of(analysis, max_rows=0)
    text = _encode(msgspec.structs.replace(head, channels=()))
    assert text.endswith(b'"channels":[]}'), "channels is the last field"
    yield text[:-2]
    for document, channel in zip(head.channels, analysis.channels, strict=True):
        yield b"," if document is not head.channels[0] else b""
        body = _encode(document)
        if not isinstance(channel.result, FrameResult):
            yield body
            continue
        empty = _encode(document.frames) + b"}"
        assert body.endswith(empty), "frames is the last field"
        yield body.removesuffix(empty)
        yield from _frames_chunks(channel.result)
        yield b"}"
    yield b"]}"


def demo_of(analysis: FileAnalysis, *, scores: bool = False) -> Any:
    """Return a result exactly as the emotion2vec+ web demo writes it.

    ``{"emotion", "confidence", "granularity"}`` of an utterance, a list of ``{"time", "emotion",
    "score"}`` of frames. Of several channels it is a list of such, each with its ``channel``.

    Args:
        scores: add the posteriors of all classes.

    Raises:
        ConfigError: it is a stream, which the demo does not have.
    """
    bodies = [demo_channel(channel, scores=scores) for channel in analysis.channels]
    if len(bodies) == 1:
        return bodies[0]
    numbered = zip(analysis.numbered, bodies, strict=True)
    return [{"channel": index, **named_demo(body)} for (index, _), body in numbered]


def demo_channel(channel: ChannelAnalysis, *, scores: bool) -> Any:
    """Return one channel as :func:`demo_of` has it.

    Raises:
        ConfigError: it is a stream, which the demo does not have.
    """
    match channel.result:
        case UtteranceResult() as result:
            row = result.posteriors.tolist()
            # The demo has no doubt: it always names the strongest class.
            return demo_utterance(result.best, result.confidence, _scores(result, row, scores))
        case FrameResult() as frames:
            winners = frames.posteriors.argmax(axis=1).tolist()
            return [
                demo_frame(
                    samples_to_s(index * frames.hop_samples),
                    frames.labels[winner],
                    row[winner],
                    _scores(frames, row, scores),
                )
                for index, (winner, row) in enumerate(
                    zip(winners, frames.posteriors.tolist(), strict=True)
                )
            ]
    raise ConfigError("the emotion2vec+ web demo has no streams; write the result in full instead")


def demo_utterance(label: str, confidence: float, scores: dict[str, float]) -> dict[str, Any]:
    """Return an utterance as the web demo has it; ``scores`` may be empty."""
    body: dict[str, Any] = {
        "emotion": label,
        "confidence": rounded(confidence),
        "granularity": "utterance",
    }
    return {**body, "scores": scores} if scores else body


def demo_frame(
    time_s: float, label: str, confidence: float, scores: dict[str, float]
) -> dict[str, Any]:
    """Return a frame as the web demo has it; ``scores`` may be empty."""
    body: dict[str, Any] = {"time": time_s, "emotion": label, "score": rounded(confidence)}
    return {**body, "scores": scores} if scores else body


def named_demo(body: Any) -> dict[str, Any]:
    """Return the demo's result of a channel as an object, to which other fields can be added."""
    if isinstance(body, list):
        return {"granularity": "frame", "frames": body}
    named: dict[str, Any] = body
    return named


def _scores(
    result: UtteranceResult | FrameResult, posteriors: list[float], wanted: bool
) -> dict[str, float]:
    if not wanted:
        return {}
    return dict(zip(result.labels, rounded_all(posteriors), strict=True))


def _channel(
    index: int, role: str, channel: ChannelAnalysis, max_rows: int | None
) -> ChannelResult:
    result = channel.result
    return ChannelResult(
        channel=index,
        role=role,
        overall=_overall(channel.overall),
        whole=channel.whole,
        warnings=channel.warnings,
        pieces=tuple(map(_piece, channel.pieces)),
        speakers=tuple(map(_speaker, channel.speakers)),
        points=result.points if isinstance(result, StreamResult) else (),
        segments=() if isinstance(result, UtteranceResult) else result.segments,
        gaps=() if isinstance(result, UtteranceResult) else result.gaps,
        frames=_frames(result, max_rows) if isinstance(result, FrameResult) else None,
    )


def _overall(overall: UtteranceResult | None) -> Overall | None:
    if overall is None:
        return None
    # JSON has no infinity.
    level = round(overall.level_dbfs, 1) if math.isfinite(overall.level_dbfs) else None
    return Overall(
        label=overall.label,
        best=overall.best,
        confidence=rounded(overall.confidence),
        posteriors=rounded_all(overall.posteriors.tolist()),
        level_dbfs=level,
    )


def _piece(piece: PieceResult) -> Piece:
    posteriors = piece.posteriors
    return Piece(
        start_sample=piece.start_sample,
        end_sample=piece.end_sample,
        has_speech=piece.has_speech,
        label=piece.label,
        best=piece.best,
        confidence=None if piece.confidence is None else rounded(piece.confidence),
        posteriors=None if posteriors is None else rounded_all(posteriors.tolist()),
        speaker=piece.speaker,
    )


def _speaker(speaker: SpeakerResult) -> Speaker:
    return Speaker(
        name=speaker.name,
        turns=tuple(
            Span(start_sample=turn.start_sample, end_sample=turn.end_sample)
            for turn in speaker.turns
        ),
        speech_s=round(speaker.speech_s, 3),
        label=speaker.label,
        best=speaker.best,
        confidence=rounded(speaker.confidence),
        posteriors=rounded_all(speaker.posteriors.tolist()),
    )


def _frames(result: FrameResult, max_rows: int | None) -> Frames:
    num_frames = len(result.posteriors)
    posteriors, size = result.posteriors, 1
    speech = result.speech.astype(np.float64)
    if max_rows == 0:
        posteriors, speech = posteriors[:0], speech[:0]
    elif max_rows is not None and num_frames > max_rows:
        size = math.ceil(num_frames / max_rows)
        firsts = np.arange(0, num_frames, size)
        # The last row may be of fewer frames than the others.
        counts = np.diff(np.append(firsts, num_frames))
        posteriors = np.add.reduceat(posteriors, firsts, axis=0) / counts[:, None]
        speech = np.add.reduceat(speech, firsts) / counts
    hop = result.hop_samples * size
    return Frames(
        start_samples=tuple(range(0, len(posteriors) * hop, hop)),
        hop_samples=hop,
        posteriors=tuple(map(tuple, _rows(posteriors))),
        labels=tuple(result.labels_of(posteriors, speech)),
        speech=rounded_all(speech.tolist()),
    )


def _frames_chunks(result: FrameResult) -> Iterator[bytes]:
    """Yield the JSON of :class:`Frames`, column by column as its fields are ordered."""
    hop, num_frames = result.hop_samples, len(result.posteriors)
    starts = [
        slice(first, min(first + _CHUNK_ROWS, num_frames))
        for first in range(0, num_frames, _CHUNK_ROWS)
    ]
    yield b'{"start_samples":['
    yield from _joined(list(range(at.start * hop, at.stop * hop, hop)) for at in starts)
    yield b'],"hop_samples":%d,"posteriors":[' % hop
    yield from _joined(_rows(result.posteriors[at]) for at in starts)
    yield b'],"labels":['
    speech = result.speech.astype(np.float64)
    yield from _joined(result.labels_of(result.posteriors[at], speech[at]) for at in starts)
    yield b'],"speech":['
    yield from _joined(speech[at].tolist() for at in starts)
    yield b"]}"


def _joined(lists: Iterator[list[Any]]) -> Iterator[bytes]:
    """Yield the JSON of lists as that of one, without its brackets."""
    for number, each in enumerate(lists):
        yield (b"," if number else b"") + _encode(each)[1:-1]


def _rows(posteriors: npt.NDArray[np.float64]) -> list[list[float]]:
    # Python rounds a value as its shortest decimals; NumPy multiplies first and may differ by one.
    return [[round(value, POSTERIOR_DECIMALS) for value in row] for row in posteriors.tolist()]
