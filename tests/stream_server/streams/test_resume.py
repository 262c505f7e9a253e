"""A client that drops comes back: nothing is double, nothing is missing."""

from __future__ import annotations

import asyncio
import json
from contextlib import AsyncExitStack
from typing import Any

import numpy as np
import pytest

from stream_server.streams.registry import ResumeTokens
from stream_server.wire.messages import Error, Ready
from stream_server.wire.results import Gap, StreamClosed, StreamOpened, Summary
from tests.stream_server.streams.timelines import gaps, tiles, timeline
from tests.support.live_lab import (
    RATE,
    Lab,
    access,
    chunks,
    level,
    live_lab,
    pcm,
    receive,
    receive_all,
    receive_until,
    send,
    start,
    stream,
)
from tests.support.virtual_time import virtual_time

SPEECH = np.concatenate([level(4, 0.1), level(4, 0.2), level(4, 0.3)])


async def kill(socket: Any) -> None:
    """Lose a connection without a word."""
    socket.transport.abort()
    await socket.wait_closed()


def sample(lab: Lab, name: str, **labels: str) -> float | None:
    return lab.metrics.registry.get_sample_value(f"emotion_monitor_{name}", labels)


def resume(ready: Ready, next_sample: int, last_seq: int = -1, **fields: Any) -> str:
    request = {"token": ready.resume_token, "next_sample": next_sample, "last_seq": last_seq}
    return start(resume=request, **fields)


async def read_rest(socket: Any, seen: list[Any]) -> None:
    rest, _ = await receive_all(socket)
    seen += rest


@pytest.mark.parametrize("cut_bytes", [0, 1, 4001, 31_999, 160_000, 200_001])
@virtual_time
async def test_killed_in_mid_chunk_the_timeline_goes_on(cut_bytes: int):
    data = pcm(SPEECH)
    async with live_lab() as lab:
        whole = await stream(lab, chunks(data))
        seen: list[Any] = []
        async with lab.connect() as socket:
            await socket.send(start())
            ready = await receive(socket)
            await socket.send(data[:cut_bytes])
            await asyncio.sleep(3)
            reader = asyncio.create_task(read_rest(socket, seen))
            await kill(socket)
            await reader
        await asyncio.sleep(20)
        async with lab.connect() as socket:
            last_seq = max((m.seq for m in seen if hasattr(m, "seq")), default=-1)
            await socket.send(resume(ready, 0, last_seq))
            again = await receive(socket)
            assert (again.resumed, again.stream_id) == (True, ready.stream_id)
            assert again.received_samples == cut_bytes // 2
            for chunk in chunks(data[again.received_samples * 2 :]):
                await socket.send(chunk)
            await send(socket, type="stop")
            await read_rest(socket, seen)
    assert timeline(seen) == timeline(whole)
    seqs = [m.seq for m in seen if hasattr(m, "seq")]
    assert seqs == sorted(set(seqs))


@virtual_time
async def test_what_the_client_has_no_more_is_lost():
    data = pcm(SPEECH)
    async with live_lab() as lab:
        async with lab.connect() as socket:
            await socket.send(start())
            ready = await receive(socket)
            await socket.send(data[:64_000])
            await asyncio.sleep(1)
            await kill(socket)
        async with lab.connect() as socket:
            await socket.send(resume(ready, 48_000))
            again = await receive(socket)
            assert again.received_samples == 48_000
            await socket.send(data[96_000:])
            await send(socket, type="stop")
            seen = await receive_until(socket, Summary)
    assert gaps(seen) == {"lost": 16_000}
    assert tiles(seen)[-1][1] == len(SPEECH)


@virtual_time
async def test_too_late_it_is_a_new_stream_and_the_old_one_says_why():
    async with live_lab() as lab:
        async with lab.connect() as socket:
            await socket.send(start())
            ready = await receive(socket)
            await socket.send(pcm(level(2, 0.1)))
            await asyncio.sleep(1)
            await kill(socket)
        await asyncio.sleep(29)
        assert len(lab.registry) == 1
        await asyncio.sleep(2)
        assert len(lab.registry) == 0
        closed = lab.published[-1]
        assert isinstance(closed, StreamClosed)
        assert closed.reason == "client_lost"
        async with lab.connect() as socket:
            await socket.send(resume(ready, 32_000))
            again = await receive(socket)
            assert (again.resumed, again.received_samples) == (False, 0)
            assert again.stream_id != ready.stream_id


