"""One result for a channel, from segments that are a forward pass each."""

from __future__ import annotations

from collections import deque

import numpy as np

from ser_engine.config import EngineConfig
from ser_engine.errors import WindowError
from ser_engine.offline.asks import Ask, Outcome
from ser_engine.offline.cutting import READ_ON_SAMPLES, SegmentCutter, Span
from ser_engine.offline.listener import Listener
from ser_engine.offline.results import UtteranceResult
from ser_engine.offline.segment_scores import Scores, SegmentScores, UtteranceSegment, native_rows
from ser_engine.offline.voices import Voices
from ser_engine.types import FloatArray, ModelInfo, Window

__all__ = ["UtteranceWork"]


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
        self._scores = SegmentScores(info)
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

    def result(self) -> tuple[UtteranceResult, UtteranceResult, tuple[UtteranceSegment, ...]]:
        """Return the whole, twice, and its segments."""
        whole, segments = self.whole()
        assert whole is not None, "a channel with a frame has a segment that is scored"
        return whole, whole, segments

    def whole(self) -> tuple[UtteranceResult | None, tuple[UtteranceSegment, ...]]:
        """Return the whole, if any of it could be scored, and its segments."""
        heard = self.listener
        return self._scores.whole(heard.heard_samples, heard.level_dbfs), self._scores.segments()

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
