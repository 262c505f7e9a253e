"""The real server in a process of its own: killed at work, and given what harms others."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlencode

import aiohttp
import pytest
import pytest_asyncio
from websockets.asyncio.client import connect

from tests.support.dashboard_server import DashboardServer
from tests.support.wrong_files import WRONG_FILES, tone_wav

pytestmark = pytest.mark.asyncio(loop_scope="module")

_PATIENCE_S = 60.0


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[DashboardServer]:
    """With the built-in model and a store."""
    settings = {"dashboard": {"analyse": {"max_duration_s": 3600}}}
    server = DashboardServer(tmp_path_factory.mktemp("server"), settings)
    await server.start()
    yield server
    await server.stop()
    assert "Traceback" not in server.log


async def send(server: DashboardServer, *files: tuple[str, bytes], **fields: str) -> list[str]:
    form = aiohttp.FormData()
    for name, content in files:
        form.add_field("file", io.BytesIO(content), filename=name)
    for name, value in fields.items():
        form.add_field(name, value)
    accepted = await server.ask("POST", "/api/v1/analyse", data=form)
    return [job["job_id"] for job in accepted["jobs"]]


async def until(server: DashboardServer, job_id: str, *states: str) -> dict[str, Any]:
    """Another process tells of nothing by itself."""
    async with asyncio.timeout(_PATIENCE_S):
        while True:
            job: dict[str, Any] = await server.get(f"/api/v1/analyse/{job_id}")
            if job["state"] in states:
                return job
            await asyncio.sleep(0.05)


async def test_a_live_stream_goes_on_whatever_files_are_sent(server: DashboardServer):
    query = urlencode({"sample_rate": 16_000, "name": "live"})
    audio = tone_wav(20)[44:]
    async with connect(f"{server.ingest_url}/?{query}", compression=None) as socket:
        await socket.recv()

        async def heard(until_s: float) -> None:
            async for text in socket:
                message = json.loads(text)
                if message.get("published_s", message.get("end_s", 0)) >= until_s:
                    return

        await socket.send(audio[: 32_000 * 4])
        await asyncio.wait_for(heard(2.0), _PATIENCE_S)
        kinds = list(WRONG_FILES)
        contents = await asyncio.gather(*(asyncio.to_thread(WRONG_FILES[kind]) for kind in kinds))
        job_ids = await send(
            server, *((f"{kind}.wav", data) for kind, data in zip(kinds, contents, strict=True))
        )
        await socket.send(audio[32_000 * 4 : 32_000 * 8])
        await asyncio.wait_for(heard(6.0), _PATIENCE_S)
        for job_id in job_ids:
            job = await until(server, job_id, "done", "failed")
            assert job["error"]["code"] == "bad_audio", job["name"]
        await socket.send(audio[32_000 * 8 : 32_000 * 12])
        await asyncio.wait_for(heard(10.0), _PATIENCE_S)
        await socket.send('{"type": "stop"}')
        last = ""
        async for text in socket:
            last = str(text)
        assert last


async def test_jobs_survive_a_server_that_is_killed(server: DashboardServer):
    first = await send(server, ("first.wav", tone_wav(2)))
    await until(server, first[0], "done")
    # So long that it is killed at work; the other waits meanwhile.
    long, waiting = await send(
        server,
        ("long.wav", tone_wav(240, seed=1)),
        ("waiting.wav", tone_wav(2, seed=2)),
        granularity="frame",
        frame_hop_ms="10",
    )
    job = await until(server, long, "running")
    assert job["progress"] < 1
    begin = {"type": "start", "encoding": "pcm_s16le", "sample_rate": 16_000}
    async with connect(server.ingest_url, compression=None) as socket:
        await socket.send(json.dumps(begin))
        lost = json.loads(await socket.recv())
        await server.get(f"/api/v1/streams/{lost['stream_id']}")  # So it is stored.
        await server.kill()
    await server.start()
    begin["resume"] = {"token": lost["resume_token"], "next_sample": 0, "last_seq": -1}
    async with connect(server.ingest_url, compression=None) as socket:
        await socket.send(json.dumps(begin))
        ready = json.loads(await socket.recv())
    assert (ready["resumed"], ready["continues"]) == (False, lost["stream_id"])
    # Asked for first: so it is stored.
    after = await server.get(f"/api/v1/streams/{ready['stream_id']}")
    assert after["continues"] == lost["stream_id"]
    before = await server.get(f"/api/v1/streams/{lost['stream_id']}")
    assert (before["reason"], before["continued_by"]) == ("server_stopped", ready["stream_id"])
    listed = {job["job_id"]: job for job in (await server.get("/api/v1/analyse"))["jobs"]}
    assert listed[first[0]]["state"] == "done"
    assert listed[long]["state"] in ("waiting", "running"), listed[long]["error"]
    done = await until(server, waiting, "done", "failed")
    assert done["state"] == "done"
    again = await until(server, long, "done", "failed")
    assert (again["state"], again["duration_s"]) == ("done", 240.0)
    # What is suspected of having ended the server goes last.
    assert again["started_at"] > done["started_at"]
    result = await server.get(f"/api/v1/analyse/{first[0]}/result.json?form=demo")
    assert set(result) == {"emotion", "confidence", "granularity"}
    frames = await server.get(f"/api/v1/analyse/{waiting}/result.json?form=demo")
    assert [frame["time"] for frame in frames[:3]] == [0.0, 0.01, 0.02]
    assert set(frames[0]) == {"time", "emotion", "score"}
