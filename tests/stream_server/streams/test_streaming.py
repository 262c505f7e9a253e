"""What a client sees of the server on an ordinary day."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from websockets.exceptions import InvalidStatus

from ser_engine.config import EngineConfig, TimelineConfig
from ser_engine.raw_audio import MULAW
from stream_server.wire.messages import Error, Heartbeat, Ready
from stream_server.wire.results import Flushed, Gap, Marked, Point, Segment, Summary, Warning
from tests.stream_server.streams.timelines import gaps, points, tiles, timeline
from tests.support.live_lab import (
    ENGINE_CONFIG,
    Lab,
    LabEngine,
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
        assert [label for _, _, label in tiles(messages)] == ["angry", "happy"]
        assert {m.role for m in messages if isinstance(m, Point)} == {"customer"}
        assert {m.model for m in messages if isinstance(m, Point)} == {ready.model.name}
        await socket.wait_closed()
        assert socket.close_code == 1000
    assert len(lab.registry) == 0
    assert lab.engine.released == 1
    assert lab.engine.forgotten == [f"{ready.stream_id}/0"]


@virtual_time
async def test_streaming_as_fast_as_possible_says_the_same():
    async with live_lab() as lab:
        slow = await paced(lab, ANGRY_THEN_HAPPY)
        fast = await stream(lab, chunks(pcm(ANGRY_THEN_HAPPY), 100_000))
    assert timeline(fast) == timeline(slow)
    assert len(points(fast)) == 21


async def paced(lab: Lab, samples: Any, **fields: Any) -> list[Any]:
    async with lab.connect() as socket:
        await socket.send(start(**fields))
        await pace(socket, pcm(samples))
        await send(socket, type="stop")
        return await receive_until(socket, Summary)


@virtual_time
async def test_points_come_within_a_step_of_their_audio():
    """Promise 6: at stream time t, frames up to t minus look-ahead are published within a step."""
    async with live_lab() as lab, lab.connect() as socket:
        await socket.send(start())
        ready = await receive(socket)
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        sender = asyncio.create_task(pace(socket, pcm(level(6, 0.1))))
        for _ in range(10):
            point = (await receive_until(socket, Point))[-1]
            late_s = loop.time() - began_s - point.end_s
            assert late_s <= (ready.look_ahead_ms + 20) / 1000 + 1e-6
            assert point.end_sample - point.start_sample <= ready.step_ms * 16
        await sender


@virtual_time
async def test_ready_says_which_windows_the_server_or_the_client_chose():
    economy = replace(ENGINE_CONFIG, timeline=TimelineConfig(profile="economy"))
    async with live_lab(LabEngine(config=economy)) as lab:
        for asked, expected in (
            ({}, ("economy", 3000, 1000)),
            ({"step_ms": 500}, ("asked", 3000, 500)),
            ({"window_ms": 4000, "step_ms": 2000}, ("asked", 4000, 2000)),
        ):
            async with lab.connect() as socket:
                await socket.send(start(**asked))
                ready = await receive(socket)
                assert (ready.profile, ready.window_ms, ready.step_ms) == expected
                await socket.send(pcm(level(6, 0.1)))
                await send(socket, type="stop")
                seen = await receive_until(socket, Summary)
                spans = [end - begin for _, begin, end, *_ in points(seen)]
                assert spans[1] == ready.step_ms * 16
        lengths = {len(window.samples) for window in lab.engine.core.windows}
        assert {48_000, 64_000} <= lengths


@pytest.mark.parametrize(
    ("asked", "got"),
    [
        ({"step_ms": 480}, "step of at least 500 and a window of at most 4000"),
        ({"window_ms": 4020}, "step of at least 500 and a window of at most 4000"),
        ({"step_ms": 510}, "a multiple of 20"),
        ({"window_ms": 500}, "expected their sum to fit into the window"),
    ],
)
@virtual_time
async def test_a_client_may_not_ask_for_more_than_a_stream_usually_takes(
    asked: dict[str, int], got: str
):
    async with live_lab() as lab, lab.connect() as socket:
        await socket.send(start(**asked))
        error = await receive(socket)
        assert isinstance(error, Error)
        assert error.code == "bad_start"
        assert got in error.message
    assert lab.engine.released == 1


@virtual_time
async def test_heartbeats_say_how_it_goes():
    async with live_lab() as lab, lab.connect() as socket:
        await socket.send(start())
        await pace(socket, pcm(level(5.0, 0.1)))
        await send(socket, type="stop")
        beat = (await receive_until(socket, Heartbeat))[-1]
        assert beat.received_s == pytest.approx(1.0, abs=0.021)
        assert beat.received_samples == beat.received_s * 16_000
        assert 0 <= beat.lag_ms <= 740
        assert beat.effective_step_ms == 500
        assert beat.real_time_factor == 0


@virtual_time
async def test_flush_scores_what_is_there_and_mark_comes_back():
    async with live_lab() as lab, lab.connect() as socket:
        await socket.send(start())
        await socket.send(pcm(level(0.7, 0.1)))
        await send(socket, type="mark", name="here")
        await send(socket, type="flush")
        seen = await receive_until(socket, Flushed)
        (mark,) = [m for m in seen if isinstance(m, Marked)]
        assert (mark.name, mark.at_s, seen[-1].at_s) == ("here", 0.7, 0.7)
        assert points(seen)[-1][2] >= 0.68 * 16_000


@virtual_time
async def test_pauses_and_discards_are_gaps():
    async with live_lab() as lab, lab.connect() as socket:
        await socket.send(start())
        await socket.send(pcm(level(2, 0.1)))
        await send(socket, type="pause")
        await asyncio.sleep(3)
        await send(socket, type="resume")
        await socket.send(pcm(level(2, 0.1)))
        await send(socket, type="discarded", samples=8000)
        await socket.send(pcm(level(1, 0.1)))
        await send(socket, type="stop")
        seen = await receive_until(socket, Summary)
    assert gaps(seen)["discarded"] == 8000
    assert gaps(seen)["paused"] == pytest.approx(3 * 16_000, abs=400)
    assert tiles(seen)[-1][1] == pytest.approx(8.5 * 16_000, abs=400)


@virtual_time
async def test_channels_are_scored_apart_by_role():
    both = np.stack([level(3, 0.1), level(3, 0.2)], axis=1).reshape(-1)
    async with live_lab() as lab:
        seen = await stream(
            lab, chunks(pcm(both)), channels=[{"role": "agent"}, {"role": "customer"}]
        )
    assert [channel.analysed for channel in seen[0].channels] == [False, True]
    assert {m.channel for m in seen if isinstance(m, Point)} == {1}
    assert [label for _, _, label in tiles(seen, channel=1)] == ["happy"]


@virtual_time
async def test_no_channel_to_analyse_is_refused():
    async with live_lab() as lab, lab.connect() as socket:
        await socket.send(start(channels=[{"role": "agent"}]))
        error = await receive(socket)
        assert isinstance(error, Error)
        assert (error.code, error.close_code) == ("nothing_to_analyse", 4422)
        await socket.wait_closed()
        assert socket.close_code == 4422
    assert lab.engine.released == 1


@virtual_time
async def test_a_client_without_messages_of_its_own():
    async with live_lab() as lab, lab.connect("/?encoding=pcm_s16le&sample_rate=16000") as socket:
        assert isinstance(await receive(socket), Ready)
        for chunk in chunks(pcm(level(2, 0.2))):
            await socket.send(chunk)
        seen = await receive_until(socket, Point)
        assert seen[-1].label == "happy"


@virtual_time
async def test_a_client_that_only_closes_has_stopped():
    async with live_lab() as lab:
        async with lab.connect("/?sample_rate=16000") as socket:
            await socket.send(pcm(level(2, 0.2)))
        await asyncio.sleep(1)
        assert len(lab.registry) == 0
    assert tiles(lab.published) == [(0, 32_000, "happy")]
    (summary,) = [m for m in lab.published if isinstance(m, Summary)]
    assert summary.reason == "stopped"


@virtual_time
async def test_telephone_audio_in_odd_pieces():
    codes = bytes([int(np.abs(MULAW - 0.2).argmin())]) * (8000 * 3)
    async with live_lab() as lab:
        pieces = await stream(lab, chunks(codes, 33), encoding="mulaw", sample_rate=8000)
        whole = await stream(lab, [codes], encoding="mulaw", sample_rate=8000)
    assert timeline(pieces) == timeline(whole)
    assert {m.narrow_band for m in pieces if isinstance(m, Point)} == {True}
    assert any(isinstance(m, Warning) and m.code == "narrow_band" for m in pieces)


@virtual_time
async def test_one_client_after_the_other_leaves_no_trace():
    async with live_lab() as lab:
        first = await stream(lab, chunks(pcm(ANGRY_THEN_HAPPY)))
        other = await stream(lab, chunks(pcm(level(3, 0.3))))
        again = await stream(lab, chunks(pcm(ANGRY_THEN_HAPPY)))
    assert timeline(first) == timeline(again)
    assert [label for _, _, label in tiles(other)] == ["neutral"]


@virtual_time
async def test_minutes_of_silence_are_one_gap_and_no_inference():
    async with live_lab(LabEngine(config=EngineConfig())) as lab:
        seen = await stream(lab, [bytes(32_000)] * 150)
    assert lab.engine.core.windows == []
    assert tiles(seen) == [(0, 150 * 16_000, "silence")]
    assert not [m for m in seen if isinstance(m, Point | Segment)]
    # Interim versions of one gap, not one a step.
    assert len([m for m in seen if isinstance(m, Gap)]) <= 325


@virtual_time
async def test_every_result_is_published_once_and_in_order():
    async with live_lab() as lab:
        seen = await stream(lab, chunks(pcm(ANGRY_THEN_HAPPY)))
    assert [result.seq for result in lab.published] == list(range(len(lab.published)))
    assert type(lab.published[0]).__name__ == "StreamOpened"
    assert type(lab.published[-1]).__name__ == "StreamClosed"
    sent = [m for m in seen if hasattr(m, "seq")]
    assert sent == [m for m in lab.published if m.seq in {s.seq for s in sent}]


@virtual_time
async def test_a_browser_on_another_site_is_refused():
    async with live_lab() as lab:
        with pytest.raises(InvalidStatus) as caught:
            async with lab.connect(origin="https://evil.example"):
                pass
        assert caught.value.response.status_code == 403
        assert b"forbidden_origin" in caught.value.response.body
        assert lab.refused == ["forbidden_origin"]
        async with lab.connect(origin="http://localhost:7860") as socket:
            await socket.send(start())
            assert isinstance(await receive(socket), Ready)
