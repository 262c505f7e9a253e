"""Speakers told apart in the whole server: asked for, stored, named by a person, left out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from websockets.asyncio.client import ClientConnection, connect

from tests.stream_server.streams.sessions import babble, encode
from tests.support.campplus import make_campplus_folder
from tests.support.whole_server import whole_server

RATE = 16_000
START = {
    "type": "start",
    "encoding": "pcm_s16le",
    "sample_rate": RATE,
    "channels": [{"role": "customer"}],
    "wants": ["points", "segments", "measures"],
    "live": False,
}


async def until(socket: ClientConnection, kind: str) -> list[dict[str, Any]]:
    """Return the messages up to the first of ``kind``."""
    found: list[dict[str, Any]] = []
    while not found or found[-1]["type"] != kind:
        found.append(json.loads(await socket.recv()))
    return found


async def test_the_agent_is_named_while_the_call_goes_on(tmp_path: Path) -> None:
    # Random weights tell nobody apart: whoever speaks is speaker 1.
    weights = make_campplus_folder(tmp_path / "voices")
    settings = (f"ser_engine.speakers.model={weights}", "ser_engine.vad.detector=webrtc")
    async with (
        whole_server(tmp_path, *settings) as server,
        aiohttp.ClientSession(server.http_url) as session,
        connect(server.ingest_url, proxy=None) as socket,
    ):
        await socket.send(json.dumps({**START, "speakers": "apart"}))
        stream_id = (await until(socket, "ready"))[-1]["stream_id"]
        audio = encode(babble(6 * RATE), "pcm_s16le")
        await socket.send(audio)
        first = (await until(socket, "measures"))[-1]
        (speaker,) = first["channels"][0]["speakers"]
        assert speaker["name"] == "speaker 1"
        path = f"/api/v1/streams/{stream_id}/speakers"
        answer = await session.post(path, json={"speaker": "somebody"})
        assert (answer.status, (await answer.json())["code"]) == (400, "bad_request")
        answer = await session.post(path, json={"speaker": "speaker 1"})
        assert answer.status == 204
        await socket.send(audio)
        await socket.send(json.dumps({"type": "stop"}))
        results = await until(socket, "summary")
        (speaker,) = results[-1]["measures"]["channels"][0]["speakers"]
        assert speaker["left_out"] is True
        assert results[-1]["channels"][0]["gap_s"]["left_out"] > 3
        stored = await (await session.get(f"/api/v1/streams/{stream_id}/results")).json()
        said = {one.get("speaker") for one in stored["results"] if one["type"] == "point"}
        assert said == {"speaker 1"}
        answer = await session.post(path, json={"speaker": "speaker 1"})
        assert (await answer.json())["code"] == "stream_has_ended"
        table = await (await session.get(f"/api/v1/streams/{stream_id}/points.csv")).text()
        assert "speaker 1" in table


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ("ser_engine.speakers.live=off", "does not separate speakers"),
        ("ser_engine.speakers.model=/no/such/file", "no file or folder"),
    ],
)
async def test_a_stream_that_asks_in_vain_is_told_why(
    tmp_path: Path, setting: str, says: str
) -> None:
    async with (
        whole_server(tmp_path, setting) as server,
        connect(server.ingest_url, proxy=None) as socket,
    ):
        await socket.send(json.dumps({**START, "speakers": "apart"}))
        (error,) = await until(socket, "error")
        assert error["code"] == "bad_start"
        assert says in error["message"]
