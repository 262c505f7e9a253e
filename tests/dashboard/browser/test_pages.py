"""Every page, in both languages, on a laptop and a telephone: no error, no word missing."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import pytest_asyncio

from tests.conftest import SpeechClip
from tests.support.browser import BROWSER_TEST, stream_clip
from tests.support.dashboard_server import DashboardServer

if TYPE_CHECKING:
    from playwright.async_api import Page

pytestmark = BROWSER_TEST

OpenPage = Callable[..., Awaitable["Page"]]

PAGES = (
    *("/", "/streams/{id}", "/microphone", "/analyse", "/alerts?state=all", "/history"),
    *("/oversight", "/audit"),
)
LONG_WORD = "Kraftfahrzeughaftpflichtversicherungsbeitragsrückerstattungsantrag" * 2
_KEY = re.compile(
    r"\b(?:microphone|missing|gap|warning|acknowledge|delete|analyse|wall|stream|alerts|history|nav|shell|state|common|action|emotion|role)"
    r"\.[a-z][a-z_.]+\b"
)
_TOO_LONG = """() => [...document.querySelectorAll("main :is(h1, h2, p, q, li, td, .alert-what)")]
  .filter((each) => each.clientWidth > 0 && each.scrollWidth > each.clientWidth + 1)
  .filter((each) => getComputedStyle(each).overflowX === "visible")
  .map((each) => `${each.tagName} ${each.className}: ${each.textContent.slice(0, 60)}`)"""
_PHONE = {"width": 390, "height": 844}
_LAPTOP = {"width": 1366, "height": 768}


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def ended_stream(server: DashboardServer, speech_clips: tuple[SpeechClip, ...]) -> str:
    """A call of the longest word, with an alert that somebody wrote a lot about."""
    speech = np.concatenate([clip.samples for clip in speech_clips[:3]])
    ready = await stream_clip(server.ingest_url, speech, role="caller", name=LONG_WORD)
    async with asyncio.timeout(20):
        # The store writes a moment after the stream has ended.
        alerts: list[dict[str, Any]] = []
        while not alerts:
            await asyncio.sleep(0.1)
            found = await server.get(f"/api/v1/alerts?stream={ready['stream_id']}")
            alerts = found["alerts"]
    path = f"/api/v1/alerts/{alerts[0]['alert_id']}"
    note = f"<script>alert(1)</script> {LONG_WORD} \n second line"
    await server.ask("POST", f"{path}/acknowledge", json={"note": note})
    await server.ask("POST", f"{path}/assign", json={"to": LONG_WORD[:80]})
    return str(ready["stream_id"])


@pytest.mark.parametrize("path", PAGES)
async def test_every_page(open_page: OpenPage, ended_stream: str, path: str):
    from playwright.async_api import expect

    page = await open_page(
        path.format(id=ended_stream), locale="en-GB", viewport=_LAPTOP, color_scheme="light"
    )
    await fits(page)
    if path == "/history":
        # A long name does not push what can be done with a stream out of sight.
        await expect(page.locator(".col-actions button").first).to_be_in_viewport()
    await expect(page.locator("html")).to_have_attribute("lang", "en")
    await page.emulate_media(color_scheme="dark")
    await page.locator("header button[lang=zh]").click()
    await expect(page.locator("html")).to_have_attribute("lang", "zh-CN")
    text = await fits(page)
    assert re.search(r"[\u4e00-\u9fff]", text)


async def fits(page: Page) -> str:
    """Hold a page to what every page is held to, and return its text."""
    from playwright.async_api import expect

    await expect(page.locator("h1, .state h2").first).to_be_visible()
    await expect(page.locator(".skeleton:visible")).to_have_count(0)
    for size in (_LAPTOP, _PHONE):
        await page.set_viewport_size({"width": size["width"], "height": size["height"]})
        overflow = await page.evaluate(
            "() => document.documentElement.scrollWidth - document.documentElement.clientWidth"
        )
        assert overflow <= 0, f"the page is {overflow} px wider than {size['width']} px"
        assert await page.evaluate(_TOO_LONG) == [], (
            f"texts leave their place at {size['width']} px"
        )
    text = await page.locator("body").inner_text()
    assert not _KEY.findall(text)
    await page.set_viewport_size({"width": _LAPTOP["width"], "height": _LAPTOP["height"]})
    return text


async def test_the_switches_change_language_and_theme_and_are_remembered(open_page: OpenPage):
    from playwright.async_api import expect

    page = await open_page("/analyse")
    await expect(page.get_by_role("heading", level=1)).to_have_text("Analyse recordings")
    await page.locator("header button[lang=zh]").click()
    await expect(page.get_by_role("heading", level=1)).to_have_text("分析录音")
    await page.locator("header .theme").click()
    theme = await page.locator("html").get_attribute("data-theme")
    assert theme in ("light", "dark")
    await page.reload()
    await expect(page.get_by_role("heading", level=1)).to_have_text("分析录音")
    await expect(page.locator("html")).to_have_attribute("data-theme", theme)


async def test_pages_are_reached_with_the_keyboard(open_page: OpenPage):
    from playwright.async_api import expect

    page = await open_page("/microphone")
    await expect(page.get_by_role("heading", level=1)).to_be_visible()
    await page.keyboard.press("Tab")
    await expect(page.locator(".skip")).to_be_focused()
    for _ in range(4):
        await page.keyboard.press("Tab")
    await expect(page.locator('.nav a[href="/analyse"]')).to_be_focused()
    await page.keyboard.press("Enter")
    await expect(page).to_have_url(re.compile("/analyse$"))
    await expect(page.get_by_role("heading", level=1)).to_be_focused()
