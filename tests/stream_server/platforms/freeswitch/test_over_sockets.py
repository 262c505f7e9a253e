"""FreeSWITCH's modules at the gateway, over real sockets."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import numpy as np
import pytest
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Subprotocol

from ser_engine.types import FloatArray
from stream_server.wire.results import StreamClosed, StreamOpened, Summary
from tests.stream_server.streams.timelines import tiles, timeline
from tests.support.asterisk_lab import BOTH_ANALYSED
from tests.support.live_lab import Lab, chunks, live_lab, pcm, stream
from tests.support.virtual_time import virtual_time

RATE = 8000
DRACHTIO = [Subprotocol("audio.drachtio.org")]


def level(seconds: float, amount: float) -> FloatArray:
    return np.full(round(seconds * RATE), amount, dtype=np.float32)


STEREO = pcm(
    np.stack(
        [
            np.concatenate([level(4, 0.1), level(4, 0.2)]),
            np.concatenate([level(4, 0.3), level(4, 0.1)]),
        ],
        1,
    )
)


async def until_empty(lab: Lab) -> None:
    while len(lab.registry):  # noqa: ASYNC110 - no event tells of it
        await asyncio.sleep(0.01)


async def speak(socket: ClientConnection, data: bytes, size: int = 640) -> None:
    for chunk in chunks(data, size):
        await socket.send(chunk)


async def answers(socket: ClientConnection) -> list[Any]:
    """Return all that comes back up to the close."""
    seen = []
    try:
        while True:
            seen.append(json.loads(await socket.recv()))
    except ConnectionClosed:
        return seen


@virtual_time
async def test_a_stereo_call_of_mod_audio_stream_is_one_of_our_own():
    async with live_lab(config=BOTH_ANALYSED) as lab:
        # As mod_audio_stream connects: no subprotocol, and compression is offered.
        async with lab.connect("/freeswitch?mix=stereo", compression="deflate") as socket:
            await socket.send('{"uuid": "u1", "queue": "sales"}')
            await speak(socket, STEREO)
        await until_empty(lab)
        told = list(lab.published)
    (opened,) = [each for each in told if isinstance(each, StreamOpened)]
    assert (opened.name, opened.metadata["queue"]) == ("u1", "sales")
    assert [each.reason for each in told if isinstance(each, StreamClosed)] == ["stopped"]
    async with live_lab(config=BOTH_ANALYSED) as lab:
        channels = [{"role": "customer"}, {"role": "agent"}]
        native = await stream(lab, chunks(STEREO), sample_rate=RATE, channels=channels)
    assert timeline(told) == timeline(native)
    assert [label for _, _, label in tiles(told, 1)] == ["neutral", "angry"]


@pytest.mark.parametrize("name", ["audio.drachtio.org", "audio.jambonz.org"])
@virtual_time
async def test_mod_audio_fork_is_let_in_with_its_subprotocol_and_origin(name: str):
    metadata = json.dumps({"callSid": "c1", "sampleRate": 8000, "mixType": "stereo"})
    async with live_lab(config=BOTH_ANALYSED) as lab:
        # libwebsockets says where it connects to as the origin.
        options = {"subprotocols": [name], "origin": "http://127.0.0.1"}
        connecting = lab.connect("/freeswitch", **options)
        async with connecting as socket:
            assert socket.subprotocol == name
            await socket.send(metadata)
            await speak(socket, STEREO)
            await socket.send(b"")  # Its graceful shutdown.
            assert await answers(socket) == []
            assert socket.close_code == 1000
        (summary,) = [each for each in lab.published if isinstance(each, Summary)]
    assert (summary.reason, summary.duration_s) == ("stopped", 8.0)


@virtual_time
async def test_results_come_back_if_asked_for():
    async with live_lab(config=BOTH_ANALYSED) as lab:
        async with lab.connect("/freeswitch?mix=stereo&wants=segments") as socket:
            await speak(socket, STEREO)
            await socket.send('{"type": "stop"}')
            seen = await answers(socket)
        async with lab.connect(
            "/freeswitch?mix=stereo&wants=segments", subprotocols=DRACHTIO
        ) as socket:
            await speak(socket, STEREO)
            await socket.send('{"type": "stop"}')
            wrapped = await answers(socket)
    labels = [(each["channel"], each["label"]) for each in seen if each["type"] == "segment"]
    assert set(labels) == {(0, "angry"), (0, "happy"), (1, "neutral"), (1, "angry")}
    assert seen[-1]["type"] == "summary"
    assert {each["type"] for each in wrapped} == {"json"}
    assert [each["data"]["type"] for each in wrapped] == [each["type"] for each in seen]


@virtual_time
async def test_a_pause_is_a_gap_as_long_as_it_lasted():
    async with live_lab() as lab:
        async with lab.connect("/freeswitch") as socket:
            await speak(socket, pcm(level(4, 0.1)), 320)
            await socket.send('{"type": "pause"}')
            await asyncio.sleep(3)
            await socket.send('{"type": "resume"}')
            await speak(socket, pcm(level(4, 0.2)), 320)
        await until_empty(lab)
        told = lab.published
    (gap,) = [tile for tile in tiles(told) if tile[2] == "paused"]
    assert gap[1] - gap[0] == pytest.approx(3 * 16_000, abs=160)


@virtual_time
async def test_both_sides_mixed_are_not_analysed_unless_the_settings_say_so():
    async with live_lab() as lab, lab.connect("/freeswitch?mix=mixed") as socket:
        await socket.send("call 7")
        assert await answers(socket) == []
        assert socket.close_reason == "nothing_to_analyse"


@pytest.mark.parametrize("query", ["?rate=96k", "?mix=surround", "?speed=2"])
@virtual_time
async def test_a_wrong_url_is_refused_with_the_handshake(query: str):
    async with live_lab() as lab:
        with pytest.raises(InvalidStatus) as caught:
            async with lab.connect("/freeswitch" + query):
                pass
        assert caught.value.response.status_code == 400
        assert json.loads(caught.value.response.body or b"")["code"] in ("bad_start", "bad_format")
