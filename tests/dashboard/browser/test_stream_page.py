"""The stream page: timeline, current bars, exports; alerts acknowledged beside it; the history."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import pytest_asyncio
from websockets.asyncio.client import connect

from tests.conftest import SpeechClip
from tests.support.browser import BROWSER_TEST, stream_clip
from tests.support.dashboard_server import DashboardServer

if TYPE_CHECKING:
    from playwright.async_api import Page

pytestmark = BROWSER_TEST

OpenPage = Callable[..., Awaitable["Page"]]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def call(server: DashboardServer, speech_clips: tuple[SpeechClip, ...]) -> str:
    """A call that raised an alert and has ended."""
    speech = np.concatenate([clip.samples for clip in speech_clips[:3]])
    ready = await stream_clip(server.ingest_url, speech, role="caller", name="Call 18")
    return str(ready["stream_id"])


async def _download(page: Page, kind: str, folder: Path) -> Path:
    await page.locator(".export").click()
    async with page.expect_download() as waiting:
        await page.locator(".menu-item", has_text=kind).click()
    download = await waiting.value
    path = folder / download.suggested_filename
    await download.save_as(path)
    return path


async def _note_calls(page: Page) -> None:
    """Keep notifications and tones in ``calls``."""
    await page.add_init_script("""
      window.calls = [];
      window.Notification = class {
        static permission = "granted";
        static async requestPermission() { calls.push("asked"); return "granted"; }
        constructor(title, { body }) { calls.push(`${title}: ${body}`); }
      };
      const start = OscillatorNode.prototype.start;
      OscillatorNode.prototype.start = function (...when) {
        calls.push(`${this.frequency.value} Hz`);
        start.apply(this, when);
      };
    """)


async def test_a_timeline_is_seen_moved_and_taken_along(
    open_page: OpenPage, call: str, tmp_path: Path
):
    from playwright.async_api import expect

    page = await open_page(f"/streams/{call}")
    await expect(page.get_by_role("heading", level=1)).to_have_text("Call 18")
    await expect(page.locator(".chart-plot .scatterlayer .trace").first).to_be_attached()
    await expect(page.get_by_test_id("quarters").get_by_role("listitem")).to_have_count(4)
    # How the conversation went, in figures.
    await expect(page.get_by_test_id("measure-talk-0")).to_have_text(re.compile(r"^0:0\d$"))
    await expect(page.get_by_test_id("measure-rate-0")).to_contain_text("syllables/s")
    await page.get_by_role("button", name="Heatmap").click()
    await expect(page.locator(".chart-plot .heatmaplayer image").first).to_be_attached()

    box = await page.locator(".chart").bounding_box()
    assert box is not None
    await page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    await expect(page.locator(".tip")).to_be_visible()
    await page.locator(".chart").focus()
    await page.keyboard.press("+")
    await page.locator(".segments summary").click()
    await expect(page.locator(".segments tbody tr").first).to_be_visible()

    # What a person hears in a part of it is kept, and held against what the model says.
    await page.locator(".chart").focus()
    await page.keyboard.press("s")
    await page.get_by_test_id("selection-from").fill("0")
    await page.get_by_test_id("selection-from").press("Enter")
    await page.get_by_label("Emotion you hear").select_option("sad")
    await page.get_by_role("button", name="Label it").click()
    await expect(page.get_by_test_id("labels")).to_contain_text("0:00.0 – ")
    await expect(page.get_by_test_id("kappa")).to_contain_text("Agrees with the model in")
    await expect(page.get_by_test_id("confusion").get_by_role("rowheader")).to_have_text(["Sad"])

    image = (await _download(page, "PNG", tmp_path)).read_bytes()
    assert image.startswith(b"\x89PNG")
    table = (await _download(page, "CSV", tmp_path)).read_text("utf-8")
    rows = list(csv.DictReader(io.StringIO(table)))
    assert 0 <= float(rows[0]["angry"]) <= 1
    everything = json.loads((await _download(page, "JSON", tmp_path)).read_text("utf-8"))
    points = [one for one in everything["results"] if one["type"] == "point"]
    assert len(points) == len(rows)


async def test_what_a_recording_lacks_is_said(
    open_page: OpenPage, server: DashboardServer, call: str
):
    from playwright.async_api import WebSocketRoute, expect

    page = await open_page("/")

    def add_status(socket: WebSocketRoute) -> None:
        behind = socket.connect_to_server()
        status = {"unrecorded_s": 12.4}
        behind.on_message(
            lambda message: socket.send(json.dumps({**json.loads(message), "status": status}))
        )

    await page.route_web_socket(re.compile(r"/api/v1/live\?"), add_status)
    await page.goto(f"{server.url}/streams/{call}")
    await expect(page.get_by_test_id("stream-unrecorded")).to_contain_text("12.4 s of this stream")


async def test_an_alert_is_on_every_page_while_it_is_raised(
    open_page: OpenPage, server: DashboardServer, speech_clips: tuple[SpeechClip, ...]
):
    from playwright.async_api import expect

    speech = np.concatenate([clip.samples for clip in speech_clips[:3]])
    audio = (np.clip(speech, -1, 1) * 32767).astype("<i2").tobytes()
    url = f"{server.ingest_url}/?sample_rate=16000&roles=caller&name=Call+19"
    async with connect(url, compression=None) as socket:
        stream_id = json.loads(await socket.recv())["stream_id"]
        page = await open_page(f"/streams/{stream_id}")
        wall = await open_page("/alerts", before=_note_calls)
        # People who turned notifications on hear of it on any page.
        await wall.get_by_label("Notify").select_option("critical")
        assert await wall.evaluate("calls") == ["asked"]
        await wall.get_by_role("link", name="Live").click()
        await expect(page.get_by_role("heading", level=1)).to_have_text("Call 19")
        for start in range(0, len(audio), 32_000):
            await socket.send(audio[start : start + 32_000])
        await expect(page.locator(".open-alerts .notice")).to_contain_text("somebody speaks")
        # This page was there before the first measures were.
        await expect(page.get_by_test_id("measures")).to_be_visible()
        tile = wall.locator(f'a.tile[href="/streams/{stream_id}"]')
        await expect(tile).to_have_attribute("data-alert", "critical")
        board = await open_page("/?view=board")
        word = board.locator(f'[data-stream-id="{stream_id}"] .board-now strong')
        await expect(word).to_be_visible()
        size = await word.evaluate(
            "element => Number.parseFloat(getComputedStyle(element).fontSize)"
        )
        assert size >= 48, "a word on the wall is read from two metres"
        # Three calls side by side would cut their words on a phone.
        await board.set_viewport_size({"width": 390, "height": 800})
        three = """board => {
          board.style.setProperty("--columns", "3");
          for (const _ of [2, 3]) board.append(board.firstElementChild.cloneNode(true));
          return getComputedStyle(board).gridTemplateColumns.split(" ").length;
        }"""
        assert await board.locator(".board").evaluate(three) == 1
        await expect(board.locator("header")).to_be_hidden()
        await board.keyboard.press("Escape")
        await expect(board.locator("header")).to_be_visible()
        tones = ["880 Hz", "660 Hz"]
        await wall.wait_for_function("calls.length > 3")
        assert await wall.evaluate("calls") == ["asked", "somebody speaks: Call 19", *tones]
        # One number wherever alerts are counted, the title of the tab included.
        count = await wall.locator(".nav .count").inner_text()
        await expect(wall.locator(".summary .figure").nth(1)).to_contain_text(count)
        await expect(wall).to_have_title(re.compile(rf"^\({re.escape(count)}\) "))

        await page.locator(".open-alerts").get_by_role("button", name="Acknowledge").click()
        await page.get_by_role("dialog").get_by_role("textbox").fill("seen")
        await page.keyboard.press("Control+Enter")
        await expect(page.locator(".open-alerts")).to_be_hidden()
        await expect(tile).to_have_attribute("data-alert", "acknowledged")
        await socket.send('{"type": "stop"}')
        async for _ in socket:
            pass


async def test_an_alert_leads_to_its_moment_and_is_acknowledged_there(
    open_page: OpenPage, call: str
):
    from playwright.async_api import expect

    page = await open_page("/alerts")
    row = page.locator(".alert-row", has=page.locator(f'a[href="/streams/{call}"]'))
    await row.get_by_role("link", name="Go to moment").click()
    await expect(page.locator(".open-alerts .notice")).to_have_count(1)
    # Somebody else has it open, says whose it is, and begins to write a note, too.
    other = await open_page("/alerts")
    theirs = other.locator(".alert-row", has=other.locator(f'a[href="/streams/{call}"]'))
    await theirs.get_by_role("button", name="Assign").click()
    await other.get_by_role("dialog").get_by_role("textbox").fill("Ms <b>Li</b>")
    await other.keyboard.press("Control+Enter")
    await expect(theirs.get_by_test_id("assigned")).to_have_text("for Ms <b>Li</b>")
    await theirs.get_by_role("button", name="Acknowledge").click()
    await other.get_by_role("dialog").get_by_label("Note").fill("written <i>to</i>\ntwice")
    await page.locator(".open-alerts").get_by_role("button", name="Acknowledge").click()
    await page.get_by_role("dialog").get_by_label("Note").fill("called back")
    await page.get_by_role("dialog").get_by_role("button", name="Acknowledge").click()
    await expect(page.locator(".open-alerts .notice")).to_have_count(0)
    await other.keyboard.press("Control+Enter")
    await expect(theirs).to_have_count(0)
    await page.locator(".nav").get_by_role("link", name="Alerts").click()
    await page.get_by_role("button", name="Acknowledged").click()
    # Neither note is lost.
    await expect(row.locator("q")).to_have_text("called back\nwritten <i>to</i>\ntwice")
    await expect(row.get_by_test_id("assigned")).to_have_text("for Ms <b>Li</b>")
    # One key says whether it was right, the other that it was not; the same again takes it back.
    await row.get_by_role("link", name="Go to moment").focus()
    await page.keyboard.press("r")
    right, wrong = (row.get_by_role("button", name=name) for name in ("Right", "Wrong"))
    await expect(right).to_have_attribute("aria-pressed", "true")
    await row.get_by_role("link", name="Go to moment").focus()
    await page.keyboard.press("w")
    await expect(wrong).to_have_attribute("aria-pressed", "true")
    await expect(right).to_have_attribute("aria-pressed", "false")


@pytest.mark.usefixtures("call")
async def test_a_stream_is_found_and_deleted(open_page: OpenPage):
    from playwright.async_api import expect

    page = await open_page("/history")
    await page.get_by_label("Search names").fill("call 18")
    await expect(page.locator("tbody tr")).to_have_count(1)
    await page.get_by_role("button", name="Delete Call 18").click()
    await page.keyboard.press("Escape")
    await expect(page.locator("tbody tr")).to_have_count(1)
    await page.get_by_role("button", name="Delete Call 18").click()
    await page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    await expect(page.get_by_text("No matching streams")).to_be_visible()
