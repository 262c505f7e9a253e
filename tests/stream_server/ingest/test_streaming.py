"""What a client sees of the server on an ordinary day."""

from __future__ import annotations

import numpy as np
import pytest

from stream_server.protocol.results import Gap, Point, Segment, Summary
from stream_server.protocol.server_messages import Heartbeat, Ready
from tests.support.live_lab import (
    chunks,
    level,
    live_lab,
    pace,
    pcm,
    receive,
    receive_until,
    send,
    start,
    stream,
)
from tests.support.virtual_time import virtual_time

ANGRY_THEN_HAPPY = np.concatenate([level(5, 0.1), level(5, 0.2)])


@virtual_time
async def test_a_stream_from_start_to_summary():
    async with live_lab() as lab, lab.connect() as socket:
        await socket.send(start(name="a call", channels=[{"role": "customer"}]))
        ready = await receive(socket)
        assert isinstance(ready, Ready)
        assert (ready.resumed, ready.received_samples, ready.window_ms) == (False, 0, 4000)
        assert [label.name for label in ready.labels] == ["angry", "happy", "neutral", "unknown"]
        await pace(socket, pcm(ANGRY_THEN_HAPPY))
        await send(socket, type="stop")
        messages = await receive_until(socket, Summary)
        summary = messages[-1]
        assert (summary.reason, summary.duration_s) == ("stopped", 10.0)
        assert list(summary.channels[0].label_s) == ["angry", "happy"]
        segments = [m for m in messages if isinstance(m, Segment) and m.final]
        assert [segment.label for segment in segments] == ["angry", "happy"]
        assert (segments[0].start_s, segments[-1].end_s) == (0.0, 10.0)
        assert {m.role for m in messages if isinstance(m, Point)} == {"customer"}
        await socket.wait_closed()
        assert socket.close_code == 1000
    assert len(lab.registry) == 0
    assert lab.engine.released == 1
    assert lab.engine.forgotten == [f"{ready.stream_id}/0"]


@virtual_time
async def test_streaming_as_fast_as_possible_says_the_same():
    async with live_lab() as lab:
        slow = await paced(lab)
        fast = await stream(lab, chunks(pcm(ANGRY_THEN_HAPPY), 100_000))
    assert timeline(fast) == timeline(slow)
    assert len(timeline(fast)) > 20


async def paced(lab):
    async with lab.connect() as socket:
        await socket.send(start())
        await pace(socket, pcm(ANGRY_THEN_HAPPY))
        await send(socket, type="stop")
        return await receive_until(socket, Summary)


def timeline(messages):
    """Points, and final segments and gaps, without what names the stream."""
    kept = [
        m for m in messages if isinstance(m, Point) or (isinstance(m, Segment | Gap) and m.final)
    ]
    return [
        (
            type(m).__name__,
            m.start_sample,
            m.end_sample,
            getattr(m, "label", None),
            getattr(m, "posteriors", None),
            getattr(m, "reason", None),
        )
        for m in kept
    ]


@virtual_time
async def test_heartbeats_say_how_it_goes():
    async with live_lab() as lab, lab.connect() as socket:
        await socket.send(start())
        await pace(socket, pcm(level(5.0, 0.1)))
        await send(socket, type="stop")
        seen = await receive_until(socket, Heartbeat)
        beat = seen[-1]
        assert beat.received_s == pytest.approx(1.0, abs=0.021)
        assert 0 <= beat.lag_ms <= 740
        assert beat.effective_step_ms == 500
        assert beat.real_time_factor == 0
