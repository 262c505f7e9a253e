"""Whoever goes too far is told so, and nobody else notices."""

from __future__ import annotations

import asyncio
import contextlib
import json
from dataclasses import replace
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from ser_engine.errors import EngineDeadError
from stream_server.access import AccessConfig
from stream_server.config import LimitsConfig, ServerConfig
from stream_server.streams.registry import Held
from stream_server.wire.dialect import MAX_BAD_MESSAGES
from stream_server.wire.messages import Error, Ready
from stream_server.wire.results import Gap, StreamClosed, Summary
from tests.stream_server.streams.timelines import gaps, tiles, timeline
from tests.support.live_lab import (
    Lab,
    LabEngine,
    access,
    chunks,
    level,
    live_lab,
    pace,
    pcm,
    receive,
    receive_all,
    receive_until,
    send,
    start,
    stream,
)
from tests.support.virtual_time import virtual_time

SECRET = "0123456789abcdef"


async def refusal(lab: Lab, query: str = "", **options: Any) -> dict[str, Any]:
    """Return what a refused handshake says, with its status."""
    with pytest.raises(InvalidStatus) as caught:
        async with lab.connect(query, **options):
            pass
    response = caught.value.response
    assert response.headers["Content-Type"] == "application/json"
    return {"status": response.status_code, **json.loads(response.body or b"")}


async def end_of(socket: Any) -> tuple[Any, int | None]:
    """Return the last message and the close code."""
    seen, code = await receive_all(socket)
    return (seen[-1] if seen else None), code


# -- Before the stream -----------------------------------------------------------------------------


@virtual_time
async def test_an_unknown_path():
    async with live_lab() as lab:
        assert (await refusal(lab, "/nowhere"))["status"] == 404


@virtual_time
async def test_a_wrong_query():
    async with live_lab() as lab:
        got = await refusal(lab, "/?sample_rate=1")
        assert (got["status"], got["code"]) == (400, "bad_format")
        assert "8000 to 48000" in got["message"]


@virtual_time
async def test_a_parameter_that_comes_twice():
    async with live_lab() as lab:
        got = await refusal(lab, "/?sample_rate=8000&sample_rate=16000")
    assert (got["status"], got["code"]) == (400, "bad_start")
    assert "'sample_rate' more than once" in got["message"]


@virtual_time
async def test_a_server_that_is_not_ready():
    engine = LabEngine()
    engine.is_alive = False
    async with live_lab(engine) as lab:
        got = await refusal(lab)
        assert (got["status"], got["code"], got["retry_after_s"]) == (503, "not_ready", 2.0)


@virtual_time
async def test_a_full_server_refuses_before_any_audio():
    async with live_lab(max_streams=2) as lab, lab.connect() as one, lab.connect() as two:
        for socket in (one, two):
            await socket.send(start())
            assert isinstance(await receive(socket), Ready)
        got = await refusal(lab, "/?sample_rate=16000")
        assert (got["status"], got["code"], got["retry_after_s"]) == (503, "server_full", 5.0)
        async with lab.connect() as three:
            await three.send(start())
            error, code = await end_of(three)
            assert (error.code, code) == ("server_full", 4503)
        await send(one, type="stop")
        await receive_all(one)
        async with lab.connect() as three:
            await three.send(start())
            assert isinstance(await receive(three), Ready)
    assert lab.refused == ["server_full", "server_full"]


@virtual_time
async def test_a_token_has_streams_of_its_own():
    config = access(one=SECRET, two=SECRET[::-1])
    async with live_lab(config=config, max_streams_per_token=1) as lab:
        headers = {"Authorization": f"Bearer {SECRET}"}
        async with lab.connect(additional_headers=headers) as first:
            await first.send(start())
            assert isinstance(await receive(first), Ready)
            got = await refusal(lab, "/?sample_rate=16000", additional_headers=headers)
            assert (got["status"], got["code"]) == (429, "too_many_streams")
            async with lab.connect() as second:
                await second.send(start(token=SECRET[::-1]))
                assert isinstance(await receive(second), Ready)


@virtual_time
async def test_an_address_has_streams_of_its_own_whatever_its_tokens():
    config = access(one=SECRET, two=SECRET[::-1])
    async with live_lab(config=config, max_streams_per_address=1) as lab:
        async with lab.connect() as first:
            await first.send(start(token=SECRET))
            assert isinstance(await receive(first), Ready)
            async with lab.connect() as second:
                await second.send(start(token=SECRET[::-1]))
                assert (await receive(second)).code == "too_many_streams"