@virtual_time
async def test_lost_between_stop_and_summary_it_still_gets_the_summary():
    async with live_lab() as lab:
        lab.engine.delay_s = 2.0
        async with lab.connect() as socket:
            await socket.send(start())
            ready = await receive(socket)
            await socket.send(pcm(level(3, 0.1)))
            await send(socket, type="stop")
            await asyncio.sleep(1)
            await kill(socket)
        await asyncio.sleep(20)
        async with lab.connect() as socket:
            await socket.send(resume(ready, 0))
            again = await receive(socket)
            assert (again.resumed, again.received_controls) == (True, 1)
            seen, code = await receive_all(socket)
            assert code == 1000
            assert (seen[-1].reason, seen[-1].duration_s) == ("stopped", 3.0)
            assert tiles(seen) == [(0, 48_000, "angry")]
        await asyncio.sleep(31)
        async with lab.connect() as socket:
            await socket.send(resume(ready, 0))
            assert not (await receive(socket)).resumed


@virtual_time
async def test_results_published_while_nobody_listened_come_after():
    async with live_lab() as lab:
        lab.engine.delay_s = 0.4
        async with lab.connect() as socket:
            await socket.send(start())
            ready = await receive(socket)
            await socket.send(pcm(level(3, 0.1)))
            await kill(socket)
        await asyncio.sleep(10)
        async with lab.connect() as socket:
            await socket.send(resume(ready, 0))
            assert (await receive(socket)).resumed
            await send(socket, type="stop")
            seen = await receive_until(socket, Summary)
    assert tiles(seen)[0][2] == "angry"
    assert next(m.seq for m in seen if hasattr(m, "seq")) == 1  # 0 is for feeds


@virtual_time
async def test_a_second_connection_takes_the_stream_from_the_first():
    async with live_lab() as lab, lab.connect() as first, lab.connect() as second:
        await first.send(start())
        ready = await receive(first)
        await first.send(pcm(level(1, 0.1)))
        await asyncio.sleep(1)
        await second.send(resume(ready, 0))
        assert (await receive(second)).resumed
        seen, code = await receive_all(first)
        assert code == 4409
        assert isinstance(seen[-1], Error)
        assert seen[-1].code == "replaced"
        await second.send(pcm(level(1, 0.1)))
        await send(second, type="stop")
        summary = (await receive_until(second, Summary))[-1]
        assert summary.duration_s == 2.0


@virtual_time
async def test_a_pause_outlives_the_connection():
    async with live_lab() as lab:
        async with lab.connect() as socket:
            await socket.send(start())
            ready = await receive(socket)
            await socket.send(pcm(level(1, 0.1)))
            await send(socket, type="pause")
            await asyncio.sleep(1)
            await kill(socket)
        async with lab.connect() as socket:
            await socket.send(resume(ready, 16_000))
            again = await receive(socket)
            assert (again.paused, again.received_controls) == (True, 1)
            await send(socket, type="resume", paused_samples=32_000)
            await socket.send(pcm(level(1, 0.1)))
            await send(socket, type="stop")
            seen = await receive_until(socket, Summary)
    assert gaps(seen) == {"paused": 32_000}
    assert seen[-1].duration_s == 4.0


@pytest.mark.parametrize(
    ("fields", "code"),
    [({"sample_rate": 8000}, "bad_start"), ({"channels": [{"role": "customer"}]}, "bad_start")],
)
@virtual_time
async def test_a_stream_goes_on_as_it_began(fields: dict[str, Any], code: str):
    async with live_lab() as lab:
        async with lab.connect() as socket:
            await socket.send(start())
            ready = await receive(socket)
            await kill(socket)
        await asyncio.sleep(0.1)
        async with lab.connect() as socket:
            await socket.send(resume(ready, 0, **fields))
            assert (await receive(socket)).code == code
        async with lab.connect() as socket:
            await socket.send(resume(ready, 0))
            assert (await receive(socket)).resumed


