"""Asterisk's WebSocket channels at the gateway, over real sockets."""

from __future__ import annotations

import asyncio
import base64
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Subprotocol

from ser_engine.raw_audio import MULAW
from ser_engine.types import FloatArray
from stream_server.access import AccessConfig
from stream_server.config import ServerConfig
from stream_server.platforms import TelephonyConfig
from stream_server.wire.results import StreamClosed, StreamOpened
from tests.stream_server.streams.timelines import points, tiles
from tests.support.asterisk_lab import BOTH_ANALYSED
from tests.support.live_lab import Lab, chunks, live_lab, pcm, stream
from tests.support.virtual_time import virtual_time

RATE = 8000
TOKEN = "0123456789abcdef"
PUBLIC = ServerConfig(
    access=AccessConfig(tokens={"pbx": TOKEN}, refusal_delay_ms=0),
    telephony=TelephonyConfig(public_url="wss://monitor.example.org"),
)


def started(format: str = "ulaw", channel_id: str = "1750000000.42") -> str:
    return (
        "MEDIA_START connection_id:monitor channel:WebSocket/monitor/0x7f39bc02"
        f" channel_id:{channel_id} format:{format} optimal_frame_size:160 ptime:20"
    )


def mulaw(samples: FloatArray) -> bytes:
    """Return the nearest codes."""
    order = np.argsort(MULAW, kind="stable")
    at = np.clip(np.searchsorted(MULAW[order], samples), 1, 255)
    below, above = MULAW[order][at - 1], MULAW[order][at]
    return order[np.where(samples - below < above - samples, at - 1, at)].astype("u1").tobytes()


def level(seconds: float, amount: float) -> FloatArray:
    return np.full(round(seconds * RATE), amount, dtype=np.float32)


async def call(lab: Lab, path: str, data: bytes, *, first: str = "", size: int = 160) -> None:
    """Be one channel of Asterisk's, from connect to hangup."""
    async with lab.connect(path, subprotocols=[Subprotocol("media")]) as socket:
        assert socket.subprotocol == "media"
        await socket.send(first or started())
        for number, chunk in enumerate(chunks(data, size)):
            await socket.send(chunk)
            if number == 10:
                await socket.send("DTMF_END digit:5 channel_id:1750000000.42")
        await socket.close()  # With 1000, as Asterisk does.
        with pytest.raises(ConnectionClosed):
            await socket.recv()  # Nothing was sent back.
    await _until_empty(lab)


async def _until_empty(lab: Lab) -> None:
    while len(lab.registry):  # noqa: ASYNC110 - no event tells of it
        await asyncio.sleep(0.01)


@virtual_time
async def test_a_call_in_mulaw():
    angry_then_happy = mulaw(np.concatenate([level(5, 0.1), level(5, 0.2)]))
    async with live_lab() as lab:
        await call(lab, "/asterisk", angry_then_happy)
        told = lab.published
    (opened,) = [each for each in told if isinstance(each, StreamOpened)]
    assert (opened.name, opened.encoding, opened.sample_rate) == ("1750000000.42", "mulaw", 8000)
    assert [label for _, _, label in tiles(told)] == ["angry", "happy"]
    assert [each.reason for each in told if isinstance(each, StreamClosed)] == ["stopped"]


@virtual_time
async def test_both_sides_are_two_channels_with_the_timelines_of_one_stream():
    sides = [
        np.concatenate([level(4, 0.1), level(4, 0.2)]),
        np.concatenate([level(4, 0.3), level(4, 0.1)]),
    ]
    both = pcm(np.stack(sides, 1))
    async with live_lab(config=BOTH_ANALYSED) as lab:
        channels = [{"role": "customer"}, {"role": "agent"}]
        native = await stream(lab, chunks(both), sample_rate=RATE, channels=channels)
    for channel, (side, path) in enumerate(
        zip(sides, ("/asterisk", "/asterisk?role=agent&name=call+7"), strict=True)
    ):
        async with live_lab(config=BOTH_ANALYSED) as lab:
            await call(lab, path, pcm(side), first=started("slin"), size=320)
            told = lab.published
        assert tiles(told) == tiles(native, channel)
        assert [(0, *each[1:]) for each in points(native) if each[0] == channel] == points(told)


@virtual_time
async def test_a_format_that_cannot_be_analysed_ends_the_channel():
    async with live_lab() as lab, lab.connect("/asterisk") as socket:
        await socket.send(started("speex"))
        await socket.wait_closed()
        assert (socket.close_code, socket.close_reason) == (4400, "bad_format")
        assert lab.refused == ["bad_format"]


@pytest.mark.parametrize(
    ("query", "code"), [("?rolle=agent", "bad_start"), ("?role=a&role=b", "bad_start")]
)
@virtual_time
async def test_a_wrong_url_is_refused_with_the_handshake(query: str, code: str):
    async with live_lab() as lab:
        with pytest.raises(InvalidStatus) as caught:
            async with lab.connect("/asterisk" + query):
                pass
        assert caught.value.response.status_code == 400
        assert lab.refused == [code]


@virtual_time
async def test_a_full_server_refuses_the_handshake():
    async with live_lab(max_streams=1) as lab, lab.connect("/asterisk") as socket:
        await socket.send(started())
        while not len(lab.registry):  # noqa: ASYNC110 - no event tells of it
            await asyncio.sleep(0.01)
        with pytest.raises(InvalidStatus) as caught:
            async with lab.connect("/asterisk"):
                pass
        assert caught.value.response.status_code == 503


def through_proxy(lab: Lab, path: str, **headers: str) -> Any:
    """Connect as by the public URL, where loopback is no excuse."""
    return connect(
        f"ws://monitor.example.org{path}",
        host="127.0.0.1",
        port=lab.gateway.port,
        additional_headers=headers,
        compression=None,
        proxy=None,
    )


@virtual_time
async def test_the_password_of_websocket_client_conf_is_the_token():
    basic = base64.b64encode(f"asterisk:{TOKEN}".encode()).decode()
    async with live_lab(config=PUBLIC) as lab:
        async with through_proxy(lab, "/asterisk", Authorization=f"Basic {basic}") as socket:
            await socket.send(started())
        await _until_empty(lab)
        async with through_proxy(lab, f"/asterisk/{TOKEN}?role=customer") as socket:
            await socket.send(started())
        await _until_empty(lab)
        for path in ("/asterisk", "/asterisk/no-such-token"):
            with pytest.raises(InvalidStatus) as caught:
                async with through_proxy(lab, path):
                    pass
            assert caught.value.response.status_code == 401
        assert lab.refused == ["unauthorized"] * 2


@virtual_time
async def test_a_token_may_have_only_so_many_streams():
    config = replace(PUBLIC, limits=replace(PUBLIC.limits, max_streams_per_token=1))
    async with (
        live_lab(config=config) as lab,
        through_proxy(lab, f"/asterisk/{TOKEN}") as socket,
    ):
        await socket.send(started())
        while not len(lab.registry):  # noqa: ASYNC110 - no event tells of it
            await asyncio.sleep(0.01)
        with pytest.raises(InvalidStatus) as caught:
            async with through_proxy(lab, f"/asterisk/{TOKEN}"):
                pass
        assert caught.value.response.status_code == 429
