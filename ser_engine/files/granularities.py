"""One channel of a recording at one granularity: audio in, requests for windows out, a result.

::

    push(samples) ─▶ requests: deque ─▶ (an engine, in any order) ─▶ request.deliver ─▶ result()

Every granularity also gives the result of the whole channel and of its pieces. The whole is the
mean of the pieces' logits, weighted by their frames, then softmax. Pieces without speech are left
out, because the model finds an emotion in any sound; where no piece has speech, all count.
"""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace

import msgspec
import numpy as np
import numpy.typing as npt

from ser_engine.config import EngineConfig, SmoothingConfig
from ser_engine.errors import WindowError
from ser_engine.files.monitor import ChannelMonitor
from ser_engine.files.options import AnalysisOptions
from ser_engine.files.passes import (
    READ_ON_SAMPLES,
    Outcome,
    Pass,
    PassCutter,
    PieceCutter,
    PieceSpan,
    WindowRequest,
)
from ser_engine.files.results import (
    Float64Array,
    FrameResult,
    PieceResult,
    Result,
    StreamResult,
    UtteranceResult,
)
from ser_engine.files.speakers import ChannelSpeakers
from ser_engine.frames import HOP_SAMPLES, SAMPLE_RATE_HZ, ms_to_samples
from ser_engine.schema import Event, Gap, Point, Segment
from ser_engine.timeline import ChannelStream
from ser_engine.timeline.segments import Smoother
from ser_engine.timeline.slots import SPEECH, gap_reason
from ser_engine.timeline.smoothing import softmax
from ser_engine.types import FloatArray, ModelInfo, Window

AnalyserResult = tuple[Result, UtteranceResult | None, tuple[PieceResult, ...]]
"""The result of a channel, that of the whole (None: no piece could be scored), and the pieces."""


@dataclass(frozen=True, slots=True)
class ChannelSetup:
    """What the analysis of one channel works with.

    Attributes:
        monitor: of this channel; the analyser pushes the samples to it.
        speakers: of this channel; the analyser adds the logits, the caller pushes the samples.
            None: speakers are not told apart.
    """

    info: ModelInfo
    config: EngineConfig
    options: AnalysisOptions
    monitor: ChannelMonitor
    speakers: ChannelSpeakers | None = None

    @property
    def frame_hop_ms(self) -> int:
        """Time between frames. An engine made for 10 ms gives 10 in any case."""
        return min(self.options.frame_hop_ms, self.config.timeline.frame_hop_ms)

    @property
    def abstain_below(self) -> float:
        """Posterior below which nothing is said."""
        return self.config.smoothing.abstain_threshold(self.info.abstain_below)

    @property
    def pools_speech(self) -> bool:
        """Whether a whole and its pieces are means of frames with speech only."""
        pooling = self.config.offline.pooling
        return self.info.pools_speech if pooling == "auto" else pooling == "speech"


def make_analyser(setup: ChannelSetup) -> ChannelAnalyser:
    match setup.options.granularity:
        case "frame":
            return FrameAnalyser(setup)
        case "stream":
            return StreamAnalyser(setup)
    return UtteranceAnalyser(setup)


class ChannelAnalyser(ABC):
    """Turns one channel of a recording into a result.

    Attributes:
        requests: for the caller to take from the left, in the order of the audio.
    """

    def __init__(self, setup: ChannelSetup) -> None:
        self.monitor = setup.monitor
        self.requests: deque[WindowRequest] = deque()
        self._model = setup.info
        self._labels = setup.info.labels.names
        self._speakers = setup.speakers
        self._abstain_below = setup.abstain_below
        self._pools_speech = setup.pools_speech
        self._pieces = PieceScores(setup.info, setup.abstain_below)

    @property
    def wants_audio(self) -> bool:
        """Whether more may be pushed now; if not, an outcome has to be delivered first."""
        return True

    @abstractmethod
    def push(self, samples: FloatArray) -> None:
        """Take the next samples ``(samples,)``."""

    @abstractmethod
    def end(self) -> None:
        """Request what is left. No more audio may come."""

    @abstractmethod
    def result(self) -> AnalyserResult:
        """Return what was asked for. Call it once, when every request has its outcome."""

    def _scores(self, span: PieceSpan, logits: FloatArray, embeddings: FloatArray) -> Scores:
        """Return the sums of a piece, of its frames ``(frames, ·)``, 20 ms apart."""
        if self._pools_speech:
            first = span.start_sample // HOP_SAMPLES
            states = np.frombuffer(self.monitor.states[first : first + len(logits)], dtype=np.uint8)
            # The last frame may lie in a slot that is not complete: nothing is known of that.
            spoken = np.flatnonzero(states == SPEECH)
            if len(spoken):
                return Scores.of_rows(logits[spoken], embeddings[spoken])
        return Scores.of_rows(logits, embeddings)

    def _whole(self) -> UtteranceResult | None:
        return self._pieces.whole(self.monitor.num_samples, self.monitor.level_dbfs)


