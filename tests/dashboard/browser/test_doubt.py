"""What is not worth believing is not said, and a whole is not one label: on the wall and on a call.

What the server says is made up here, because no recording is sure to be unclear on every processor.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import msgspec

from dashboard.live.tiles import LiveSnapshot, StreamItem, Tile, TileChannel, WallSnapshot
from ser_engine.schema import (
    ChannelSummary,
    Gap,
    LastingState,
    ModelNotice,
    Point,
    Segment,
    Summary,
)
from ser_engine.timeline.course import whole_of
from stream_server.wire import results
from stream_server.wire.results import Result, StreamChannel, in_envelope
from tests.support.browser import BROWSER_TEST

if TYPE_CHECKING:
    from playwright.async_api import Page, Route, WebSocketRoute

pytestmark = BROWSER_TEST

OpenPage = Callable[..., Awaitable["Page"]]

LABELS = ("angry", "sad", "neutral")
CHANNEL = StreamChannel(index=0, role="customer", name="", analysed=True)


def tiles_of(course: str) -> list[Segment | Gap]:
    """Return a tile a second: ``a`` angry, ``s`` sad, ``?`` unclear, ``.`` silence."""
    labels = {"a": "angry", "s": "sad", "?": None}
    return [
        Gap(start_sample=at * 16_000, end_sample=(at + 1) * 16_000, reason="silence", final=True)
        if what == "."
        else Segment(
            start_sample=at * 16_000,
            end_sample=(at + 1) * 16_000,
            label=labels[what],
            best=labels[what] or "angry",
            confidence=0.7 if labels[what] else 0.38,
            final=True,
        )
        for at, what in enumerate(course)
    ]


def stream_of(course: str, *, closed_at: float | None) -> tuple[StreamItem, list[Result]]:
    """Return a stream of one channel, and its results."""
    item = StreamItem(
        stream_id="doubt",
        name="Call 20",
        channels=(CHANNEL,),
        model=ModelNotice(name="fake", licence=""),
        labels=LABELS,
        metadata={},
        sample_rate=16_000,
        encoding="pcm_s16le",
        step_ms=1000,
        opened_at=1.8e9,
        closed_at=closed_at,
        reason=None if closed_at is None else "stopped",
        duration_s=float(len(course)),
        summary=None,
        continues=None,
        continued_by=None,
        live=closed_at is None,
        share={},
        alerts=0,
        open_alerts=0,
        recorded=[],
    )
    found: list[Result] = []
    about = {"stream_id": "doubt", "channel": 0, "role": "customer"}
    for tile in tiles_of(course):
        if isinstance(tile, Gap):
            found.append(in_envelope(results.Gap, tile, seq=len(found), **about))
            continue
        found.append(in_envelope(results.Segment, tile, seq=len(found), **about))
        point = Point(
            start_sample=tile.start_sample,
            end_sample=tile.end_sample,
            posteriors=(0.38, 0.32, 0.3),
            label=tile.label,
            best=tile.best,
            confidence=tile.confidence,
            speech_share=1.0,
            provisional=False,
            widened=False,
        )
        found.append(in_envelope(results.Point, point, seq=len(found), model="fake", **about))
    if closed_at is not None:
        channel = ChannelSummary(
            channel=0,
            role="customer",
            scored_s=1.0,
            label_s={},
            gap_s={},
            points=1,
            whole=whole_of(tiles_of(course)),
        )
        summary = Summary(
            reason="stopped", duration_s=1.0, received_samples=0, channels=(channel,), alerts=0
        )
        found.append(in_envelope(results.Summary, summary, stream_id="doubt", seq=len(found)))
    return item, found


async def show(open_page: OpenPage, course: str, *, closed_at: float | None = None) -> Page:
    """Open the page of such a stream."""
    item, found = stream_of(course, closed_at=closed_at)

    async def answer(route: Route) -> None:
        body = msgspec.json.encode(item).decode()
        await route.fulfill(body=body, content_type="application/json")

    def connected(socket: WebSocketRoute) -> None:
        socket.send(msgspec.json.encode(LiveSnapshot(stream=item, results=found)).decode())

    async def before(page: Page) -> None:
        await page.route("**/api/v1/streams/doubt", answer)
        await page.route(
            "**/api/v1/streams/doubt/labels", lambda route: route.fulfill(json={"tiers": []})
        )
        await page.route_web_socket("**/api/v1/live**", connected)

    page: Page = await open_page("/streams/doubt", before=before)
    return page


async def test_the_wall_says_unclear_and_no_figure(open_page: OpenPage):
    from playwright.async_api import expect

    channel = TileChannel(
        channel=0,
        role="customer",
        name="",
        analysed=True,
        label=None,
        confidence=0.38,
        since_s=0.0,
        speaking=True,
        state=LastingState(before="angry", before_until_s=2.0),
        trend=[(0.0, None, 0.38)],
    )
    tile = Tile(
        stream_id="doubt",
        name="Call 20",
        roles=["customer"],
        model="fake",
        opened_at=1.8e9,
        duration_s=130.0,
        channels=[channel],
        alerts=[],
        worst=0.0,
    )

    def connected(socket: WebSocketRoute) -> None:
        socket.send(msgspec.json.encode(WallSnapshot(now=1.8e9, tiles=[tile])).decode())

    async def before(page: Page) -> None:
        await page.route_web_socket("**/api/v1/live**", connected)

    page = await open_page("/", before=before)
    now = page.locator(".tile-now")
    await expect(now).to_have_attribute("data-state", "unclear")
    await expect(now.locator("strong")).to_have_text("Unclear")
    await expect(now).not_to_contain_text("%")
    await expect(page.get_by_role("button", name="Unclear 1")).to_be_visible()
    await expect(page.locator(".tile-state")).to_have_text("was angry 2 min ago")


async def test_a_call_that_is_unclear_now_shows_no_emotion_in_large_type(open_page: OpenPage):
    from playwright.async_api import expect

    page = await show(open_page, "aa??")
    await expect(page.locator(".current-word")).to_have_text("Unclear")
    await expect(page.locator(".current-percent")).to_be_empty()
    await expect(page.locator(".bar.is-label")).to_have_count(0)


async def test_a_whole_is_its_shares_and_mostly_means_more_than_half(open_page: OpenPage):
    from playwright.async_api import expect

    page = await show(open_page, "aas??s..", closed_at=1.8e9)  # codespell:ignore
    await expect(page.get_by_test_id("whole")).to_have_text("Mixed")
    shares = page.get_by_test_id("shares").get_by_role("listitem")
    await expect(shares).to_have_count(3)
    await expect(shares.filter(has_text="Unclear")).to_contain_text("33")
    await expect(page.get_by_test_id("quarters").get_by_role("listitem")).to_have_count(4)
    page = await show(open_page, "aaas", closed_at=1.8e9)
    await expect(page.get_by_test_id("whole")).to_have_text("Mostly angry")
    await expect(page.get_by_test_id("trend")).to_contain_text("−0.50")