@virtual_time
async def test_nobody_elses_token_takes_a_stream():
    mine, other = "a" * 16, "b" * 16
    async with live_lab(config=access(mine=mine, other=other)) as lab:
        async with lab.connect() as socket:
            await socket.send(start(token=mine))
            ready = await receive(socket)
            await kill(socket)
        await asyncio.sleep(0.1)
        async with lab.connect() as socket:
            await socket.send(resume(ready, 0, token=other))
            assert (await receive(socket)).code == "unauthorized"


@virtual_time
async def test_resumed_again_and_again_nothing_is_lost():
    data = pcm(SPEECH)
    async with live_lab() as lab:
        whole = await stream(lab, chunks(data))
        seen: list[Any] = []
        ready: Ready | None = None
        sent = 0
        while sent < len(data):
            async with lab.connect() as socket:
                last_seq = max((m.seq for m in seen if hasattr(m, "seq")), default=-1)
                await socket.send(start() if ready is None else resume(ready, 0, last_seq))
                now = await receive(socket)
                ready = ready or now
                sent = now.received_samples * 2
                await socket.send(data[sent : sent + 30_001])
                await asyncio.sleep(1)
                reader = asyncio.create_task(read_rest(socket, seen))
                await kill(socket)
                await reader
                sent += 30_001
        assert ready is not None
        async with lab.connect() as socket:
            last_seq = max(m.seq for m in seen if hasattr(m, "seq"))
            await socket.send(resume(ready, 0, last_seq))
            now = await receive(socket)
            await socket.send(data[now.received_samples * 2 :])
            await send(socket, type="stop")
            await read_rest(socket, seen)
    assert timeline(seen) == timeline(whole)


async def started(lab: Lab, socket: Any) -> Ready:
    await socket.send(start())
    ready: Ready = await receive(socket)
    return ready


@virtual_time
async def test_a_full_server_lets_a_lost_client_back_in():
    async with live_lab(max_streams=1) as lab:
        async with lab.connect() as socket:
            ready = await started(lab, socket)
            await kill(socket)
        await asyncio.sleep(0.1)
        assert lab.registry.num_waiting == 1
        async with lab.connect() as socket:
            await socket.send(resume(ready, 0))
            assert json.loads(await socket.recv())["resumed"] is True
            assert lab.registry.num_waiting == 0
            async with lab.connect() as other:
                await other.send(start())
                error = await receive(other)
                assert (error.code, error.retry_after_s) == ("server_full", 5.0)


@virtual_time
async def test_a_new_stream_of_a_full_server_takes_the_place_that_waited_longest():
    async with live_lab(max_streams=2) as lab:
        lost = []
        for _ in range(2):
            async with lab.connect() as socket:
                lost.append(await started(lab, socket))
                await kill(socket)
            await asyncio.sleep(0.1)
        async with lab.connect(f"/?sample_rate={RATE}") as new:
            # Its handshake is not refused, either.
            assert (await receive(new)).resumed is False
            await asyncio.sleep(0.1)
            ended = [m for m in lab.published if isinstance(m, StreamClosed)]
            assert [(m.stream_id, m.reason) for m in ended] == [(lost[0].stream_id, "client_lost")]
            assert sample(lab, "streams_given_up_total", reason="server_full") == 1
            # Who kept its place comes back to it, whoever came meanwhile.
            async with lab.connect() as socket:
                await socket.send(resume(lost[1], 0))
                assert (await receive(socket)).resumed is True
                await send(socket, type="stop")
                await receive_all(socket)
            async with lab.connect() as socket:
                await socket.send(resume(lost[0], 0))
                again = await receive(socket)
        assert (again.resumed, again.continues) == (False, lost[0].stream_id)
        opened = [m for m in lab.published if isinstance(m, StreamOpened)][-1]
        assert (opened.stream_id, opened.continues) == (again.stream_id, lost[0].stream_id)


