from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.browser import BROWSER_TEST, at_least
from tests.support.dashboard_server import DashboardServer

if TYPE_CHECKING:
    from playwright.async_api import Page, WebSocketRoute

pytestmark = BROWSER_TEST

OpenPage = Callable[..., Awaitable["Page"]]


async def start(page: Page, state: str = "live") -> None:
    await page.get_by_test_id("mic-start").click()
    await state_is(page, state)


async def state_is(page: Page, state: str) -> None:
    from playwright.async_api import expect

    await expect(page.get_by_test_id("mic-state")).to_have_attribute("data-state", state)


async def timeline_has(page: Page, points: int) -> None:
    from playwright.async_api import expect

    timeline = page.get_by_test_id("mic-timeline")
    await expect(timeline).to_have_attribute("data-points", at_least(points), timeout=30_000)


async def stream_id(page: Page) -> str:
    href = await page.get_by_test_id("mic-stream").get_attribute("href")
    assert href is not None
    return href.rsplit("/", 1)[1]


async def stop(page: Page) -> None:
    await page.get_by_test_id("mic-stop").click()
    await state_is(page, "ended")


async def results(server: DashboardServer, stream: str) -> list[dict[str, Any]]:
    """Return what is stored of a stream that has ended; the store writes a moment later."""
    async with asyncio.timeout(20):
        while True:
            found = (await server.get(f"/api/v1/streams/{stream}/results"))["results"]
            if found and found[-1]["type"] == "stream_closed":
                return list(found)
            await asyncio.sleep(0.1)


async def test_one_click_streams_the_microphone(open_page: OpenPage, server: DashboardServer):
    from playwright.async_api import expect

    page = await open_page("/microphone")
    await start(page)
    await timeline_has(page, 4)
    await expect(page.get_by_test_id("mic-level")).to_have_attribute("data-heard", "true")
    stream = await stream_id(page)

    wall = await open_page("/", context=page.context)
    tile = wall.locator(f'a[href="/streams/{stream}"]')
    await expect(tile).to_contain_text("Browser microphone")
    await expect(tile).to_contain_text(re.compile(r"\d+\s%"))
    (live,) = (await server.get("/api/v1/streams?live=true"))["streams"]
    assert live["stream_id"] == stream

    await page.bring_to_front()
    await stop(page)
    stored = await results(server, stream)
    (summary,) = [result for result in stored if result["type"] == "summary"]
    assert summary["reason"] == "stopped"
    assert summary["duration_s"] > 2
    assert sum(result["type"] == "point" for result in stored) >= 4
    await expect(tile).to_have_count(0)


async def test_a_pause_is_a_gap_and_the_stream_goes_on(
    open_page: OpenPage, server: DashboardServer
):
    page = await open_page("/microphone")
    await start(page)
    await timeline_has(page, 1)
    await page.get_by_test_id("mic-mark").click()
    await page.get_by_test_id("mic-pause").click()
    await state_is(page, "paused")
    # A pause is as long as what the microphone gives meanwhile, which comes in blocks of 100 ms.
    await page.evaluate("new Promise((done) => setTimeout(done, 1000))")
    await page.get_by_test_id("mic-resume").click()
    await state_is(page, "live")
    await timeline_has(page, 2)
    stream = await stream_id(page)
    await stop(page)
    stored = await results(server, stream)
    assert [result["name"] for result in stored if result["type"] == "marked"] == ["Mark"]
    gaps = [result for result in stored if result["type"] == "gap" and result["final"]]
    assert "paused" in {gap["reason"] for gap in gaps}
    assert not {"lost", "discarded", "error"} & {gap["reason"] for gap in gaps}


async def test_a_lost_connection_loses_nothing(open_page: OpenPage, server: DashboardServer):
    connections: list[WebSocketRoute] = []

    def connect(route: WebSocketRoute) -> None:
        route.connect_to_server()
        connections.append(route)

    async def between(page: Page) -> None:
        await page.route_web_socket(re.compile(f":{server.ingest_port}/"), connect)

    page = await open_page("/microphone", before=between)
    await start(page)
    await timeline_has(page, 1)
    stream = await stream_id(page)
    for count in (1, 2):
        await connections[-1].close(code=4503, reason="the test cuts the line")
        await state_is(page, "waiting")
        await state_is(page, "live")
        assert len(connections) == 1 + count
    await timeline_has(page, 5)
    assert await stream_id(page) == stream
    await stop(page)
    stored = await results(server, stream)
    gaps = [result for result in stored if result["type"] == "gap"]
    assert not {"lost", "discarded"} & {gap["reason"] for gap in gaps}
    points = [result for result in stored if result["type"] == "point"]
    shown = await page.get_by_test_id("mic-timeline").get_attribute("data-points")
    assert shown == str(len(points))


async def test_it_goes_on_while_one_looks_at_another_page(open_page: OpenPage):
    from playwright.async_api import expect

    page = await open_page("/microphone")
    await start(page)
    await timeline_has(page, 1)
    await page.get_by_role("navigation").get_by_role("link", name="Analyse").click()
    indicator = page.locator(".mic-indicator")
    await expect(indicator).to_contain_text("Your microphone is on")
    await (
        page.get_by_role("button", name="中文", exact=True)
        .or_(page.locator("header button[lang=zh]"))
        .first.click()
    )
    await expect(indicator).to_contain_text("麦克风已开启")
    await indicator.get_by_role("link").click()
    await state_is(page, "live")
    await timeline_has(page, 2)
    await expect(indicator).to_have_count(0)
    await stop(page)


@pytest.mark.parametrize(
    ("locale", "title", "remedy"),
    [
        ("en-GB", "Microphone access was denied", "allow the microphone"),
        ("zh-CN", "本页面未获准使用麦克风", "允许麦克风"),
    ],
)
async def test_a_refused_permission_is_explained(
    open_page: OpenPage, locale: str, title: str, remedy: str
):
    from playwright.async_api import expect

    page = await open_page("/microphone", locale=locale, may_use_microphone=False)
    await start(page, "failed")
    await expect(page.get_by_role("alert")).to_contain_text(title)
    await expect(page.get_by_role("alert")).to_contain_text(remedy)


@pytest.mark.parametrize(
    ("error", "title"),
    [
        ("NotFoundError", "No microphone found"),
        ("NotReadableError", "The microphone cannot be opened"),
        ("TypeError", "The microphone did not start"),
    ],
)
async def test_device_errors_are_explained(open_page: OpenPage, error: str, title: str):
    from playwright.async_api import expect

    async def without_device(page: Page) -> None:
        await page.add_init_script(
            "navigator.mediaDevices.getUserMedia = async () => {"
            f" throw new DOMException('made up', '{error}'); }};"
        )

    page = await open_page("/microphone", before=without_device)
    await start(page, "failed")
    await expect(page.get_by_role("alert")).to_contain_text(title)


async def test_an_unplugged_microphone_ends_the_stream_and_says_so(open_page: OpenPage):
    from playwright.async_api import expect

    async def keep_stream(page: Page) -> None:
        await page.add_init_script(
            "const ask = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);"
            "navigator.mediaDevices.getUserMedia = async (what) => window.given = await ask(what);"
        )

    page = await open_page("/microphone", before=keep_stream)
    await start(page)
    await timeline_has(page, 1)
    await page.evaluate("() => { window.given.getTracks()[0].dispatchEvent(new Event('ended')); }")
    await state_is(page, "ended")
    await expect(page.get_by_role("alert")).to_contain_text("The microphone was disconnected")
