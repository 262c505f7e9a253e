"""One server and one browser for all tests here; every page is watched for what goes wrong in it.

Tests run in the session's event loop, in which browser and server live:
``pytestmark = BROWSER_TEST`` of ``tests.support.browser``.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import pytest_asyncio

from tests.conftest import SpeechClip
from tests.support.browser import (
    PageLog,
    chromium_arguments,
    chromium_path,
    watch,
    write_microphone_wav,
)
from tests.support.campplus import make_campplus_folder
from tests.support.dashboard_server import DashboardServer

if TYPE_CHECKING:
    from playwright.async_api import Browser, BrowserContext, Page

OpenPage = Callable[..., Awaitable["Page"]]

_PATIENCE_MS = 20_000
"""Longest wait for a page: machines that run tests are busy."""

_EVERY_EMOTION = [
    *("angry", "disgusted", "fearful", "happy", "neutral"),
    *("other", "sad", "surprised", "unknown"),
]
SETTINGS: dict[str, Any] = {
    "stream_server": {
        "alerts": {
            "rules": [
                # Whoever calls and says anything raises it.
                {
                    "name": "somebody speaks",
                    "labels": _EVERY_EMOTION,
                    "roles": ["caller"],
                    "threshold": 0.1,
                    "hold_s": 0.5,
                    "severity": "critical",
                }
            ]
        }
    }
}


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[DashboardServer]:
    """The real server, with the built-in model; whoever speaks is speaker 1 of a stream or file."""
    folder = tmp_path_factory.mktemp("dashboard")
    weights = make_campplus_folder(folder / "voices")
    speakers = {"ser_engine": {"speakers": {"model": str(weights)}}}
    server = DashboardServer(folder, SETTINGS | speakers)
    await server.start()
    yield server
    await server.stop()
    assert "Traceback" not in server.log


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser(
    tmp_path_factory: pytest.TempPathFactory, speech_clips: tuple[SpeechClip, ...]
) -> AsyncIterator[Browser]:
    """Chromium, whose microphone hears people speak."""
    from playwright.async_api import async_playwright, expect

    expect.set_options(timeout=_PATIENCE_MS)
    speech = np.concatenate([clip.samples for clip in speech_clips[:3]])
    microphone = write_microphone_wav(tmp_path_factory.mktemp("mic") / "speech.wav", speech)
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=chromium_path(), args=chromium_arguments(microphone)
        )
        yield browser
        await browser.close()


@pytest_asyncio.fixture(loop_scope="session")
async def open_page(browser: Browser, server: DashboardServer) -> AsyncIterator[OpenPage]:
    """Opens pages, and fails a test whose pages had an error or broke the security policy."""
    contexts: list[BrowserContext] = []
    logs: list[PageLog] = []

    async def open_page(
        path: str,
        *,
        context: BrowserContext | None = None,
        may_use_microphone: bool = True,
        server_may_be_away: bool = False,
        before: Callable[[Page], Awaitable[None]] | None = None,
        **options: Any,
    ) -> Page:
        """Open a page.

        Args:
            path: of the page; or an address, of another server.
            context: another page's, to be a second tab beside it.
            may_use_microphone: whether the browser gives it away.
            server_may_be_away: whether the browser's own errors about that are expected.
            before: done to the page before it loads.
            options: of a new context, e.g. ``locale="zh-CN"``.
        """
        if context is None:
            permissions = ["microphone"] if may_use_microphone else []
            context = await browser.new_context(
                **{"locale": "en-GB", "permissions": permissions, **options}
            )
            context.set_default_timeout(_PATIENCE_MS)
            contexts.append(context)
        page = await context.new_page()
        log = await watch(page)
        log.server_may_be_away = server_may_be_away
        logs.append(log)
        if before is not None:
            await before(page)
        await page.goto(path if path.startswith("http") else server.url + path)
        return page

    yield open_page
    for context in contexts:
        await context.close()
    for log in logs:
        log.check()
