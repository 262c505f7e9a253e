"""The analysis of one channel: audio goes in, windows are asked for, answers make the result.

Answers come in any order.

Segments of a channel, and how the whole follows from them.

The whole is the mean of the segments' logits, weighted by their frames; then softmax. Segments
without speech are left out: the model hears an emotion in anything. Where nothing is speech the
whole is that of everything.

One result for a channel, from segments that are a forward pass each.

One result a frame, from passes that overlap; segments are means of their frames.

The timeline a live stream of a channel gives. Its windows are asked for one by one, in order.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import msgspec
import numpy as np
import numpy.typing as npt

from ser_engine.config import EngineConfig
from ser_engine.errors import WindowError
from ser_engine.files.listener import Listener
from ser_engine.files.options import AnalysisOptions
from ser_engine.files.passes import (
    READ_ON_SAMPLES,
    Ask,
    Outcome,
    Pass,
    PassCutter,
    SegmentCutter,
    Span,
)
from ser_engine.files.results import (
    Float64Array,
    FrameResult,
    PieceResult,
    Result,
    StreamResult,
    UtteranceResult,
)
from ser_engine.files.voices import Voices
from ser_engine.frames import HOP_SAMPLES, SAMPLE_RATE_HZ, ms_to_samples
from ser_engine.schema import Event, Gap, Point, Segment
from ser_engine.timeline import ChannelStream
from ser_engine.timeline.segments import SegmentBuilder
from ser_engine.timeline.smoothing import LabelTracker, LogitPool, softmax
from ser_engine.types import FloatArray, ModelInfo, Window, WindowResult


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


class PieceScores:
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

    def pieces(self) -> tuple[PieceResult, ...]:
        """Return every piece."""
        return tuple(self._piece(number) for number in range(len(self._spans)))

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

    def _piece(self, number: int) -> PieceResult:
        span, scores = self._spans[number], self._scores.get(number)
        logits = posteriors = embedding = None
        if scores is not None and scores.frames and span.has_speech:
            mean = scores.logit_sum / scores.frames
            logits, posteriors = mean.astype(np.float32), softmax(mean)
            embedding = (scores.embedding_sum / scores.frames).astype(np.float32)
        return PieceResult(
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


class UtteranceWork:
    """One result for the whole, from segments that are a forward pass each.

    Args:
        info: the model.
        config: lengths, detector.
        listener: hears the channel. What it is not given here somebody else gives it.
        voices: told of every frame's logits; None: nobody is.
        is_lenient: leave out what has no speech and what cannot be scored, even if that is all.
    """

    wants_audio = True

    def __init__(
        self,
        info: ModelInfo,
        config: EngineConfig,
        listener: Listener,
        voices: Voices | None = None,
        *,
        is_lenient: bool = False,
    ) -> None:
        self.listener = listener
        self._voices = voices
        self.asks: deque[Ask] = deque()
        self._cutter = SegmentCutter(config.offline, hangover_ms=config.vad.hangover_ms)
        self._scores = PieceScores(info)
        self._held: FloatArray = np.empty(0, dtype=np.float32)
        self._held_from = 0
        self._has_heard_speech = False
        self._is_lenient = is_lenient

    def push(self, samples: FloatArray) -> None:
        """Take the next samples."""
        self.hear(samples, self.listener.push(samples))

    def hear(self, samples: FloatArray, flags: list[bool]) -> None:
        """Take samples that the listener has heard already."""
        self._held = np.concatenate([self._held, samples])
        for span in self._cutter.push(len(samples), flags):
            self._ask(span)

    def end(self) -> None:
        """Ask for the rest."""
        for span in self._cutter.finish():
            self._ask(span)

    def result(self) -> tuple[UtteranceResult, UtteranceResult, tuple[PieceResult, ...]]:
        """Return the whole, twice, and its segments."""
        whole, segments = self.whole()
        assert whole is not None, "a channel with a frame has a segment that is scored"
        return whole, whole, segments

    def whole(self) -> tuple[UtteranceResult | None, tuple[PieceResult, ...]]:
        """Return the whole, if any of it could be scored, and its segments."""
        heard = self.listener
        return self._scores.whole(heard.heard_samples, heard.level_dbfs), self._scores.pieces()

    def _ask(self, span: Span) -> None:
        number = self._scores.add(span)
        self._has_heard_speech |= span.has_speech
        start, end = span.start_sample - self._held_from, span.end_sample - self._held_from
        # Before the first speech it is not known whether there will be any.
        if span.has_speech or not (self._has_heard_speech or self._is_lenient):
            window = Window(self._held[start : end + READ_ON_SAMPLES].copy(), span.start_sample)
            self.asks.append(Ask(window, lambda outcome: self._take(number, span, outcome)))
        self._held = self._held[end:].copy()
        self._held_from = span.end_sample

    def _take(self, number: int, span: Span, outcome: Outcome) -> None:
        if isinstance(outcome, WindowError):
            if self._is_lenient:
                return
            raise outcome
        rows = native_rows(outcome)
        if self._voices is not None:
            self._voices.score(span.start_sample, outcome.logits[rows])
        self._scores.put(number, Scores.of_rows(outcome.logits[rows], outcome.embeddings[rows]))


class FrameWork:
    """One result a frame; frames of several passes are joined. Segments are means of frames."""

    wants_audio = True

    def __init__(
        self,
        info: ModelInfo,
        config: EngineConfig,
        options: AnalysisOptions,
        listener: Listener,
        voices: Voices | None = None,
    ) -> None:
        self.listener = listener
        self._config = config
        self._flags = bytearray()  # of every 320-sample slot: whether it holds speech
        self._voices = voices
        self._num_frames = 0  # native ones that were joined
        self.asks: deque[Ask] = deque()
        self._labels = info.labels.names
        self._passes = PassCutter(int(config.offline.max_pass_s * SAMPLE_RATE_HZ))
        self._segments = SegmentCutter(config.offline, hangover_ms=config.vad.hangover_ms)
        self._scores = PieceScores(info)
        self._wants_embeddings = options.embeddings
        hop_ms = min(options.frame_hop_ms, config.timeline.frame_hop_ms)
        self._hop = ms_to_samples(hop_ms)
        self._early: dict[int, tuple[FloatArray, FloatArray]] = {}
        self._num_asked = self._num_joined = 0
        self._logits: list[FloatArray] = []
        self._embeddings: list[FloatArray] = []
        # Native frames that belong to segments which are not complete.
        self._open_spans: deque[tuple[int, Span]] = deque()
        self._open_logits: FloatArray = np.empty((0, len(info.labels)), dtype=np.float32)
        self._open_embeddings: FloatArray = np.empty((0, info.embedding_dim), dtype=np.float32)

    def push(self, samples: FloatArray) -> None:
        """Take the next samples."""
        flags = self.listener.push(samples)
        self._flags += bytes(flags)
        spans = self._segments.push(len(samples), flags)
        self._open_spans += [(self._scores.add(span), span) for span in spans]
        for each in self._passes.push(samples):
            self._ask(each)

    def end(self) -> None:
        """Ask for the last pass."""
        self._open_spans += [(self._scores.add(span), span) for span in self._segments.finish()]
        for each in self._passes.finish():
            self._ask(each)

    def result(self) -> tuple[FrameResult, UtteranceResult | None, tuple[PieceResult, ...]]:
        """Return the frames, the whole, and its segments."""
        self._close_spans(is_end=True)
        logits = np.concatenate(self._logits)
        heard = self.listener
        segments, gaps = spans_of_frames(
            logits,
            self._flags,
            hop_samples=self._hop,
            num_samples=heard.heard_samples,
            config=self._config,
            labels=self._labels,
        )
        frames = FrameResult(
            labels=self._labels,
            num_samples=heard.heard_samples,
            hop_samples=self._hop,
            logits=logits,
            posteriors=softmax(logits),
            embeddings=np.concatenate(self._embeddings) if self._wants_embeddings else None,
            segments=segments,
            gaps=gaps,
        )
        whole = self._scores.whole(heard.heard_samples, heard.level_dbfs)
        return frames, whole, self._scores.pieces()

    def _ask(self, each: Pass) -> None:
        number, self._num_asked = self._num_asked, self._num_asked + 1
        window = replace(each.window, hop_samples=self._hop)
        self.asks.append(Ask(window, lambda outcome: self._take(number, each, outcome)))

    def _take(self, number: int, each: Pass, outcome: Outcome) -> None:
        if isinstance(outcome, WindowError):
            raise outcome
        rows = each.rows(outcome)
        # Copies: a view would keep the arrays of the whole pass.
        self._early[number] = (outcome.logits[rows].copy(), outcome.embeddings[rows].copy())
        while self._num_joined in self._early:
            self._join(*self._early.pop(self._num_joined))
            self._num_joined += 1

    def _join(self, logits: FloatArray, embeddings: FloatArray) -> None:
        self._logits.append(logits)
        if self._wants_embeddings:
            self._embeddings.append(embeddings)
        native = slice(None, None, HOP_SAMPLES // self._hop)
        if self._voices is not None:
            self._voices.score(self._num_frames * HOP_SAMPLES, logits[native])
        self._num_frames += len(logits[native])
        self._open_logits = np.concatenate([self._open_logits, logits[native]])
        self._open_embeddings = np.concatenate([self._open_embeddings, embeddings[native]])
        self._close_spans()

    def _close_spans(self, *, is_end: bool = False) -> None:
        while self._open_spans:
            number, span = self._open_spans[0]
            frames = (span.end_sample - span.start_sample) // HOP_SAMPLES
            if not is_end and len(self._open_logits) < frames:
                return
            logits, self._open_logits = self._open_logits[:frames], self._open_logits[frames:]
            embeddings = self._open_embeddings[:frames]
            self._open_embeddings = self._open_embeddings[frames:].copy()
            self._scores.put(number, Scores.of_rows(logits, embeddings))
            self._open_spans.popleft()


def spans_of_frames(
    logits: FloatArray,
    flags: Sequence[int],
    *,
    hop_samples: int,
    num_samples: int,
    config: EngineConfig,
    labels: Sequence[str],
) -> tuple[tuple[Segment, ...], tuple[Gap, ...]]:
    """Return the segments and gaps that the engine's smoother makes of frames.

    As in a stream: the logits of speech are pooled over ``smoothing.span_ms``, then softmax, then
    hysteresis; silence is a gap.

    Args:
        logits: ``(frames, classes)``.
        flags: whether each 320-sample slot holds speech.
        hop_samples: between frames, 320 or 160.
        num_samples: length of the recording.
        config: what counts as a short silence, and how labels are smoothed.
        labels: names of the classes.
    """
    speech = _speech_of_frames(flags, len(logits), hop_samples, config)
    # As in a stream: NaN and +inf cannot be pooled; -inf is a class the model never learned.
    usable = np.all(logits < np.inf, axis=1)
    scored = np.flatnonzero(speech & usable)
    pool = LogitPool(ms_to_samples(config.smoothing.span_ms), len(labels))
    posteriors = softmax(pool.push(scored * hop_samples, logits[scored])) if len(scored) else None
    tracker, builder = LabelTracker(config.smoothing), SegmentBuilder(labels)
    events: list[Segment | Gap] = []
    row = 0
    for slot, (is_speech, is_usable) in enumerate(
        zip(speech.tolist(), usable.tolist(), strict=True)
    ):
        start, end = slot * hop_samples, (slot + 1) * hop_samples
        if is_speech and is_usable and posteriors is not None:
            decision = tracker.push(start, end, posteriors[row].tolist())
            events += builder.frame(start, end, posteriors[row], decision)
            row += 1
        else:
            events += builder.gap(start, end, "error" if is_speech else "silence")
    events += builder.extend(num_samples)
    final = [event for event in events + builder.finish() if event.final]
    return (
        tuple([event for event in final if isinstance(event, Segment)]),
        tuple([event for event in final if isinstance(event, Gap)]),
    )


def _speech_of_frames(
    flags: Sequence[int], num_frames: int, hop_samples: int, config: EngineConfig
) -> npt.NDArray[np.bool_]:
    """Return whether each frame is speech, with short silences between speech counted in."""
    frames_a_slot = HOP_SAMPLES // hop_samples
    slots = np.frombuffer(bytes(flags), dtype=np.bool_).copy()
    # No more than the look-ahead, because a stream knows no sooner that a silence was short.
    short_ms = min(config.vad.min_silence_ms, config.timeline.look_ahead_ms)
    short = ms_to_samples(short_ms) // HOP_SAMPLES
    spoken = np.flatnonzero(slots)
    for before, after in itertools.pairwise(spoken.tolist()):
        if after - before - 1 < short:
            slots[before:after] = True
    speech: npt.NDArray[np.bool_] = np.repeat(slots, frames_a_slot)[:num_frames]
    return speech


_stream_numbers = itertools.count()


class _Ears:
    """The listener as a detector, with a copy of the flags for whoever cuts segments."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self._flags: list[bool] = []

    def push(self, samples: FloatArray) -> list[bool]:
        flags = self._listener.push(samples)
        self._flags += flags
        return flags

    def skip(self, num_samples: int) -> None:
        self._listener.skip(num_samples)

    def take(self) -> list[bool]:
        flags, self._flags = self._flags, []
        return flags