class UtteranceAnalyser(ChannelAnalyser):
    """One result for the whole, from pieces that are a forward pass each.

    Args:
        is_lenient: leave out what cannot be scored, and silence even if the channel is nothing
            else, so that there may be no whole.
    """

    def __init__(self, setup: ChannelSetup, *, is_lenient: bool = False) -> None:
        super().__init__(setup)
        config = setup.config
        self._cutter = PieceCutter(config.offline, hangover_ms=config.vad.hangover_ms)
        self._held: FloatArray = np.empty(0, dtype=np.float32)
        self._held_from = 0
        self._num_cut_states = 0
        self._has_heard_speech = False
        self._is_lenient = is_lenient

    def push(self, samples: FloatArray) -> None:
        """Take the next samples ``(samples,)``."""
        self.monitor.push(samples)
        self.cut(samples)

    def cut(self, samples: FloatArray) -> None:
        """Take samples that were pushed to the monitor already."""
        self._held = np.concatenate([self._held, samples])
        states = self.monitor.states[self._num_cut_states :]
        self._num_cut_states += len(states)
        for span in self._cutter.push(len(samples), states):
            self._request(span)

    def end(self) -> None:
        for span in self._cutter.finish():
            self._request(span)

    def result(self) -> tuple[UtteranceResult, UtteranceResult, tuple[PieceResult, ...]]:
        """Return the whole twice, as the result and as the whole, and the pieces."""
        whole, pieces = self.whole()
        assert whole is not None, "a channel with a frame has a piece that is scored"
        return whole, whole, pieces

    def whole(self) -> tuple[UtteranceResult | None, tuple[PieceResult, ...]]:
        """Return the whole, if a piece could be scored, and the pieces."""
        return self._whole(), self._pieces.results()

    def _request(self, span: PieceSpan) -> None:
        number = self._pieces.add(span)
        self._has_heard_speech |= span.has_speech
        start, end = span.start_sample - self._held_from, span.end_sample - self._held_from
        # Silence is not scored, except in front of the first speech: it is not known there whether
        # any speech will come, and without any the whole is that of the silence.
        if span.has_speech or not (self._has_heard_speech or self._is_lenient):
            window = Window(self._held[start : end + READ_ON_SAMPLES].copy(), span.start_sample)
            self.requests.append(
                WindowRequest(window, lambda outcome: self._take(number, span, outcome))
            )
        self._held = self._held[end:].copy()
        self._held_from = span.end_sample

    def _take(self, number: int, span: PieceSpan, outcome: Outcome) -> None:
        if isinstance(outcome, WindowError):
            if self._is_lenient:
                return
            raise outcome
        # A 10 ms engine adds a second pass, which is no part of what the model says of a whole.
        rows = slice(None, None, HOP_SAMPLES // outcome.hop_samples)
        if self._speakers is not None:
            self._speakers.add_logits(span.start_sample, outcome.logits[rows])
        scores = self._scores(span, outcome.logits[rows], outcome.embeddings[rows])
        self._pieces.put(number, scores)


class FrameAnalyser(ChannelAnalyser):
    """One result a frame, from passes that overlap. Pieces are means of the 20 ms frames."""

    def __init__(self, setup: ChannelSetup) -> None:
        super().__init__(setup)
        info, config = setup.info, setup.config
        self._config = config
        self._passes = PassCutter(int(config.offline.max_pass_s * SAMPLE_RATE_HZ))
        self._cutter = PieceCutter(config.offline, hangover_ms=config.vad.hangover_ms)
        self._wants_embeddings = setup.options.embeddings
        self._hop = ms_to_samples(setup.frame_hop_ms)
        # Outcomes may come in any order; those of later passes wait here to be joined.
        self._early: dict[int, tuple[FloatArray, FloatArray]] = {}
        self._num_requested = self._num_joined = 0
        self._logits: list[FloatArray] = []
        self._embeddings: list[FloatArray] = []
        self._num_native_frames = 0  # joined; native frames are 20 ms apart
        # Native frames of pieces that are not complete.
        self._open_spans: deque[tuple[int, PieceSpan]] = deque()
        self._open_logits: FloatArray = np.empty((0, len(info.labels)), dtype=np.float32)
        self._open_embeddings: FloatArray = np.empty((0, info.embedding_dim), dtype=np.float32)

    def push(self, samples: FloatArray) -> None:
        """Take the next samples ``(samples,)``."""
        states = self.monitor.push(samples)
        self._open(self._cutter.push(len(samples), states))
        for each in self._passes.push(samples):
            self._request(each)

    def end(self) -> None:
        self._open(self._cutter.finish())
        for each in self._passes.finish():
            self._request(each)

    def result(self) -> tuple[FrameResult, UtteranceResult | None, tuple[PieceResult, ...]]:
        self._close_spans(is_end=True)
        logits = np.concatenate(self._logits)
        num_samples = self.monitor.num_samples
        states = _states_of_frames(self.monitor.states, len(logits), self._hop, self._config)
        segments, gaps = spans_of_frames(
            logits,
            states,
            hop_samples=self._hop,
            num_samples=num_samples,
            config=self._config.smoothing,
            model=self._model,
        )
        frames = FrameResult(
            labels=self._labels,
            num_samples=num_samples,
            hop_samples=self._hop,
            logits=logits,
            posteriors=softmax(logits),
            speech=states == SPEECH,
            abstain_below=self._abstain_below,
            embeddings=np.concatenate(self._embeddings) if self._wants_embeddings else None,
            segments=segments,
            gaps=gaps,
        )
        return frames, self._whole(), self._pieces.results()

    def _open(self, spans: Sequence[PieceSpan]) -> None:
        self._open_spans += [(self._pieces.add(span), span) for span in spans]

    def _request(self, each: Pass) -> None:
        number, self._num_requested = self._num_requested, self._num_requested + 1
        window = replace(each.window, hop_samples=self._hop)
        self.requests.append(
            WindowRequest(window, lambda outcome: self._take(number, each, outcome))
        )

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
        if self._speakers is not None:
            self._speakers.add_logits(self._num_native_frames * HOP_SAMPLES, logits[native])
        self._num_native_frames += len(logits[native])
        self._open_logits = np.concatenate([self._open_logits, logits[native]])
        self._open_embeddings = np.concatenate([self._open_embeddings, embeddings[native]])
        self._close_spans()

    def _close_spans(self, *, is_end: bool = False) -> None:
        while self._open_spans:
            number, span = self._open_spans[0]
            frames = (span.end_sample - span.start_sample) // HOP_SAMPLES
            # The last piece has a frame less than slots: its end has no samples to read on.
            if not is_end and len(self._open_logits) < frames:
                return
            logits, self._open_logits = self._open_logits[:frames], self._open_logits[frames:]
            embeddings = self._open_embeddings[:frames]
            self._open_embeddings = self._open_embeddings[frames:].copy()
            self._pieces.put(number, self._scores(span, logits, embeddings))
            self._open_spans.popleft()


_stream_numbers = itertools.count()


class StreamAnalyser(ChannelAnalyser):
    """Exactly what a live stream gives: the same core, with every window answered in its turn.

    The whole and its pieces are those of ``utterance``. That is one more forward pass a piece,
    where the stream takes dozens for the same audio.
    """

    def __init__(self, setup: ChannelSetup) -> None:
        super().__init__(setup)
        self._utterance = UtteranceAnalyser(setup, is_lenient=True)
        # One deque: the windows of the pieces come between those of the stream.
        self._utterance.requests = self.requests
        timeline = replace(setup.config.timeline, frame_hop_ms=setup.frame_hop_ms)
        self._stream = ChannelStream(
            replace(setup.config, timeline=timeline),
            setup.info,
            f"recording/{next(_stream_numbers)}",
            detector=self.monitor,
            details=setup.options.details,
        )
        self._due: deque[Window] = deque()
        self._is_waiting = False
        self._points: list[Point] = []
        self._segments: list[Segment] = []
        self._gaps: list[Gap] = []

    @property
    def wants_audio(self) -> bool:
        """Whether every window that fell due has its outcome."""
        return not self._is_waiting

    def push(self, samples: FloatArray) -> None:
        """Take at most a second: all windows that fall due in it wait with their audio."""
        self._due += self._stream.push(samples)
        self._utterance.cut(samples)
        self._go_on()

    def end(self) -> None:
        self._due += self._stream.finish()
        self._utterance.end()
        self._go_on()

    def result(self) -> tuple[StreamResult, UtteranceResult | None, tuple[PieceResult, ...]]:
        """Return the timeline, the whole and the pieces."""
        self._keep(self._stream.close())
        stream = StreamResult(
            labels=self._labels,
            num_samples=self._stream.audio.clock_samples,
            points=tuple(self._points),
            segments=tuple(self._segments),
            gaps=tuple(self._gaps),
        )
        return (stream, *self._utterance.whole())

    def _go_on(self) -> None:
        # One at a time: with an outcome the stream gives up the windows handed out before its own.
        self._is_waiting = bool(self._due)
        if not self._due:
            self._keep(self._stream.take_events())
            return
        window = self._due.popleft()
        self.requests.append(WindowRequest(window, lambda outcome: self._take(window, outcome)))

    def _take(self, window: Window, outcome: Outcome) -> None:
        self._keep(self._stream.accept(window, outcome))
        self._go_on()

    def _keep(self, events: Sequence[Event]) -> None:
        for event in events:
            match event:
                case Point():
                    narrow = self.monitor.narrow_band_at(event.end_sample)
                    self._points.append(msgspec.structs.replace(event, narrow_band=narrow))
                case Segment(final=True):
                    self._segments.append(event)
                case Gap(final=True):
                    self._gaps.append(event)


@dataclass(frozen=True, slots=True, eq=False)
class Scores:
    """Sums over the frames of a piece, 20 ms apart.

    Attributes:
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
    """The pieces of one channel, in order, and their scores, which come in any order."""

    def __init__(self, info: ModelInfo, abstain_below: float) -> None:
        self._labels = info.labels.names
        self._abstain_below = abstain_below
        self._spans: list[PieceSpan] = []
        self._scores: dict[int, Scores] = {}

    def add(self, span: PieceSpan) -> int:
        """Take the next piece; return its number."""
        self._spans.append(span)
        return len(self._spans) - 1

    def put(self, number: int, scores: Scores) -> None:
        self._scores[number] = scores

    def results(self) -> tuple[PieceResult, ...]:
        """Return every piece; one without speech has no logits, even if it was scored."""
        return tuple(self._piece(number) for number in range(len(self._spans)))

    def whole(self, num_samples: int, level_dbfs: float) -> UtteranceResult | None:
        """Return the result of the whole channel; None: no piece was scored."""
        numbers = sorted(self._scores)  # not as they came: sums of floats depend on the order
        speech = [number for number in numbers if self._spans[number].has_speech]
        scores = [self._scores[number] for number in speech or numbers]
        frames = sum(each.frames for each in scores)
        if not frames:
            return None
        logits = np.sum([each.logit_sum for each in scores], axis=0) / frames
        embedding = np.sum([each.embedding_sum for each in scores], axis=0) / frames
        return UtteranceResult(
            labels=self._labels,
            num_samples=num_samples,
            logits=logits.astype(np.float32),
            posteriors=softmax(logits),
            embedding=embedding.astype(np.float32),
            level_dbfs=level_dbfs,
            abstain_below=self._abstain_below,
            has_speech=bool(speech),
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
            abstain_below=self._abstain_below,
        )


def spans_of_frames(
    logits: FloatArray,
    states: npt.NDArray[np.uint8],
    *,
    hop_samples: int,
    num_samples: int,
    config: SmoothingConfig,
    model: ModelInfo,
) -> tuple[tuple[Segment, ...], tuple[Gap, ...]]:
    """Return the segments and gaps that the engine's smoother makes of frames, as of a stream.

    It takes 1.5 s of processor time an hour of frames.

    Args:
        logits: ``(frames, classes)``.
        states: ``(frames,)`` of the slot of each, short silences being speech.
        hop_samples: between frames, 320 or 160.
        num_samples: length of the recording.
    """
    # As in a stream: NaN and +inf cannot be pooled; -inf is a class the model never learned.
    usable = np.all(logits < np.inf, axis=1)
    reasons = [
        gap_reason(state) or (None if is_usable else "error")
        for state, is_usable in zip(states.tolist(), usable.tolist(), strict=True)
    ]
    smoother = Smoother(config, model)
    smoother.slots(0, hop_samples, reasons, logits[(states == SPEECH) & usable])
    # The end of the recording is not a whole frame; it belongs to the last segment or gap.
    smoother.extend(num_samples)
    smoother.finish()
    final = [event for event in smoother.take() if event.final]
    return (
        tuple([event for event in final if isinstance(event, Segment)]),
        tuple([event for event in final if isinstance(event, Gap)]),
    )


def _states_of_frames(
    states: bytearray, num_frames: int, hop_samples: int, config: EngineConfig
) -> npt.NDArray[np.uint8]:
    """Return ``(frames,)`` the state of each; short silences between speech are speech."""
    slots = np.frombuffer(bytes(states), dtype=np.uint8).copy()
    # No more than the look-ahead, because a stream knows no sooner that a silence was short.
    short_ms = min(config.vad.min_silence_ms, config.timeline.look_ahead_ms)
    short = ms_to_samples(short_ms) // HOP_SAMPLES
    # A tone is no silence: between speech and a tone nothing is filled.
    for before, after in itertools.pairwise(np.flatnonzero(slots).tolist()):
        if after - before - 1 < short and slots[before] == slots[after] == SPEECH:
            slots[before:after] = SPEECH
    of_frames: npt.NDArray[np.uint8] = np.repeat(slots, HOP_SAMPLES // hop_samples)[:num_frames]
    return of_frames
