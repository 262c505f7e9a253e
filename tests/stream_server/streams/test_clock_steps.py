from __future__ import annotations

import asyncio

from stream_server.config import ServerConfig
from stream_server.metrics import Metrics
from stream_server.streams.registry import StreamFactory
from stream_server.wire.audio_format import AudioFormat
from stream_server.wire.messages import ChannelSpec
from stream_server.wire.results import Result, StreamClosed
from stream_server.wire.start import StreamSpec
from tests.support.live_lab import LabEngine
from tests.support.virtual_time import virtual_time


@virtual_time
async def test_a_stream_closes_after_it_was_opened_though_the_clock_was_set_back():
    published: list[Result] = []
    times = iter([1_800_000_000.0, 1_700_000_000.0])
    factory = StreamFactory(
        engines=LabEngine(),
        config=ServerConfig(),
        metrics=Metrics(),
        publish=published.append,
        now=lambda: next(times),
    )
    spec = StreamSpec(AudioFormat("pcm_s16le", 16_000), (ChannelSpec(role="speaker"),))
    runner = factory("s1", spec)
    await asyncio.sleep(5)
    await runner.finish("stopped")
    closed = published[-1]
    assert isinstance(closed, StreamClosed)
    assert closed.closed_at == 1_800_000_005.0
