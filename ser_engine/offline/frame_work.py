"""One result a frame, from passes that overlap; segments are means of their frames."""

from __future__ import annotations

from collections import deque

import numpy as np

from ser_engine.config import EngineConfig
from ser_engine.errors import WindowError
from ser_engine.frames import HOP_SAMPLES, SAMPLE_RATE_HZ
from ser_engine.offline.asks import Ask, Outcome, ask_twice
from ser_engine.offline.cutting import SegmentCutter, Span
from ser_engine.offline.listener import Listener
from ser_engine.offline.options import AnalysisOptions
from ser_engine.offline.passes import Pass, PassCutter
from ser_engine.offline.results import FrameResult, UtteranceResult
from ser_engine.offline.segment_scores import Scores, SegmentScores, UtteranceSegment
from ser_engine.offline.voices import Voices
from ser_engine.pooling import softmax
from ser_engine.types import FloatArray, ModelInfo

__all__ = ["FrameWork"]


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
        self._voices = voices
        self._num_frames = 0  # native ones that were joined
        self.asks: deque[Ask] = deque()
        self._labels = info.labels.names
        self._passes = PassCutter(int(config.offline.max_pass_s * SAMPLE_RATE_HZ))
        self._segments = SegmentCutter(config.offline, hangover_ms=config.vad.hangover_ms)
        self._scores = SegmentScores(info)
        self._wants_embeddings = options.embeddings
        self._wants_twice = options.frame_hop_ms == 10 and config.timeline.frame_hop_ms == 20
        self._hop = HOP_SAMPLES
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
        spans = self._segments.push(len(samples), self.listener.push(samples))
        self._open_spans += [(self._scores.add(span), span) for span in spans]
        for each in self._passes.push(samples):
            self._ask(each)

    def end(self) -> None:
        """Ask for the last pass."""
        self._open_spans += [(self._scores.add(span), span) for span in self._segments.finish()]
        for each in self._passes.finish():
            self._ask(each)

    def result(self) -> tuple[FrameResult, UtteranceResult | None, tuple[UtteranceSegment, ...]]:
        """Return the frames, the whole, and its segments."""
        self._close_spans(is_end=True)
        logits = np.concatenate(self._logits)
        heard = self.listener
        frames = FrameResult(
            labels=self._labels,
            num_samples=heard.heard_samples,
            hop_samples=self._hop,
            logits=logits,
            posteriors=softmax(logits),
            embeddings=np.concatenate(self._embeddings) if self._wants_embeddings else None,
        )
        whole = self._scores.whole(heard.heard_samples, heard.level_dbfs)
        return frames, whole, self._scores.segments()

    def _ask(self, each: Pass) -> None:
        number, self._num_asked = self._num_asked, self._num_asked + 1
        ask = Ask(each.window, lambda outcome: self._take(number, each, outcome))
        self.asks += ask_twice(ask) if self._wants_twice else [ask]

    def _take(self, number: int, each: Pass, outcome: Outcome) -> None:
        if isinstance(outcome, WindowError):
            raise outcome
        self._hop = outcome.hop_samples
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
