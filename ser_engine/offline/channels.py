"""The analysis of one channel: audio goes in, windows are asked for, answers make the result.

Answers come in any order.
"""

from __future__ import annotations

from collections import deque
from typing import Protocol

from ser_engine.config import EngineConfig
from ser_engine.offline.asks import Ask
from ser_engine.offline.frame_work import FrameWork
from ser_engine.offline.listener import Listener
from ser_engine.offline.options import AnalysisOptions
from ser_engine.offline.results import Result, UtteranceResult
from ser_engine.offline.segment_scores import UtteranceSegment
from ser_engine.offline.stream_work import StreamWork
from ser_engine.offline.utterance_work import UtteranceWork
from ser_engine.offline.voices import Voices
from ser_engine.types import FloatArray, ModelInfo

__all__ = ["ChannelWork", "make_channel_work"]


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

    def result(self) -> tuple[Result, UtteranceResult | None, tuple[UtteranceSegment, ...]]:
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
