"""The examples of docs/how-to/deploy.md, run: nginx and Caddy in front of the real server."""

from __future__ import annotations

import asyncio
import io
import json
import os
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import aiohttp
import pytest
import pytest_asyncio
import yaml
from websockets.asyncio.client import connect

from emotion_monitor.settings import load_settings
from tests.dashboard.browser.conftest import OpenPage
from tests.requirements import REPOSITORY
from tests.support.browser import BROWSER_TEST
from tests.support.dashboard_server import DashboardServer, free_ports
from tests.support.nginx import configuration, program

if TYPE_CHECKING:
    from playwright.async_api import Page

pytestmark = [*BROWSER_TEST, pytest.mark.needs("nginx", "caddy")]

PAGE = (REPOSITORY / "docs" / "how-to" / "deploy.md").read_text(encoding="utf-8")
PATIENCE_S = 20.0
TOKEN = "a secret of 16 characters or more"
BEARER = {"Authorization": f"Bearer {TOKEN}"}


def example(language: str, server: DashboardServer) -> str:
    """Return the page's example, for the ports of a server."""
    found = re.search(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)
    assert found
    text = found[1].replace("127.0.0.1:8765", f"127.0.0.1:{server.ingest_port}")
    return text.replace("127.0.0.1:7860", f"127.0.0.1:{server.http_port}")


def nginx(folder: Path, server: DashboardServer, port: int) -> list[str]:
    text = example("nginx", server).replace("listen 80;", f"listen 127.0.0.1:{port};")
    # In the foreground: it is awaited and ended as Caddy is.
    directives = "daemon off; master_process off;"
    config = configuration(folder, text)
    return ["nginx", "-p", str(folder), "-c", str(config), "-e", "stderr", "-g", directives]


def caddy(folder: Path, server: DashboardServer, port: int) -> list[str]:
    text = example("caddy", server).replace("monitor.example.org", f"http://127.0.0.1:{port}")
    config = folder / "Caddyfile"
    # Its own interface for administration has a fixed port.
    config.write_text("{\n\tadmin off\n}\n" + text, encoding="utf-8")
    return ["caddy", "run", "--config", str(config), "--adapter", "caddyfile"]


@asynccontextmanager
async def running(command: list[str], folder: Path, port: int) -> AsyncIterator[None]:
    path = program(command[0])
    assert path
    with (folder / "log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            path, *command[1:], stdout=log, stderr=log, env={**os.environ, "HOME": str(folder)}
        )
    try:
        async with asyncio.timeout(PATIENCE_S):
            while True:
                assert process.returncode is None, (folder / "log").read_text()
                try:
                    _, writer = await asyncio.open_connection("127.0.0.1", port)
                except OSError:
                    # There is nothing to wait on in another process that is not listening yet.
                    await asyncio.sleep(0.02)
                else:
                    writer.close()
                    break
        yield
    finally:
        process.terminate()
        await process.wait()


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def guarded(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[DashboardServer]:
    """A server as the page has it: everybody needs a token, and the proxies are trusted."""
    access = {"tokens": {"operators": TOKEN}, "trusted_proxies": ["127.0.0.1"]}
    server = DashboardServer(
        tmp_path_factory.mktemp("guarded"), {"stream_server": {"access": access}}
    )
    await server.start()
    yield server
    await server.stop()


@pytest_asyncio.fixture(params=[nginx, caddy], scope="module", loop_scope="session")
async def proxy(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    guarded: DashboardServer,
) -> AsyncIterator[str]:
    """Where a proxy serves, e.g. "127.0.0.1:1234/emotion"."""
    folder = tmp_path_factory.mktemp("proxy")
    (port,) = free_ports(1)
    async with running(request.param(folder, guarded, port), folder, port):
        yield f"127.0.0.1:{port}/emotion"


def audio_into(proxy: str) -> connect:
    url = f"ws://{proxy}/ingest/?sample_rate=16000"
    return connect(url, compression=None, additional_headers=BEARER)


async def test_a_page_below_a_path_loads_and_leads_to_others(proxy: str, open_page: OpenPage):
    from playwright.async_api import expect

    async with audio_into(proxy) as socket:
        stream_id = json.loads(await socket.recv())["stream_id"]

    async def log_in(page: Page) -> None:
        answer = await page.context.request.post(
            f"http://{proxy}/login", form={"secret": TOKEN, "next": "/history"}
        )
        assert answer.url == f"http://{proxy}/history"

    # One level deeper than the others.
    page = await open_page(f"http://{proxy}/streams/{stream_id}", before=log_in)
    await expect(page.locator(".page-stream h1")).to_be_visible()
    for name in ("alerts", "history", "wall"):
        await page.locator(f'.nav a[data-page="{name}"]').click()
        await expect(page.locator(f".page-{name} h1").first).to_be_visible()
        path = "/" if name == "wall" else f"/{name}"
        assert page.url == f"http://{proxy}{path}"
    # The wall is connected: its WebSocket goes through the proxy, too.
    await expect(page.locator('.connection[data-state="live"]')).to_be_visible()


async def test_audio_goes_in_and_each_event_comes_out_at_once(proxy: str):
    async with asyncio.timeout(PATIENCE_S), aiohttp.ClientSession(headers=BEARER) as session:
        feed = await session.get(f"http://{proxy}/feed?types=stream_opened,stream_closed")
        assert feed.content_type == "text/event-stream"
        async with audio_into(proxy) as socket:
            stream_id = json.loads(await socket.recv())["stream_id"]
            # While the stream runs: a proxy that gathers answers would keep its opening back.
            async for line in feed.content:
                if b'"stream_opened"' in line and stream_id.encode() in line:
                    break
            await socket.send('{"type": "stop"}')
            async for line in feed.content:
                if b'"stream_closed"' in line and stream_id.encode() in line:
                    break
        feed.close()


async def test_a_large_recording_is_uploaded(proxy: str):
    form = aiohttp.FormData()
    form.add_field("file", io.BytesIO(bytes(2_000_000)), filename="large.bin")
    async with asyncio.timeout(PATIENCE_S), aiohttp.ClientSession(headers=BEARER) as session:
        answer = await session.post(f"http://{proxy}/api/v1/analyse", data=form)
        assert answer.status == 202, await answer.text()
        (job,) = (await answer.json())["jobs"]
        deleted = await session.delete(f"http://{proxy}/api/v1/analyse/{job['job_id']}")
        assert deleted.status == 204, await deleted.text()


async def test_the_settings_of_the_page_are_valid(tmp_path: Path):
    for number, block in enumerate(re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)):
        config = tmp_path / f"{number}.yaml"
        config.write_text(yaml.safe_dump(yaml.safe_load(block)), encoding="utf-8")
        load_settings(config, [])