@virtual_time
async def test_strangers_of_one_address_leave_places_to_others():
    behind = AccessConfig(tokens={"one": SECRET}, trusted_proxies=("127.0.0.1",))
    config = ServerConfig(access=behind)
    async with live_lab(config=config) as lab, contextlib.AsyncExitStack() as open_ones:
        there, elsewhere = {"X-Forwarded-For": "203.0.113.7"}, {"X-Forwarded-For": "203.0.113.8"}
        for _ in range(64):
            await open_ones.enter_async_context(lab.connect(additional_headers=there))
        assert (await refusal(lab, additional_headers=there))["code"] == "server_full"
        async with lab.connect(additional_headers=elsewhere):
            pass


@virtual_time
async def test_a_browser_that_has_logged_in_has_a_session():
    config = access(one=SECRET, two=SECRET[::-1])
    async with live_lab(config=config, max_streams_per_token=1) as lab:
        session = lab.access.sessions.cookie(lab.access.log_in("", SECRET, "here"))
        headers = {"Cookie": f"theme=dark; emotion_monitor_session={session}"}
        async with lab.connect(additional_headers=headers) as first:
            await first.send(start())
            assert isinstance(await receive(first), Ready)
            got = await refusal(lab, "/?sample_rate=16000", additional_headers=headers)
            assert (got["status"], got["code"]) == (429, "too_many_streams")
            async with lab.connect(additional_headers=headers) as second:
                await second.send(start(token=SECRET[::-1]))
                assert isinstance(await receive(second), Ready)


@virtual_time
async def test_a_first_message_that_does_not_come():
    async with live_lab() as lab, lab.connect() as socket:
        error, code = await end_of(socket)
        assert (error.code, code) == ("not_started", 4408)


@pytest.mark.parametrize(
    ("first", "code"),
    [
        (b"\x00" * 640, "not_started"),
        ('{"type": "start", "encoding": "speex", "sample_rate": 16000}', "bad_format"),
        ('{"type": "start", "encoding": "mulaw", "sample_rate": "x"}', "bad_start"),
        (
            '{"type": "start", "version": 9, "encoding": "mulaw", "sample_rate": 8000}',
            "unsupported_version",
        ),
    ],
)
@virtual_time
async def test_a_first_message_that_is_none(first: Any, code: str):
    async with live_lab() as lab, lab.connect() as socket:
        await socket.send(first)
        error, close_code = await end_of(socket)
        assert error.code == code
        assert close_code == error.close_code
        assert error.remedy


@pytest.mark.parametrize(
    ("first", "code"),
    [
        ("garbage", "bad_message"),
        ("[" * 10_000, "bad_message"),
        ('{"type": "hello"}', "unknown_message"),
        ('{"type": "mark", "name": "too early"}', "unexpected_message"),
        ('{"type": "stop"}', "unexpected_message"),
    ],
)
@virtual_time
async def test_what_is_no_start_is_ignored_and_said_so(first: str, code: str):
    async with live_lab() as lab, lab.connect() as socket:
        await socket.send(first)
        error = await receive(socket)
        assert isinstance(error, Error)
        assert (error.code, error.close_code) == (code, None)
        await socket.send(start())
        assert isinstance(await receive(socket), Ready)


@virtual_time
async def test_nothing_but_garbage_before_the_start_ends_the_connection():
    async with live_lab() as lab, lab.connect() as socket:
        for _ in range(MAX_BAD_MESSAGES + 1):
            await socket.send("garbage")
        error, close_code = await end_of(socket)
        assert (error.code, close_code) == ("too_many_errors", 4400)


# -- During the stream -----------------------------------------------------------------------------


