"""The scripts that the docs print for web pages of one's own run in a browser as they stand."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from aiohttp import web
from aiohttp.test_utils import BaseTestServer, TestServer

from tests.docs.test_blocks import blocks
from tests.support.browser import BROWSER_TEST
from tests.support.dashboard_server import DashboardServer

if TYPE_CHECKING:
    from playwright.async_api import ConsoleMessage, Page

pytestmark = BROWSER_TEST

OpenPage = Callable[..., Awaitable["Page"]]

PRINT_AS_JSON = """
const { log } = console;
console.log = (...values) => log(JSON.stringify(values));
"""


async def test_scripts_stream_the_microphone_and_follow_the_feed(
    open_page: OpenPage, server: DashboardServer
):
    """Each prints points: the microphones' as they come, the feed's its stream and label."""
    scripts = [text for _, text in blocks("js")]
    feeds = [text for text in scripts if "EventSource" in text]
    microphones = [text for text in scripts if "getUserMedia" in text]
    assert len(feeds) + len(microphones) == len(scripts), "another kind of script: run it, too"

    app = web.Application()
    for number, script in enumerate(scripts):
        app.router.add_get(f"/{number}", answer_with(script, server))
    async with TestServer(app) as own:
        watched = [await printed_by(own, scripts.index(each), open_page) for each in feeds]
        streams = set()
        for each in microphones:
            page, printed = await printed_by(own, scripts.index(each), open_page)
            async with asyncio.timeout(60):
                (ready,) = await printed.get()
                streams.add(ready["stream_id"])
                while (await printed.get())[0]["type"] != "point":
                    pass
            await page.close()
        for _, printed in watched:
            async with asyncio.timeout(60):
                while streams:
                    stream_id, label, confidence = await printed.get()
                    assert isinstance(label, str)
                    assert 0 <= confidence <= 1
                    streams.discard(stream_id)


def answer_with(script: str, server: DashboardServer) -> Callable[[web.Request], Any]:
    """Serve a page of somebody's own: of an origin of this machine that is not the server's."""
    for port, real in ((8765, server.ingest_port), (7860, server.http_port)):
        script = script.replace(f"localhost:{port}", f"127.0.0.1:{real}")
    head = '<!doctype html><title>Mine</title><link rel="icon" href="data:,">'
    html = f'{head}<script type="module">{script}</script>'

    async def answer(request: web.Request) -> web.Response:
        return web.Response(text=html, content_type="text/html")

    return answer


async def printed_by(
    own: BaseTestServer, number: int, open_page: OpenPage
) -> tuple[Page, asyncio.Queue[list[Any]]]:
    """Open a page, and return it with the arguments of each ``console.log`` of its script."""
    printed: asyncio.Queue[list[Any]] = asyncio.Queue()

    def take(message: ConsoleMessage) -> None:
        if message.type == "log":
            printed.put_nowait(json.loads(message.text))

    async def prepare(page: Page) -> None:
        page.on("console", take)
        await page.add_init_script(PRINT_AS_JSON)

    return await open_page(str(own.make_url(f"/{number}")), before=prepare), printed
