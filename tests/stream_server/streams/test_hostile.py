"""Clients that mean harm: nobody else notices, and what they break is their own."""

from __future__ import annotations

import asyncio
import json
import logging

import numpy as np
import pytest

from ser_engine.config import EngineConfig
from stream_server.streams.runner import StreamRunner
from stream_server.streams.session import Session
from stream_server.streams.session_results import ChannelWindow
from stream_server.wire.messages import Ready
from stream_server.wire.results import Marked, StreamClosed, Summary
from tests.support.live_lab import (
    LabEngine,
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


@virtual_time
async def test_a_target_that_is_no_url_is_an_unknown_path(caplog: pytest.LogCaptureFixture):
    async with live_lab() as lab:
        reader, writer = await asyncio.open_connection("127.0.0.1", lab.gateway.port)
        writer.write(
            b"GET //[x HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n"
            b"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
        )
        answer = await reader.read()
        writer.close()
    assert answer.startswith(b"HTTP/1.1 404")
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["code"] == "unknown_path"
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


@virtual_time
async def test_audio_that_is_no_number_makes_no_stream_longer_than_allowed():
    # Each message is told of anew.
    samples = np.zeros(16_000, dtype="<f4")
    samples[8000] = np.nan
    bad = samples.tobytes()
    async with live_lab(max_stream_s=3) as lab, lab.connect() as socket:
        await socket.send(start(encoding="pcm_f32le"))
        for _ in range(6):
            await socket.send(bad)
        seen, code = await receive_all(socket)
    assert (seen[-1].code, code) == ("too_long", 4413)


@virtual_time
async def test_a_message_of_much_audio_lets_others_in_between(monkeypatch: pytest.MonkeyPatch):
    turns = 0
    seen_by_turn: list[int] = []
    advance = Session.advance

    def counted(session: Session) -> list[ChannelWindow]:
        seen_by_turn.append(turns)
        return advance(session)

    async def count() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    monkeypatch.setattr(Session, "advance", counted)
    silence = b"\xff" * 800_000  # 100 s, in which no window is due
    engine = LabEngine(config=EngineConfig())
    async with live_lab(engine) as lab, lab.connect() as socket:
        await socket.send(start(encoding="mulaw", sample_rate=8000, live=False))
        await receive(socket)
        counting = asyncio.create_task(count())
        await socket.send(silence)
        await send(socket, type="stop")
        await receive_until(socket, Summary)
        counting.cancel()
    assert engine.priorities == []
    assert len(seen_by_turn) > 100
    assert len(set(seen_by_turn)) == len(seen_by_turn)


@virtual_time
async def test_after_the_end_nothing_is_published():
    engine = LabEngine()
    async with live_lab(engine, max_kept_results=64, drain_timeout_s=5) as lab:
        async with lab.connect() as socket:
            await socket.send(start())
            ready: Ready = await receive(socket)
            for number in range(200):
                await send(socket, type="mark", name=str(number))
            await receive_until(socket, Marked)
            engine.delay_s = 1.0
            await socket.send(pcm(level(1, 0.1)))
            await send(socket, type="stop")
            await asyncio.sleep(0.5)
            socket.transport.abort()
        await asyncio.sleep(5)
        request = {"token": ready.resume_token, "next_sample": 0, "last_seq": 0}
        async with lab.connect() as socket:
            await socket.send(start(resume=request))
            seen, code = await receive_all(socket)
    assert code == 1000
    assert isinstance(seen[-1], Summary)
    assert isinstance(lab.published[-1], StreamClosed)


@virtual_time
async def test_a_failure_to_tell_of_the_stream_ends_it_with_an_error(
    monkeypatch: pytest.MonkeyPatch,
):
    def fail(runner: StreamRunner) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(StreamRunner, "heartbeat", fail)
    async with live_lab() as lab, lab.connect() as socket:
        await socket.send(start())
        seen, code = await receive_all(socket)
        assert (seen[-1].code, code) == ("internal", 4500)
        assert len(lab.registry) == 0
