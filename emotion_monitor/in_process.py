"""Live emotions in a program of one's own, without a server.

::

    from emotion_monitor.in_process import live_emotions
    from mic_client import MicrophoneSource

    async for channel, event in live_emotions(MicrophoneSource()):
        print(channel, event)

Any source of :mod:`mic_client` will do. The results are those a server gives for the same audio.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing

from mic_client.sources import Lost, Source
from ser_engine.config import EngineConfig
from ser_engine.core.factory import open_engine
from ser_engine.resample import Resampler, to_clock
from ser_engine.schema import Event
from ser_engine.timeline.channel import ChannelStream
from ser_engine.types import Core, FloatArray, Window
from stream_server.streams.intake import decode

__all__ = ["live_emotions"]


async def live_emotions(
    source: Source, config: EngineConfig | None = None
) -> AsyncIterator[tuple[int, Event]]:
    """Yield channel and event, as they are known: points, segments and gaps of every channel.

    The model is loaded before the first chunk is read; each window is scored in a thread, while
    the source goes on. The source is closed in the end.

    Args:
        source: the audio.
        config: of model, windows and smoothing; None: the defaults.

    Raises:
        SerEngineError: the model cannot be had.
        SourceError: the audio cannot go on.
    """
    settings = config or EngineConfig()
    try:
        engine = await asyncio.to_thread(open_engine, settings)
        channels = _Channels(source, settings, engine)
        async for item in source:
            if isinstance(item, Lost):
                windows = channels.lose(item.samples)
            else:
                windows = channels.push(item.data)
            async with aclosing(channels.answer(windows)) as events:
                async for event in events:
                    yield event
        async with aclosing(channels.answer(channels.finish())) as events:
            async for event in events:
                yield event
        for event in channels.close():
            yield event
    finally:
        await source.aclose()


class _Channels:
    """The channels of a source, on one clock."""

    def __init__(self, source: Source, config: EngineConfig, engine: Core) -> None:
        self._format = source.format
        self._engine = engine
        self._rate_hz = source.format.sample_rate_hz
        self._resampler = Resampler(self._rate_hz, source.format.num_channels)
        self._streams = [
            ChannelStream(config, engine.info, f"channel {channel}")
            for channel in range(source.format.num_channels)
        ]
        self._source_samples = 0

    def push(self, data: bytes) -> list[tuple[int, Window]]:
        samples = decode(data, self._format)
        self._source_samples += len(samples)
        return self._take(self._resampler.push(samples))

    def lose(self, num_samples: int) -> list[tuple[int, Window]]:
        windows = self._take(self._resampler.finish())
        start = to_clock(self._source_samples, self._rate_hz)
        self._source_samples += num_samples
        end = to_clock(self._source_samples, self._rate_hz)
        for channel, stream in enumerate(self._streams):
            windows += [(channel, window) for window in stream.gap("discarded", end - start)]
        self._resampler.begin(self._source_samples)
        return windows

    def finish(self) -> list[tuple[int, Window]]:
        windows = self._take(self._resampler.finish())
        for channel, stream in enumerate(self._streams):
            windows += [(channel, window) for window in stream.finish()]
        return windows

    async def answer(
        self, windows: list[tuple[int, Window]]
    ) -> AsyncGenerator[tuple[int, Event], None]:
        """Score windows in one step; yield what that and silence have made known."""
        if windows:
            asked = [window for _, window in windows]
            outcomes = await asyncio.to_thread(self._engine.step, asked)
            for (channel, window), outcome in zip(windows, outcomes, strict=True):
                for event in self._streams[channel].accept(window, outcome):
                    yield channel, event
        for channel, stream in enumerate(self._streams):
            for event in stream.take_events():  # silence takes no window
                yield channel, event

    def close(self) -> Iterator[tuple[int, Event]]:
        for channel, stream in enumerate(self._streams):
            for event in stream.close():
                yield channel, event

    def _take(self, samples: FloatArray) -> list[tuple[int, Window]]:
        return [
            (channel, window)
            for channel, stream in enumerate(self._streams)
            for window in stream.push(samples[:, channel].copy())
        ]