class StreamWork:
    """Exactly what a live stream gives: the same core, every window answered in its turn.

    The whole and its segments are those of ``utterance``: a forward pass a segment on top, where a
    stream takes dozens for the same audio.
    """

    def __init__(
        self,
        info: ModelInfo,
        config: EngineConfig,
        options: AnalysisOptions,
        listener: Listener,
        voices: Voices | None = None,
    ) -> None:
        self.listener = listener
        self.asks: deque[Ask] = deque()
        self._labels = info.labels.names
        hop_ms = min(options.frame_hop_ms, config.timeline.frame_hop_ms)
        self._ears = _Ears(listener)
        self._whole = UtteranceWork(info, config, listener, voices, is_lenient=True)
        self._stream = ChannelStream(
            replace(config, timeline=replace(config.timeline, frame_hop_ms=hop_ms)),
            info.labels,
            f"recording/{next(_stream_numbers)}",
            detector=self._ears,
            details=options.details,
        )
        self._due: deque[Window] = deque()
        self._is_asked = False
        self._points: list[Point] = []
        self._segments: list[Segment] = []
        self._gaps: list[Gap] = []

    @property
    def wants_audio(self) -> bool:
        """Whether every window of the stream is answered."""
        return not self._is_asked

    def push(self, samples: FloatArray) -> None:
        """Take the next samples: no more than a second, or many windows wait with their audio."""
        self._due += self._stream.push(samples)
        self._whole.hear(samples, self._ears.take())
        self._go_on()

    def end(self) -> None:
        """Ask for the rest."""
        self._due += self._stream.finish()
        self._whole.end()
        self._go_on()

    def result(self) -> tuple[StreamResult, UtteranceResult | None, tuple[PieceResult, ...]]:
        """Return the timeline, the whole, and its segments."""
        self._keep(self._stream.close())
        stream = StreamResult(
            labels=self._labels,
            num_samples=self._stream.clock_samples,
            points=tuple(self._points),
            segments=tuple(self._segments),
            gaps=tuple(self._gaps),
        )
        return (stream, *self._whole.whole())

    def _go_on(self) -> None:
        self.asks += self._whole.asks
        self._whole.asks.clear()
        self._is_asked = bool(self._due)
        if not self._due:
            self._keep(self._stream.take_events())
            return
        window = self._due.popleft()
        self.asks.append(Ask(window, lambda outcome: self._take(window, outcome)))

    def _take(self, window: Window, outcome: Outcome) -> None:
        self._keep(self._stream.accept(window, outcome))
        self._go_on()

    def _keep(self, events: Sequence[Event]) -> None:
        for event in events:
            match event:
                case Point():
                    narrow = self.listener.narrow_band_at(event.end_sample)
                    self._points.append(msgspec.structs.replace(event, narrow_band=narrow))
                case Segment(final=True):
                    self._segments.append(event)
                case Gap(final=True):
                    self._gaps.append(event)


class ChannelWork(Protocol):
    """Turns one channel of a recording into a result.

    Attributes:
        listener: hears all of it.
        asks: what the engine is asked for next.
    """

    listener: Listener
    asks: deque[Ask]

    @property
    def wants_audio(self) -> bool:
        """Whether more may be pushed now; if not, an answer is waited for."""
        ...

    def push(self, samples: FloatArray) -> None:
        """Take the next samples ``(samples,)``."""
        ...

    def end(self) -> None:
        """Note that there is no more audio."""
        ...

    def result(self) -> tuple[Result, UtteranceResult | None, tuple[PieceResult, ...]]:
        """Return what was asked for, the whole, and its segments; ask when all is answered."""
        ...


def make_channel_work(
    info: ModelInfo,
    config: EngineConfig,
    options: AnalysisOptions,
    rate_hz: int,
    voices: Voices | None = None,
) -> ChannelWork:
    """Return the analysis of one channel of a file of ``rate_hz``."""
    listener = Listener(config.vad, rate_hz)
    match options.granularity:
        case "frame":
            return FrameWork(info, config, options, listener, voices)
        case "stream":
            return StreamWork(info, config, options, listener, voices)
    return UtteranceWork(info, config, listener, voices)
