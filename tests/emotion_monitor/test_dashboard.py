"""The dashboard with a whole server: the built-in model, real sockets, a real database."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from emotion_monitor.local_services import NatsServer
from tests.support.results import make_opened, make_point
from tests.support.waiting import until
from tests.support.whole_server import whole_server


@asynccontextmanager
async def serving(folder: Path, *assignments: str) -> AsyncIterator[aiohttp.ClientSession]:
    async with (
        whole_server(folder, *assignments) as server,
        aiohttp.ClientSession(server.http_url) as session,
    ):
        yield session


async def ask(session: aiohttp.ClientSession, method: str, path: str, **options: Any) -> Any:
    async with session.request(method, f"/api/v1{path}", **options) as answer:
        assert answer.status < 300, await answer.text()
        return await answer.json()


async def test_the_sample_call_from_the_click_to_the_wall_and_to_history(tmp_path: Path):
    async with serving(tmp_path) as session:
        info = await ask(session, "GET", "/info")
        assert (info["ready"], info["model"]["name"]) == (True, "compact")
        assert info["labels"][0] == {"name": "angry", "name_zh": "生气"}
        wall = await session.ws_connect("/api/v1/live")
        assert (await wall.receive_json())["tiles"] == []
        stream_id = (await ask(session, "POST", "/sample-call"))["stream_id"]
        (tile,) = (await wall.receive_json())["opened"]
        assert (tile["stream_id"], tile["roles"]) == (stream_id, ["agent", "customer"])
        page = await session.ws_connect(f"/api/v1/live?stream={stream_id}")
        message = await page.receive_json()
        assert message["stream"]["name"] == "Sample call"
        assert message["status"]["effective_step_ms"] > 0
        async with asyncio.timeout(60):
            while not any(one["type"] == "point" for one in message["results"]):
                message = await page.receive_json()
        (stream,) = (await ask(session, "GET", "/streams?live=true"))["streams"]
        assert stream["stream_id"] == stream_id
        await page.close()
        await wall.close()
    async with serving(tmp_path) as session:
        stream = await ask(session, "GET", f"/streams/{stream_id}")
        assert not stream["live"]
        # Which label two seconds of a synthetic voice get differs from processor to processor.
        assert sum(stream["share"].values()) == pytest.approx(1.0)


@pytest.mark.parametrize("granularity", ["frame", "stream"])
async def test_the_sample_is_analysed_by_the_server_s_own_engine(tmp_path: Path, granularity: str):
    async with serving(tmp_path) as session:
        body = {"granularity": granularity}
        job = await ask(session, "POST", "/analyse/sample", json=body)
        async with asyncio.timeout(120):
            while (view := await ask(session, "GET", f"/analyse/{job['job_id']}"))[
                "state"
            ] != "done":
                assert view["error"] is None
        agent, customer = view["result"]["channels"]
        assert view["result"]["duration_s"] == pytest.approx(42.0, abs=0.01)
        assert agent["overall"]["label"] == "neutral"
        if granularity == "stream":
            angry = [one for one in customer["segments"] if one["label"] == "angry"]
            assert any(18 < one["start_s"] < 28 for one in angry), customer["segments"]


async def test_settings_are_shown_without_secrets(tmp_path: Path):
    token = "crm-0123456789abcdef"
    tokens = f"stream_server.access.tokens={{crm: {token}}}"
    async with serving(tmp_path, tokens) as session:
        session.headers["Authorization"] = f"Bearer {token}"
        text = await (await session.get("/api/v1/config")).text()
        assert token not in text
        assert '"crm":"•••"' in text
        models = await ask(session, "GET", "/models")
        assert "compact" in [model["name"] for model in models["on_disk"]]


@pytest.mark.needs("nats", "nats-server")
async def test_a_name_given_at_one_server_reaches_the_pages_of_another(tmp_path: Path):
    nats = NatsServer(tmp_path / "jetstream")

    def settings(name: str) -> list[str]:
        bus = {"url": nats.url, "name": name, "outbox_dir": str(tmp_path / name)}
        files = f"dashboard.analyse.dir={tmp_path}/files of {name}"
        return [files, *(f"stream_server.bus.{key}={value}" for key, value in bus.items())]

    await asyncio.to_thread(nats.start)
    async with (
        contextlib.AsyncExitStack() as stack,
        whole_server(tmp_path, *settings("one")) as one,
        whole_server(tmp_path, *settings("two")) as two,
        aiohttp.ClientSession(one.http_url) as there,
        aiohttp.ClientSession(two.http_url) as here,
    ):
        stack.callback(nats.kill)
        one.own_bus.publish(make_opened())
        await until(lambda: two.live_streams.snapshot("s1"))
        page = await here.ws_connect("/api/v1/live?stream=s1")
        assert (await page.receive_json())["type"] == "snapshot"
        body = {"speaker": "speaker 1", "name": "Ms Li"}
        async with there.put("/api/v1/streams/s1/speakers/0", json=body) as answer:
            assert answer.status == 204
        # A message of names alone is not sent: it comes with results, of which a call has many.
        messages: list[Any] = []
        seq = 0
        while not any(message.get("speakers") for message in messages):
            seq += 1
            one.own_bus.publish(make_point(0.5 * seq, seq=seq))
            messages.append(await page.receive_json())
        assert messages[-1]["speakers"] == {"0": {"speaker 1": "Ms Li"}}
        await page.close()
