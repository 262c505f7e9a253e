"""Analysers of one channel: audio is pushed piece by piece, the result comes at the end."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Literal, Protocol

import numpy as np

from ser_engine.config import EngineConfig
from ser_engine.errors import AudioError, WindowError
from ser_engine.events import Event, Gap, Point, Segment
from ser_engine.frames import HOP_SAMPLES, RECEPTIVE_FIELD_SAMPLES, SAMPLE_RATE_HZ
from ser_engine.offline.passes import Pass, PassCutter
from ser_engine.offline.results import FrameResult, Result, StreamResult, UtteranceResult
from ser_engine.pooling import softmax
from ser_engine.streaming import ChannelStream, make_detector
from ser_engine.types import FloatArray, ModelInfo, Window, WindowResult

__all__ = ["Analyzer", "Engine", "Granularity", "make_analyzer"]

Granularity = Literal["utterance", "frame", "stream"]

_stream_numbers = itertools.count()


class Engine(Protocol):
    """What is needed of an engine."""

    @property
    def info(self) -> ModelInfo:
        """The model."""
        ...

    def step(self, windows: Sequence[Window]) -> list[WindowResult | WindowError]:
        """Score windows; one answer each, in order."""
        ...


class Analyzer(Protocol):
    """Turns one channel of a recording into a result."""

    def push(self, samples: FloatArray) -> None:
        """Take the next float32 samples ``(samples,)``, checked by the caller."""
        ...

    def finish(self) -> Result:
        """Return the result.

        Raises:
            AudioError: there were fewer than 400 samples.
            WindowError: the engine could not score the audio.
        """
        ...


class UtteranceAnalyzer:
    """One result: the mean of all frames, in one pass or several."""

    def __init__(self, engine: Engine, config: EngineConfig) -> None:
        self._engine = engine
        self._cutter = PassCutter(int(config.offline.max_pass_s * SAMPLE_RATE_HZ))
        self._logit_sum = np.zeros(len(engine.info.labels))
        self._embedding_sum = np.zeros(engine.info.embedding_dim)
        self._frames = 0
        self._energy = 0.0

    def push(self, samples: FloatArray) -> None:
        """Take the next samples."""
        self._energy += float(np.square(samples, dtype=np.float64).sum())
        for each in self._cutter.push(samples):
            self._run(each)

    def finish(self) -> UtteranceResult:
        """Return the result."""
        _check_length(self._cutter.heard_samples)
        for each in self._cutter.finish():
            self._run(each)
        logits = self._logit_sum / self._frames
        power = self._energy / self._cutter.heard_samples
        return UtteranceResult(
            labels=self._engine.info.labels.names,
            num_samples=self._cutter.heard_samples,
            logits=logits.astype(np.float32),
            posteriors=softmax(logits),
            embedding=(self._embedding_sum / self._frames).astype(np.float32),
            level_dbfs=10 * math.log10(power) if power else -math.inf,
        )

    def _run(self, each: Pass) -> None:
        result = _score(self._engine, each.window)
        rows = each.rows(result)
        # The second pass of a 10 ms timeline is left out: the model has one frame every 20 ms.
        first_pass = slice(None, None, HOP_SAMPLES // result.hop_samples)
        logits = result.logits[rows][first_pass]
        self._logit_sum += logits.sum(axis=0, dtype=np.float64)
        self._embedding_sum += result.embeddings[rows][first_pass].sum(axis=0, dtype=np.float64)
        self._frames += len(logits)


class FrameAnalyzer:
    """One result a frame; frames of several passes are joined."""

    def __init__(self, engine: Engine, config: EngineConfig, *, embeddings: bool) -> None:
        self._engine = engine
        self._cutter = PassCutter(int(config.offline.max_pass_s * SAMPLE_RATE_HZ))
        self._wants_embeddings = embeddings
        self._logits: list[FloatArray] = []
        self._embeddings: list[FloatArray] = []
        self._hop = HOP_SAMPLES

    def push(self, samples: FloatArray) -> None:
        """Take the next samples."""
        for each in self._cutter.push(samples):
            self._run(each)

    def finish(self) -> FrameResult:
        """Return the result."""
        _check_length(self._cutter.heard_samples)
        for each in self._cutter.finish():
            self._run(each)
        logits = np.concatenate(self._logits)
        return FrameResult(
            labels=self._engine.info.labels.names,
            num_samples=self._cutter.heard_samples,
            hop_samples=self._hop,
            logits=logits,
            posteriors=softmax(logits),
            embeddings=np.concatenate(self._embeddings) if self._wants_embeddings else None,
        )

    def _run(self, each: Pass) -> None:
        result = _score(self._engine, each.window)
        rows = each.rows(result)
        self._hop = result.hop_samples
        # Copies: a view would keep the arrays of the whole pass.
        self._logits.append(result.logits[rows].copy())
        if self._wants_embeddings:
            self._embeddings.append(result.embeddings[rows].copy())


class StreamAnalyzer:
    """Exactly what a live stream gives: the same core, every window answered at once."""

    def __init__(self, engine: Engine, config: EngineConfig, *, details: bool) -> None:
        self._engine = engine
        self._stream = ChannelStream(
            config.timeline,
            config.smoothing,
            engine.info.labels,
            make_detector(config.vad),
            f"recording/{next(_stream_numbers)}",
            details=details,
            min_silence_ms=config.vad.min_silence_ms,
        )
        self._points: list[Point] = []
        self._segments: list[Segment] = []
        self._gaps: list[Gap] = []

    def push(self, samples: FloatArray) -> None:
        """Take the next samples."""
        # Short pieces, so that few windows wait with a copy of their audio.
        for start in range(0, len(samples), SAMPLE_RATE_HZ):
            self._answer(self._stream.push(samples[start : start + SAMPLE_RATE_HZ]))
            self._keep(self._stream.take_events())

    def finish(self) -> StreamResult:
        """Return the result."""
        num_samples = self._stream.clock_samples
        _check_length(num_samples)
        self._answer(self._stream.finish())
        self._keep(self._stream.close())
        return StreamResult(
            labels=self._engine.info.labels.names,
            num_samples=num_samples,
            points=tuple(self._points),
            segments=tuple(self._segments),
            gaps=tuple(self._gaps),
        )

    def _answer(self, windows: Sequence[Window]) -> None:
        for window in windows:
            (outcome,) = self._engine.step([window])
            self._keep(self._stream.accept(window, outcome))

    def _keep(self, events: Sequence[Event]) -> None:
        for event in events:
            match event:
                case Point():
                    self._points.append(event)
                case Segment(final=True):
                    self._segments.append(event)
                case Gap(final=True):
                    self._gaps.append(event)


def make_analyzer(
    engine: Engine,
    granularity: Granularity,
    config: EngineConfig,
    *,
    embeddings: bool = False,
    details: bool = False,
) -> Analyzer:
    """Return an analyser for one channel.

    Args:
        engine: scores the windows.
        granularity: what to tell results of.
        config: lengths, smoothing, detector.
        embeddings: keep those of every frame: ``dim`` floats 50 times a second.
        details: give the points of ``stream`` their frames.

    Raises:
        ValueError: there is no such granularity.
    """
    match granularity:
        case "utterance":
            return UtteranceAnalyzer(engine, config)
        case "frame":
            return FrameAnalyzer(engine, config, embeddings=embeddings)
        case "stream":
            return StreamAnalyzer(engine, config, details=details)
    raise ValueError(f"got granularity '{granularity}', expected utterance, frame or stream")


def _score(engine: Engine, window: Window) -> WindowResult:
    (outcome,) = engine.step([window])
    if isinstance(outcome, WindowError):
        raise outcome
    return outcome


def _check_length(num_samples: int) -> None:
    if num_samples < RECEPTIVE_FIELD_SAMPLES:
        raise AudioError(
            f"got {num_samples} samples at 16 kHz ({num_samples / 16:.1f} ms), expected at least"
            f" {RECEPTIVE_FIELD_SAMPLES} (25 ms)"
        )
