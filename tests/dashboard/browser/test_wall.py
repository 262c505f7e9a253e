"""How one viewer arranges the wall: pinned, sorted, grouped, and kept as a view."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import msgspec

from dashboard.live.tiles import Tile, TileAlert, TileChannel, WallSnapshot
from ser_engine.schema import LastingState
from tests.support.browser import BROWSER_TEST

if TYPE_CHECKING:
    from playwright.async_api import Page, WebSocketRoute

pytestmark = BROWSER_TEST

OpenPage = Callable[..., Awaitable["Page"]]


def tile(name: str, team: str, role: str, worst: float) -> Tile:
    channel = TileChannel(
        channel=0,
        role=role,
        name="",
        analysed=True,
        label="neutral",
        confidence=0.8,
        since_s=0.0,
        speaking=True,
        state=LastingState(),
        trend=[],
    )
    return Tile(
        stream_id=name,
        name=name,
        team=team,
        roles=[role],
        model="fake",
        opened_at=1.8e9,
        duration_s=60.0,
        channels=[channel],
        alerts=[],
        worst=worst,
    )


LONG_ALERT = TileAlert(
    alert_id="a",
    rule="customer is angry and was interrupted more than twice within the last minute",
    severity="critical",
    channel=0,
    role="customer",
    since_s=2.0,
    at_s=8.0,
    acknowledged=False,
)
TILES = [
    msgspec.structs.replace(tile("Delta", "sales", "customer", 0.9), alerts=[LONG_ALERT]),
    tile("Bravo", "support", "caller", 0.6),
    tile("Alpha", "sales", "customer", 0.3),
    tile("Charlie", "", "customer", 0.0),
]


async def test_the_wall_is_arranged_and_stays_so(open_page: OpenPage):
    from playwright.async_api import expect

    def connected(socket: WebSocketRoute) -> None:
        socket.send(msgspec.json.encode(WallSnapshot(now=1.8e9, tiles=TILES)).decode())

    async def before(page: Page) -> None:
        await page.route_web_socket("**/api/v1/live**", connected)

    page = await open_page("/", before=before)
    names = page.locator(".tile-name")
    await expect(names).to_have_text(["Delta", "Bravo", "Alpha", "Charlie"])
    # What has no room in an alert is cut from the rule's name, not from how long it has lasted.
    parts = page.locator(".alert-words > *")
    await expect(parts).to_have_text([LONG_ALERT.rule, " · for 0:52"])
    right = "(element) => element.getBoundingClientRect().right"
    assert await parts.nth(1).evaluate(right) <= await page.locator(".tile-alert").first.evaluate(
        right
    )
    await page.get_by_role("button", name="Keep Charlie in front").click()
    await expect(names).to_have_text(["Charlie", "Delta", "Bravo", "Alpha"])
    await page.get_by_label("Order").select_option("By name")
    await expect(names).to_have_text(["Charlie", "Alpha", "Bravo", "Delta"])
    await page.get_by_label("Groups").select_option("By team")
    groups = page.locator(".wall-group")
    await expect(groups).to_have_text(["Without a team1", "sales2", "support1"])
    await expect(names).to_have_text(["Charlie", "Alpha", "Delta", "Bravo"])

    # It is kept under a name, is left and found again, in another tab of this browser, too.
    views = page.get_by_label("Saved views")
    await views.select_option("Save this view…")
    await page.get_by_role("dialog").get_by_role("textbox").fill("Teams")
    await page.keyboard.press("Control+Enter")
    await expect(views).to_have_value("view sort=name&group=team")
    await views.select_option("Everything")
    await expect(groups).to_have_count(0)
    other = await open_page("/", context=page.context, before=before)
    await other.get_by_label("Saved views").select_option("Teams")
    await expect(other.locator(".wall-group")).to_have_count(3)
    await expect(other.locator(".tile-name").first).to_have_text("Charlie")
    await other.get_by_label("Saved views").select_option("Delete “Teams”")
    await expect(
        other.get_by_label("Saved views").get_by_role("option", name="Teams")
    ).to_have_count(0)
