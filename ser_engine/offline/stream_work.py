"""The timeline a live stream of a channel gives. Its windows are asked for one by one, in order."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Sequence
from dataclasses import replace

from ser_engine.config import EngineConfig
from ser_engine.events import Event, Gap, Point, Segment
from ser_engine.offline.asks import Ask, Outcome, ask_twice
from ser_engine.offline.listener import Listener
from ser_engine.offline.options import AnalysisOptions
from ser_engine.offline.results import StreamResult, UtteranceResult
from ser_engine.offline.segment_scores import UtteranceSegment
from ser_engine.offline.utterance_work import UtteranceWork
from ser_engine.offline.voices import Voices
from ser_engine.streaming import ChannelStream
from ser_engine.types import FloatArray, ModelInfo, Window

__all__ = ["StreamWork"]

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

    def reset(self) -> None:
        self._listener.reset()

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
        self._wants_twice = options.frame_hop_ms == 10 and config.timeline.frame_hop_ms == 20
        hop_ms = 10 if self._wants_twice else config.timeline.frame_hop_ms
        self._ears = _Ears(listener)
        self._whole = UtteranceWork(info, config, listener, voices, is_lenient=True)
        self._stream = ChannelStream(
            replace(config.timeline, frame_hop_ms=hop_ms),
            config.smoothing,
            info.labels,
            self._ears,
            f"recording/{next(_stream_numbers)}",
            details=options.details,
            min_silence_ms=config.vad.min_silence_ms,
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

    def result(self) -> tuple[StreamResult, UtteranceResult | None, tuple[UtteranceSegment, ...]]:
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
        ask = Ask(window, lambda outcome: self._take(window, outcome))
        self.asks += ask_twice(ask) if self._wants_twice else [ask]

    def _take(self, window: Window, outcome: Outcome) -> None:
        self._keep(self._stream.accept(window, outcome))
        self._go_on()

    def _keep(self, events: Sequence[Event]) -> None:
        for event in events:
            match event:
                case Point():
                    self._points.append(event)
                case Segment(final=True):
                    self._segments.append(event)
                case Gap(final=True):
                    self._gaps.append(event)