@virtual_time
async def test_garbage_between_audio_changes_nothing():
    data = pcm(level(4, 0.1))
    async with live_lab() as lab:
        clean = await stream(lab, chunks(data))
        async with lab.connect() as socket:
            await socket.send(start())
            for number, chunk in enumerate(chunks(data)):
                await socket.send(chunk)
                if number % 20 == 0:
                    await socket.send(
                        ["{", '{"type": "sing"}', "[1]", '"x"', "\x00"][number // 20 % 5]
                    )
            await send(socket, type="stop")
            seen = await receive_until(socket, Summary)
    assert timeline(seen) == timeline(clean)
    errors = [m for m in seen if isinstance(m, Error)]
    assert {error.code for error in errors} == {"bad_message", "unknown_message"}
    assert all(error.close_code is None for error in errors)


@virtual_time
async def test_nothing_but_garbage_ends_the_stream():
    async with live_lab() as lab, lab.connect() as socket:
        await socket.send(start())
        for _ in range(300):
            await socket.send("{")
        error, code = await end_of(socket)
        assert (error.code, code) == ("too_many_errors", 4400)


@virtual_time
async def test_audio_that_is_no_number_is_a_gap():
    import numpy as np

    good = level(2, 0.1).astype("<f4").tobytes()
    bad = np.full(8000, np.nan, "<f4").tobytes()
    async with live_lab() as lab:
        seen = await stream(lab, [good, bad, good], encoding="pcm_f32le")
    assert [m.code for m in seen if isinstance(m, Error)] == ["bad_audio"]
    assert tiles(seen)[-1][1] == 4.5 * 16_000
    assert 8000 <= gaps(seen)["error"] <= 8000 + 2 * 1600  # whole blocks of 100 ms


@virtual_time
async def test_silence_of_the_client():
    async with live_lab(idle_timeout_s=10) as lab, lab.connect() as socket:
        await socket.send(start())
        await socket.send(pcm(level(1, 0.1)))
        for _ in range(5):
            await asyncio.sleep(8)
            await send(socket, type="keepalive")
        seen, code = await receive_all(socket)
        assert (seen[-1].code, code) == ("idle", 4408)
        (summary,) = [m for m in seen if isinstance(m, Summary)]
        assert (summary.reason, summary.duration_s) == ("idle", 1.0)


@virtual_time
async def test_a_stream_that_is_too_long():
    async with live_lab(max_stream_s=3) as lab, lab.connect() as socket:
        await socket.send(start())
        await socket.send(pcm(level(4, 0.1)))
        seen, code = await receive_all(socket)
        assert (seen[-1].code, code) == ("too_long", 4413)
        assert [m.reason for m in seen if isinstance(m, Summary)] == ["too_long"]


@virtual_time
async def test_messages_that_are_too_big():
    async with live_lab(max_message_bytes=1024) as lab:
        async with lab.connect() as socket:
            await socket.send(start())
            await socket.send(bytes(1025))
            error, code = await end_of(socket)
            assert (error.code, code) == ("message_too_big", 1009)
        async with lab.connect() as socket:
            await socket.send(start())
            await socket.send(bytes(1_000_000))
            _, code = await end_of(socket)
            assert code == 1009


@virtual_time
async def test_more_messages_than_anyone_needs():
    async with live_lab(max_messages_per_s=5) as lab, lab.connect() as socket:
        await socket.send(start())
        await receive(socket)
        with pytest.raises(ConnectionClosed):
            for _ in range(100):
                await send(socket, type="keepalive")
                await asyncio.sleep(0.01)
        assert socket.close_code == 4429


@virtual_time
async def test_a_client_that_does_not_read_harms_nobody_and_may_come_back():
    async with live_lab(idle_timeout_s=5, max_kept_results=64, resume_window_s=3600) as lab:
        async with lab.connect(max_queue=1) as deaf, lab.connect() as other:
            await deaf.send(start(wants=["points", "segments", "frames"]))
            ready = await receive(deaf)
            await other.send(start())
            reader = asyncio.create_task(receive_all(other))
            data = pcm(level(400, 0.1))
            senders = [asyncio.create_task(pace(each, data, 0.5)) for each in (deaf, other)]
            await asyncio.gather(*senders, return_exceptions=True)
            await send(other, type="stop")
            seen, code = await reader
            assert code == 1000
            assert gaps(seen) == {}
            deaf.transport.abort()
        async with lab.connect() as back:
            request = {"token": ready.resume_token, "next_sample": 0, "last_seq": -1}
            await back.send(start(resume=request, wants=["points", "segments", "frames"]))
            assert (await receive(back)).resumed
            await send(back, type="stop")
            seen = await receive_until(back, Summary)
        warnings = [m for m in seen if getattr(m, "code", "") == "results_dropped"]
        assert warnings, "what was dropped is counted"


# -- The engine and the server ---------------------------------------------------------------------


@virtual_time
async def test_one_window_that_fails_is_a_gap_and_harms_no_other_stream():
    engine = LabEngine()
    engine.core.fail_when = lambda window: abs(abs(float(window.samples[-1])) - 0.2) < 0.01
    async with live_lab(engine) as lab:
        bad, good = await asyncio.gather(
            stream(lab, chunks(pcm(level(4, 0.2)))), stream(lab, chunks(pcm(level(4, 0.1))))
        )
    assert set(gaps(bad)) == {"error"}
    assert tiles(good) == [(0, 64_000, "angry")]


@virtual_time
async def test_an_engine_that_dies_ends_its_streams():
    async with live_lab() as lab, lab.connect() as socket:
        await socket.send(start())
        await pace(socket, pcm(level(2, 0.1)))
        lab.engine.fails = EngineDeadError("gone")
        with pytest.raises(ConnectionClosed):
            await pace(socket, pcm(level(5, 0.1)))
        seen, code = await receive_all(socket)
        assert (seen[-1].code, code) == ("engine_failed", 4500)
        (summary,) = [m for m in seen if isinstance(m, Summary)]
        assert summary.reason == "engine_failed"
        assert [m.reason for m in seen if isinstance(m, Gap) and m.final] == ["error"]
    assert lab.engine.released == 1


@virtual_time
async def test_a_stopping_server_sends_the_last_results():
    async with live_lab() as lab, lab.connect() as live, lab.connect() as idle:
        url = lab.url
        await idle.send(start())
        await live.send(start())
        await pace(live, pcm(level(2.3, 0.1)))
        readers = [asyncio.create_task(receive_all(each)) for each in (live, idle)]
        await asyncio.sleep(0.1)
        await lab.gateway.aclose()
        (seen, code), (_, idle_code) = await asyncio.gather(*readers)
        assert (seen[-1].code, code, idle_code) == ("shutting_down", 1001, 1001)
        (summary,) = [m for m in seen if isinstance(m, Summary)]
        assert (summary.reason, summary.duration_s) == ("server_stopped", 2.3)
        assert tiles(seen) == [(0, 36_800, "angry")]
        with pytest.raises(OSError):
            async with connect(url):
                pass


@virtual_time
async def test_a_stopping_server_does_not_wait_for_a_recording_that_waits():
    engine = LabEngine()
    engine.delay_s = 3600
    async with live_lab(engine, drain_timeout_s=2) as lab, lab.connect() as socket:
        await socket.send(start(live=False))
        await socket.send(pcm(level(20, 0.1)))
        await asyncio.sleep(1)
        loop = asyncio.get_running_loop()
        reader = asyncio.create_task(receive_all(socket))
        began_s = loop.time()
        await lab.gateway.aclose()
        assert loop.time() - began_s < 20
        await reader
    assert tiles(lab.published)[-1][1] > 0
    assert isinstance(lab.published[-1], StreamClosed)


@virtual_time
async def test_a_stopping_server_waits_no_longer_than_it_says():
    engine = LabEngine()
    async with live_lab(engine, drain_timeout_s=2) as lab, lab.connect() as socket:
        await socket.send(start())
        await pace(socket, pcm(level(2, 0.1)))
        engine.delay_s = 3600
        await pace(socket, pcm(level(1, 0.1)))
        loop = asyncio.get_running_loop()
        reader = asyncio.create_task(receive_all(socket))
        began_s = loop.time()
        await lab.gateway.aclose()
        assert loop.time() - began_s < 9
        seen, code = await reader
        assert code == 1001
        assert gaps(seen).keys() == {"overload"}
        assert isinstance(lab.published[-1], StreamClosed)


@virtual_time
async def test_streams_of_other_processes_count():
    config = replace(access(shop=SECRET), limits=LimitsConfig(max_streams_per_token=3))
    async with live_lab(config=config, max_streams=10) as lab:
        assert lab.registry.held() == Held()
        async with lab.connect() as first:
            await first.send(start(token=SECRET))
            await receive_until(first, Ready)
            held = lab.registry.held()
            assert (held.streams, held.waiting, held.of_token) == (1, 0, {"shop": 1})
            lab.registry.elsewhere = Held(streams=2, of_token={"shop": 2})
            async with lab.connect() as second:
                await second.send(start(token=SECRET))
                error, _ = await end_of(second)
                assert isinstance(error, Error) and error.code == "too_many_streams"
            lab.registry.elsewhere = held + Held(streams=8)
            async with lab.connect() as second:
                await second.send(start(token=SECRET))
                error, _ = await end_of(second)
                assert isinstance(error, Error) and error.code == "server_full"
            lab.registry.elsewhere = Held()
