"""A server that is restarted: pages that are open go on, and alerts stay acknowledged."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import numpy as np

from tests.conftest import SpeechClip
from tests.support.browser import BROWSER_TEST, at_least, stream_clip
from tests.support.dashboard_server import DashboardServer

if TYPE_CHECKING:
    from playwright.async_api import Page

pytestmark = BROWSER_TEST

OpenPage = Callable[..., Awaitable["Page"]]


async def test_a_restart_under_open_pages(
    open_page: OpenPage, server: DashboardServer, speech_clips: tuple[SpeechClip, ...]
):
    from playwright.async_api import expect

    speech = np.concatenate([clip.samples for clip in speech_clips[:2]])
    ready = await stream_clip(server.ingest_url, speech, role="caller", name="Before")

    # An alert is raised, and acknowledged with a note.
    alerts = await open_page("/alerts", server_may_be_away=True)
    row = alerts.locator(".alert-row").filter(
        has=alerts.locator(f'a[href="/streams/{ready["stream_id"]}"]')
    )
    await expect(row).to_contain_text("somebody speaks")
    await row.get_by_role("button", name="Acknowledge").click()
    dialog = alerts.get_by_role("dialog")
    await dialog.get_by_role("textbox").fill("I called back")
    await dialog.get_by_role("button", name="Acknowledge").click()
    await expect(row).to_have_count(0)

    # The wall, a stream that has ended, and a microphone are open.
    wall = await open_page("/", server_may_be_away=True)
    microphone = await open_page("/microphone", server_may_be_away=True)
    await microphone.get_by_test_id("mic-start").click()
    timeline = microphone.get_by_test_id("mic-timeline")
    await expect(timeline).to_have_attribute("data-points", at_least(1), timeout=30_000)
    old_link = await microphone.get_by_test_id("mic-stream").get_attribute("href")
    await expect(wall.locator(f'a[href="{old_link}"]')).to_be_visible()

    await server.stop()
    state = microphone.get_by_test_id("mic-state")
    await expect(state).to_have_attribute("data-state", "waiting")
    await expect(wall.locator(".connection")).to_have_attribute("data-state", "waiting")
    # Nothing looks as if all were well.
    for page in (wall, microphone, alerts):
        await expect(page.locator("#lost")).to_contain_text("Connection lost at")
    assert "No live streams" not in await wall.locator("main").inner_text()
    points = int(await timeline.get_attribute("data-points") or 0)
    await server.start()

    # The microphone goes on in a new stream, with what was said meanwhile, and the wall shows it.
    await expect(state).to_have_attribute("data-state", "live", timeout=30_000)
    await expect(timeline).to_have_attribute("data-points", at_least(points + 3), timeout=30_000)
    new_link = await microphone.get_by_test_id("mic-stream").get_attribute("href")
    assert new_link != old_link
    await expect(wall.locator(f'a[href="{new_link}"]')).to_be_visible(timeout=30_000)
    await expect(wall.locator(f'a[href="{old_link}"]')).to_have_count(0)
    await expect(wall.locator(".connection")).to_have_attribute("data-state", "live")
    await expect(wall.locator("#lost")).to_be_hidden()
    await microphone.get_by_test_id("mic-stop").click()
    await expect(state).to_have_attribute("data-state", "ended")

    # The alert is acknowledged still, with its note.
    (alert,) = [
        alert
        for alert in (await server.get("/api/v1/alerts?state=acknowledged"))["alerts"]
        if alert["stream_id"] == ready["stream_id"]
    ]
    assert alert["acknowledged_note"] == "I called back"
    await alerts.reload()
    await expect(row).to_have_count(0)
    await alerts.get_by_role("button", name="Acknowledged", exact=True).click()
    await expect(row).to_contain_text("I called back")
