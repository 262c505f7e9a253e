"""Every page, theme and language before axe; menus and dialogs by keyboard alone."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import pytest_asyncio
import soundfile
from aiohttp import FormData
from websockets.asyncio.client import connect

from tests.conftest import SpeechClip
from tests.support.browser import BROWSER_TEST, stream_clip
from tests.support.dashboard_server import DashboardServer

if TYPE_CHECKING:
    from playwright.async_api import Page

pytestmark = [*BROWSER_TEST, pytest.mark.needs("axe")]

OpenPage = Callable[..., Awaitable["Page"]]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def call(server: DashboardServer, speech_clips: tuple[SpeechClip, ...]) -> str:
    """A call that raised an alert and has ended."""
    speech = np.concatenate([clip.samples for clip in speech_clips[:3]])
    ready = await stream_clip(server.ingest_url, speech, role="caller", name="Call 31")
    return str(ready["stream_id"])


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def recording(
    server: DashboardServer, speech_clips: tuple[SpeechClip, ...], tmp_path_factory: Any
) -> str:
    """A file that is analysed, its speakers told apart."""
    path = tmp_path_factory.mktemp("recording") / "talk.wav"
    soundfile.write(path, np.concatenate([clip.samples for clip in speech_clips[:2]]), 16_000)
    form = FormData({"granularity": "stream", "speakers": "true"})
    form.add_field("file", path.read_bytes(), filename=path.name)
    job_id = (await server.ask("POST", "/api/v1/analyse", data=form))["job_id"]
    return str(job_id)


@asynccontextmanager
async def live_call(
    server: DashboardServer, clips: tuple[SpeechClip, ...]
) -> AsyncIterator[tuple[str, Callable[[], Awaitable[None]]]]:
    """A call that goes on, with an alert that holds, whose speakers are told apart."""
    heard = np.concatenate([clip.samples for clip in clips])
    audio = (np.clip(heard, -1, 1) * 32767).astype("<i2").tobytes()
    url = f"{server.ingest_url}/?sample_rate=16000&roles=caller&name=Call+32&speakers=apart"
    async with connect(url, compression=None) as socket:
        ready = json.loads(await socket.recv())
        await socket.send(audio)
        # Who spoke is decided seconds later, and told every five.
        yield str(ready["stream_id"]), lambda: socket.send(bytes(2 * 8 * 16_000))


async def _findings(page: Page) -> list[str]:
    """Return what axe finds, a line a rule and element."""
    found: list[dict[str, Any]] = await page.evaluate(
        "axe.run(document, {resultTypes: ['violations']}).then((found) => found.violations)"
    )
    return [
        f"{each['id']}: {node['html'][:200]} {node['failureSummary'][:300]}"
        for each in found
        for node in each["nodes"]
    ]


# Every page in both themes and in both languages; not in all four pairs of them, for contrast does
# not depend on the language.
@pytest.mark.parametrize(("theme", "locale"), [("light", "en-GB"), ("dark", "zh-CN")])
async def test_axe_finds_nothing(
    open_page: OpenPage,
    server: DashboardServer,
    speech_clips: tuple[SpeechClip, ...],
    call: str,
    recording: str,
    theme: str,
    locale: str,
):
    from playwright.async_api import expect

    axe = files("axe_playwright_python").joinpath("axe.min.js").read_text("utf-8")
    page = await open_page(
        "/history",
        # That an unknown address is answered with 404 the browser says itself.
        server_may_be_away=True,
        color_scheme=theme,
        locale=locale,
        viewport={"width": 1280, "height": 900},
        reduced_motion="reduce",
        # The pages allow no script of others; this one is ours.
        bypass_csp=True,
    )
    address = page.url.removesuffix("/history")
    found: dict[str, list[str]] = {}

    async def look(path: str, element: str) -> None:
        await page.goto(address + path)
        await expect(page.locator(element).first).to_be_attached()
        await page.evaluate(axe)
        found[path] = await _findings(page)

    async with live_call(server, speech_clips[:3]) as (live, be_silent):
        await look("/", f'a.tile[href="/streams/{live}"]')
        # As it is marked while the server is away: what is old can still be read.
        await page.evaluate("document.querySelector('.shell-main').dataset.stale = 'true'")
        found["the same without its server"] = await _findings(page)
        await look("/?view=board", f'[data-stream-id="{live}"]')
        name = {"speaker": "speaker 1", "name": "Ms Li"}
        await server.ask("PUT", f"/api/v1/streams/{live}/speakers/0", json=name)
        await look(f"/streams/{live}", ".open-alerts .notice")
        await be_silent()
        await page.locator(".speaker-name", has_text="Ms Li").locator(".icon-only").click()
        await page.locator(".segments summary").click()
        found["the same while a speaker is named"] = await _findings(page)
    await look(f"/streams/{call}", "[data-testid=measures]")
    await page.locator(".segments summary").click()
    await page.locator(".export").click()
    found["the same with its menu and table"] = await _findings(page)
    await look("/history", "tbody tr")
    await look("/alerts", ".alert-row")
    await page.locator(".alert-why summary").first.click()
    await page.locator(".alert-precision summary").click()
    await expect(page.get_by_test_id("precision")).to_be_visible()
    found["the same with what led to an alert"] = await _findings(page)
    await look(f"/analyse?job={recording}", "[data-drawn=true]")
    await page.locator("[data-testid=speakers] summary").click()
    await page.locator(".segments summary").click()
    await page.locator(".speaker-name").get_by_role("button").click()
    found["a recording while a speaker is named"] = await _findings(page)
    # Named by keyboard, in the words of this theme's language; chart and table have it at once.
    await page.keyboard.type(f"Mr Oe {theme}")
    await page.keyboard.press("Enter")
    await expect(page.locator(".speaker-name .icon-only")).to_be_focused()
    await expect(page.locator(".segment-speaker", has_text=f"Mr Oe {theme}").first).to_be_visible()
    await expect(page.locator(".ytick", has_text="Mr Oe")).to_have_count(1)
    for path in ("/analyse", "/microphone", "/oversight", "/audit"):
        await look(path, "main h1")
    await look("/nowhere", ".state h1")
    await look("/streams/nowhere", ".state h1")
    # What is wider than a phone is moved by keyboard, too.
    await page.set_viewport_size({"width": 390, "height": 800})
    for path in ("/oversight", "/audit"):
        await look(f"{path}?narrow", "tbody tr")
    # Who wants no motion sees a change as a whole: no property of it is a frame late.
    style = "getComputedStyle(document.querySelector('main')).transitionProperty"
    assert await page.evaluate(style) == "none"
    assert not {path: lines for path, lines in found.items() if lines}


async def test_a_stream_is_read_and_deleted_by_keyboard_alone(open_page: OpenPage, call: str):
    from playwright.async_api import expect

    page = await open_page(f"/streams/{call}")
    await expect(page.get_by_test_id("measures")).to_be_visible()
    # The menu opens, is walked through and closes, and the focus is back where it was.
    opener = page.locator(".export")
    await opener.focus()
    await page.keyboard.press("Enter")
    await expect(page.locator("#export-menu .menu-item").first).to_be_focused()
    await page.keyboard.press("ArrowDown")
    await expect(page.locator("#export-menu .menu-item").nth(1)).to_be_focused()
    await page.keyboard.press("Escape")
    await expect(page.locator("#export-menu")).to_be_hidden()
    await expect(opener).to_be_focused()
    # Nothing is deleted by pressing Enter twice.
    remove = page.get_by_role("button", name="Delete this stream")
    await remove.focus()
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("dialog").get_by_role("button", name="Cancel")).to_be_focused()
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("dialog")).to_have_count(0)
    await expect(remove).to_be_focused()
