"""Connections that want a stream which another one holds, or held, or may not have."""

from __future__ import annotations

import asyncio

from stream_server.wire.messages import Error, Ready
from stream_server.wire.results import StreamClosed, Summary
from tests.support.live_lab import (
    LabEngine,
    chunks,
    level,
    live_lab,
    pcm,
    receive,
    receive_all,
    receive_until,
    send,
    start,
)
from tests.support.virtual_time import virtual_time


def resume(ready: Ready, next_sample: int) -> str:
    return start(resume={"token": ready.resume_token, "next_sample": next_sample, "last_seq": -1})


@virtual_time
async def test_a_client_that_cannot_go_on_leaves_the_stream_to_the_next():
    async with live_lab(max_stream_s=60, resume_window_s=30) as lab:
        async with lab.connect() as socket:
            await socket.send(start())
            ready = await receive(socket)
            await socket.send(pcm(level(1, 0.1)))
            await asyncio.sleep(1)
            socket.transport.abort()
        await asyncio.sleep(0.1)
        for _ in range(2):
            async with lab.connect() as socket:
                await socket.send(resume(ready, 3600 * 16_000))
                seen, code = await receive_all(socket)
                assert isinstance(seen[-1], Error)
                assert (seen[-1].code, code) == ("too_long", 4413)
        async with lab.connect() as socket:
            await socket.send(resume(ready, 16_000))
            again = await receive(socket)
            assert (again.resumed, again.received_samples) == (True, 16_000)
            await send(socket, type="stop")
            assert (await receive_until(socket, Summary))[-1].duration_s == 1.0


@virtual_time
async def test_a_stream_that_nobody_could_take_up_ends_in_time():
    async with live_lab(max_stream_s=60, resume_window_s=30) as lab:
        async with lab.connect() as socket:
            await socket.send(start())
            ready = await receive(socket)
            socket.transport.abort()
        await asyncio.sleep(0.1)
        async with lab.connect() as socket:
            await socket.send(resume(ready, 3600 * 16_000))
            await receive_all(socket)
        await asyncio.sleep(31)
        assert len(lab.registry) == 0
        closed = lab.published[-1]
        assert isinstance(closed, StreamClosed)
        assert closed.reason == "client_lost"


@virtual_time
async def test_a_connection_that_hangs_in_the_engine_is_told_and_closed():
    engine = LabEngine()
    engine.delay_s = 3600.0
    async with live_lab(engine, drain_timeout_s=2, idle_timeout_s=600) as lab:
        async with lab.connect() as first, lab.connect() as second:
            await first.send(start(live=False))
            ready = await receive(first)
            reader = asyncio.create_task(receive_all(first))
            for chunk in chunks(pcm(level(4, 0.1)), 64_000):
                await first.send(chunk)
            await asyncio.sleep(1)
            await second.send(resume(ready, 0))
            again = await receive(second)
            assert (again.resumed, again.stream_id) == (True, ready.stream_id)
            seen, code = await reader
            assert (seen[-1].code, code) == ("replaced", 4409)


@virtual_time
async def test_of_two_that_want_a_stream_the_second_has_it():
    async with live_lab() as lab, lab.connect() as first:
        await first.send(start())
        ready = await receive(first)
        async with lab.connect() as second, lab.connect() as third:
            await second.send(resume(ready, 0))
            await third.send(resume(ready, 0))
            ends = await asyncio.gather(receive_all(first), receive_all(second))
            assert [code for _, code in ends] == [4409, 4409]
            assert (await receive(third)).resumed
            await third.send(pcm(level(1, 0.1)))
            await send(third, type="stop")
            assert (await receive_until(third, Summary))[-1].duration_s == 1.0


@virtual_time
async def test_results_of_ended_streams_are_kept_for_as_many_as_may_run():
    readies: list[Ready] = []
    async with live_lab(max_stream_s=1, max_streams=2) as lab:
        for _ in range(3):
            async with lab.connect() as socket:
                await socket.send(start())
                readies.append(await receive(socket))
                await socket.send(pcm(level(2, 0.1)))
                assert (await receive_all(socket))[1] == 4413
        for ready, is_kept in zip(readies, (False, True, True), strict=True):
            async with lab.connect() as socket:
                await socket.send(resume(ready, 0))
                assert (await receive(socket)).resumed == is_kept
