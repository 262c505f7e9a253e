"""What an operator reads of streams: one line where each opens, closes or is refused."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import Any

import pytest
from structlog.testing import capture_logs
from websockets.exceptions import InvalidStatus

from stream_server.logs import SparseLog, without_quotes
from stream_server.platforms import TelephonyConfig
from tests.support.live_lab import access, level, live_lab, pcm, receive_all, start
from tests.support.virtual_time import virtual_time


def lines(logs: Any, event: str) -> list[dict[str, Any]]:
    return [dict(line) for line in logs if line["event"] == event]


@virtual_time
async def test_a_stream_that_opens_and_closes():
    with capture_logs() as logs:
        async with live_lab() as lab, lab.connect() as socket:
            await socket.send(start(name="Mrs Miller", metadata={"patient": "17"}))
            await socket.send(pcm(level(2, 0.1)))
            await socket.send('{"type": "stop"}')
            await receive_all(socket)
    (opened,) = lines(logs, "stream_opened")
    (closed,) = lines(logs, "stream_closed")
    assert opened["stream_id"] == closed["stream_id"]
    assert (opened["route"], closed["route"]) == ("/", "/")
    assert (closed["reason"], closed["audio_s"]) == ("stopped", 2.0)
    assert "Miller" not in repr(logs)
    assert "patient" not in repr(logs)


@virtual_time
async def test_a_name_is_no_id_of_a_call():
    with capture_logs() as logs:
        async with live_lab() as lab, lab.connect("/?name=mrs_miller") as socket:
            await socket.send('{"type": "stop"}')
            await receive_all(socket)
    assert "call_id" not in lines(logs, "stream_opened")[0]


@virtual_time
async def test_a_call_is_logged_with_the_platforms_id():
    call = "CA0123456789abcdef0123456789abcdef"
    with capture_logs() as logs:
        async with live_lab() as lab, lab.connect("/twilio") as socket:
            media = {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1}
            fields = {"streamSid": "MZ1", "callSid": call, "mediaFormat": media}
            await socket.send(json.dumps({"event": "start", "streamSid": "MZ1", "start": fields}))
            await socket.send(json.dumps({"event": "stop", "streamSid": "MZ1"}))
            await receive_all(socket)
    (opened,) = lines(logs, "stream_opened")
    assert (opened["route"], opened["call_id"]) == ("/twilio", call)


@pytest.mark.parametrize(
    ("target", "route", "code"),
    [
        ("/", "/", "unauthorized"),
        ("/?sample_rate=1&roles=mrs_miller", "/", "bad_format"),
        ("/twilio", "/twilio", "unauthorized"),
        ("/v1/listen", "/v1", "unauthorized"),
        ("/mrs_miller", "unknown", "unknown_path"),
    ],
)
@virtual_time
async def test_every_refused_handshake_has_its_line(target: str, route: str, code: str):
    headers = {"Authorization": "Bearer mrs_miller_is_wrong"}
    # With a public address even clients on this machine need a token.
    telephony = TelephonyConfig(public_url="ws://127.0.0.1")
    config = replace(access(crm="0123456789abcdef"), telephony=telephony)
    with capture_logs() as logs:
        async with live_lab(config=config) as lab:
            for _ in range(10):
                with pytest.raises(InvalidStatus):
                    async with lab.connect(target, additional_headers=headers):
                        pass
            text = lab.metrics.exposition().decode()
    told = lines(logs, "stream_refused")
    assert [(line["route"], line["code"]) for line in told] == [(route, code)] * 10
    assert all(line["reason"] for line in told)
    assert "miller" not in repr(logs)
    assert f'refused_total{{reason="{code}",route="{route}"}} 10.0' in text


async def test_a_request_that_opens_no_websocket_has_its_line():
    with capture_logs() as logs:
        async with asyncio.timeout(60), live_lab() as lab:
            reader, writer = await asyncio.open_connection("127.0.0.1", lab.gateway.port)
            writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert b" 426 " in await reader.readline()
            writer.close()
    (line,) = lines(logs, "stream_refused")
    assert (line["route"], line["code"]) == ("/", "bad_start")


def test_a_flood_is_not_logged_in_full():
    log = SparseLog(10.0, lambda: 100.0, burst=20)
    assert [log.take("full") for _ in range(100)] == [0] * 20 + [None] * 80


@pytest.mark.parametrize("text", ["got role 'Mrs Miller', expected a-z", 'got "it\'s Miller"'])
def test_an_error_is_logged_without_what_the_client_sent(text: str):
    assert "Miller" not in without_quotes(text)