@virtual_time
async def test_a_place_is_not_taken_for_a_stream_that_cannot_begin():
    async with live_lab(max_streams=1) as lab:
        async with lab.connect() as socket:
            await started(lab, socket)
            await kill(socket)
        async with lab.connect() as socket:
            await socket.send(start(channels=[{"role": "agent"}]))
            assert (await receive(socket)).code == "nothing_to_analyse"
        assert lab.registry.num_waiting == 1


@pytest.mark.parametrize("token", ["", "crm-0123456789abcdef"])
@virtual_time
async def test_of_one_client_no_more_wait_than_it_may(token: str):
    config = access(crm=token) if token else None
    async with live_lab(config=config, max_waiting_streams_per_client=2) as lab:
        for _ in range(3):
            async with lab.connect() as socket:
                await socket.send(start(token=token))
                await receive(socket)
                await kill(socket)
            await asyncio.sleep(0.1)
        assert (len(lab.registry), lab.registry.num_waiting) == (2, 2)
        first = next(m for m in lab.published if isinstance(m, StreamOpened))
        (ended,) = [m for m in lab.published if isinstance(m, StreamClosed)]
        assert ended.stream_id == first.stream_id
        assert sample(lab, "streams_given_up_total", reason="too_many_waiting") == 1
        assert sample(lab, "streams_waiting") == 2


@virtual_time
async def test_a_gateway_that_is_cut_off_finds_all_its_calls_again():
    token = "crm-0123456789abcdef"
    config = access(crm=token)
    async with live_lab(config=config, max_streams_per_token=200) as lab, AsyncExitStack() as stack:
        calls = []
        for _ in range(130):
            socket = await stack.enter_async_context(lab.connect())
            await socket.send(start(token=token))
            calls.append((socket, await receive(socket)))
        for socket, _ in calls:
            await kill(socket)
        await asyncio.sleep(1)
        assert lab.registry.num_waiting == 130
        async with lab.connect() as socket:
            await socket.send(resume(calls[0][1], 0, token=token))
            assert (await receive(socket)).resumed


@virtual_time
async def test_a_token_s_waiting_streams_make_room_for_its_own():
    config = access(crm="crm-0123456789abcdef")
    async with live_lab(config=config, max_streams_per_token=1) as lab:
        async with lab.connect() as socket:
            await socket.send(start(token="crm-0123456789abcdef"))
            await receive(socket)
            await kill(socket)
        async with lab.connect() as socket:
            await socket.send(start(token="crm-0123456789abcdef"))
            assert isinstance(await receive(socket), Ready)
            assert (len(lab.registry), lab.registry.num_waiting) == (1, 0)


@virtual_time
async def test_a_server_that_was_killed_knows_which_stream_a_client_was_in():
    async with live_lab() as lab, lab.connect() as socket:
        ready = await started(lab, socket)
    async with live_lab() as lab, lab.connect() as socket:
        lab.tokens.key = b"another"
        await socket.send(resume(ready, 0))
        assert (await receive(socket)).continues is None
    key = lab.tokens.key = ResumeTokens().key
    forged = f"{ready.stream_id}.{'0' * 48}"
    for token, continues in ((lab.tokens.make("s1"), "s1"), (forged, None), ("s1", None)):
        async with live_lab() as lab, lab.connect() as socket:
            lab.tokens.key = key
            await socket.send(start(resume={"token": token, "next_sample": 0, "last_seq": -1}))
            assert (await receive(socket)).continues == continues


@virtual_time
async def test_gaps_of_a_lost_client_end_where_its_audio_ended():
    async with live_lab(resume_window_s=1) as lab:
        async with lab.connect() as socket:
            await started(lab, socket)
            await socket.send(pcm(level(2, 0.1)))
            await kill(socket)
        await asyncio.sleep(2)
    assert tiles(lab.published) == [(0, 32_000, "angry")]
    assert not [m for m in lab.published if isinstance(m, Gap)]
