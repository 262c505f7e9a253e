"""Capture every state of every page: state × theme × width × language, with difficult texts.

    .venv/bin/python -m scripts.page_states --out /tmp/states                  all of them
    .venv/bin/python -m scripts.page_states --out /tmp/states --only alerts    of some states
    .venv/bin/python -m scripts.page_states --out /tmp/states --only dark-1440-en    of one kind

It says which pages are wider than their window, and what axe finds in them, unless ``--no-axe``.
Two servers of its own: one has calls with long, foreign and hostile names, alerts, notes, speakers,
recordings and mistakes; the other has nothing yet. A state in which the server is lost has its
connections cut. Beside the pictures, sheets of them are written, to be looked at before a release.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import re
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from importlib.resources import files
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import soundfile
from aiohttp import FormData
from playwright.async_api import Browser, Page, Route, WebSocketRoute, async_playwright
from websockets.asyncio.client import connect

from benchmarks.speech import shared_speech_dir
from scripts.screenshots import CALLS, PAST_S, RATE_HZ, Call, acted, samples_of, stream
from tests.support.browser import chromium_arguments, chromium_path, write_microphone_wav
from tests.support.campplus import make_campplus_folder
from tests.support.dashboard_server import DashboardServer

THEMES = ("light", "dark")
WIDTHS_PX = (1440, 390)
LOCALES = ("en-GB", "zh-CN")
_HEIGHT_PX = 900
_LONGEST_PX = 4500
_WORKERS = 2
_PATIENCE_MS = 60_000
_FIRST = {("light", 1440, "en-GB"): 0, ("dark", 390, "zh-CN"): 1, ("light", 390, "en-GB"): 2}
_VIOLATIONS = """axe.run(document, {resultTypes: ["violations"]}).then(({violations}) =>
  violations.map(({id, nodes: [{html}, ...more]}) =>
    `${id}, ${more.length + 1} times: ${html.slice(0, 150)}`))"""
_DRAWN = "[data-drawn=true]"
_LIVE = re.compile(r"/api/v1/live")

LONG_WORD = "Kraftfahrzeughaftpflichtversicherungsbeitragsrückerstattungsantrag" * 2
LONG_NAME = (
    "Rückfrage zur Kraftfahrzeughaftpflichtversicherung, Vorgang 2026-11-30-000471,"
    " weitergeleitet von Frau Müller-Lüdenscheidt aus der Abteilung Beschwerdemanagement"
)
CHINESE_NAME = "关于家用空调售后维修服务多次预约未上门的投诉 2026113000471 由华东区二线客服转接"
HOSTILE_NAME = "<img src=x onerror=alert(1)> \u202eesrever\u202c 👩‍👩‍👧‍👦 {name} %s"
LONG_NOTE = (
    "Called back twice; the customer wants a written answer by Friday.\n"
    + "She says that nobody told her about the fee. " * 8
    + LONG_WORD
    + " <script>alert(1)</script> مرحبا"
)
CALLER = "+49 30 000 471"
LONG_RULE = "Kundin am Apparat bleibt verärgert und wurde mehrfach unterbrochen (Eskalation)"

_LIVE_CALLS = (
    Call(LONG_NAME, ("customer", "agent"), ("natural", "angry", "angry"), 0),
    Call(CHINESE_NAME, ("customer", "agent"), ("natural", "angry", "sad"), 3),
    Call(LONG_WORD, ("driver",), ("natural", "fearful", "sad"), 6),
    Call(HOSTILE_NAME, ("caller",), ("angry",), 7),
    Call("", ("speaker",), ("natural",), 8),
    *CALLS[4:6],
)
_RULES = [
    {
        "name": "customer stays angry",
        "labels": ["angry"],
        "roles": ["customer", "caller"],
        "threshold": 0.3,
        "hold_s": 2.0,
        "severity": "critical",
    },
    {
        "name": LONG_RULE,
        "labels": ["angry", "fearful", "sad", "disgusted"],
        "threshold": 0.3,
        "hold_s": 1.0,
        "cooldown_s": 5.0,
        "severity": "warning",
    },
    {
        "name": "任何情绪波动",
        "labels": ["surprised", "happy", "sad"],
        "threshold": 0.4,
        "severity": "info",
    },
]


@dataclass
class Stage:
    """What the states show: two servers, and the names of what is on them."""

    busy: DashboardServer
    empty: DashboardServer
    ids: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class PageState:
    """A page in a state.

    Attributes:
        path: of the page, with names of :attr:`Stage.ids`.
        ready: a selector that is on the page once the state is there.
        act: done on the page after that.
        is_empty: shown by the server that has nothing.
        is_lost: its connections are cut after it was loaded.
        wrong: paths of the interface that answer with an error.
        may_use_microphone: whether the browser gives it away.
    """

    name: str
    path: str
    ready: str = "main h1"
    act: Callable[[Page], Awaitable[Any]] | None = None
    is_empty: bool = False
    is_lost: bool = False
    wrong: str = ""
    may_use_microphone: bool = True


class Picture(NamedTuple):
    """A state of a page as somebody sees it."""

    state: PageState
    theme: Any
    width: int
    locale: str

    @property
    def name(self) -> str:
        """Of its file."""
        return f"{self.state.name}-{self.theme}-{self.width}-{self.locale[:2]}".replace(" ", "_")


async def _press(page: Page, selector: str) -> None:
    if await page.locator(selector).count():
        await page.locator(selector).first.click()


async def _open_details(page: Page) -> None:
    for each in await page.locator("main details > summary").all():
        with contextlib.suppress(Exception):
            await each.click(timeout=3000)


async def _ask_to_acknowledge(page: Page) -> None:
    await page.locator(".alert-actions .primary").first.click()
    await page.locator("dialog textarea").fill(LONG_NOTE)


async def _name_a_speaker(page: Page) -> None:
    await page.locator("[data-testid=speakers] .icon-only").first.click()


async def _talk(page: Page) -> None:
    await page.locator("[data-testid=mic-start]").click()
    await asyncio.sleep(12)


async def _refuse(page: Page) -> None:
    await page.locator("[data-testid=mic-start]").click()
    await asyncio.sleep(2)


async def _search_nothing(page: Page) -> None:
    await page.locator("main input[type=search]").first.fill("zzzzzz")
    await asyncio.sleep(1)


async def _export(page: Page) -> None:
    await page.locator(".export").click()


async def _find(page: Page) -> None:
    await page.get_by_test_id("person").fill(CALLER)
    await page.keyboard.press("Enter")
    await page.get_by_test_id("found").wait_for()


STATES = (
    PageState("wall live", "/", ".tile"),
    PageState("wall empty", "/", is_empty=True),
    PageState("wall lost", "/", ".tile", is_lost=True),
    PageState("wall board", "/?view=board", ".board-tile, [data-stream-id]"),
    PageState("wall board empty", "/?view=board", "main", is_empty=True),
    PageState("wall error", "/", "main", wrong="/api/v1/info"),
    PageState("stream live", "/streams/{live}", _DRAWN),
    PageState("stream hostile", "/streams/{hostile}", _DRAWN),
    PageState("stream unbroken", "/streams/{unbroken}", _DRAWN),
    PageState("stream speakers", "/streams/{speakers}", "[data-testid=speakers]", _name_a_speaker),
    PageState("stream begins", "/streams/{silent}", "main h1"),
    PageState("stream lost", "/streams/{live}", _DRAWN, is_lost=True),
    PageState("stream ended", "/streams/{ended}", _DRAWN, _open_details),
    PageState("stream menu", "/streams/{ended}", _DRAWN, _export),
    PageState("stream ended silent", "/streams/{ended_silent}", "main h1"),
    PageState("stream missing", "/streams/nowhere", "main h1, main h2"),
    PageState("alerts open", "/alerts", ".alert-row"),
    PageState("alerts why", "/alerts", ".alert-row", _open_details),
    PageState("alerts dialog", "/alerts", ".alert-row", _ask_to_acknowledge),
    PageState("alerts all", "/alerts?state=all", ".alert-row"),
    PageState("alerts acknowledged", "/alerts?state=acknowledged", ".alert-row"),
    PageState("alerts no match", "/alerts", ".alert-row", _search_nothing),
    PageState("alerts empty", "/alerts", is_empty=True),
    PageState("alerts error", "/alerts", wrong="/api/v1/alerts"),
    PageState("history", "/history", "tbody tr"),
    PageState("history no match", "/history", "tbody tr", _search_nothing),
    PageState("history empty", "/history", is_empty=True),
    PageState("history error", "/history", wrong="/api/v1/streams"),
    PageState("analyse empty", "/analyse", is_empty=True),
    PageState("analyse stream", "/analyse?job={job_stream}", _DRAWN, _open_details),
    PageState("analyse frames", "/analyse?job={job_frame}", _DRAWN, _open_details),
    PageState("analyse utterance", "/analyse?job={job_utterance}", _DRAWN),
    PageState("analyse failed", "/analyse?job={job_bad}", "main h1"),
    PageState("microphone", "/microphone"),
    PageState("microphone on", "/microphone", act=_talk),
    PageState("microphone refused", "/microphone", act=_refuse, may_use_microphone=False),
    PageState("oversight", "/oversight", act=_find),
    PageState("oversight empty", "/oversight", is_empty=True),
    PageState("audit", "/audit"),
    PageState("audit empty", "/audit", is_empty=True),
    PageState("unknown address", "/nowhere", ".state h1"),
    PageState("report of a stream", "/api/v1/streams/{ended}/report.html?lang={lang}", "body"),
    PageState("report of a file", "/api/v1/analyse/{job_stream}/report.html?lang={lang}", "body"),
)


def main() -> None:
    """Capture states."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", nargs="*", default=[], help="parts of the names of pictures")
    parser.add_argument("--speakers", type=Path, help="weights of CAM++; without them one speaker")
    parser.add_argument("--no-axe", action="store_true", help="do not look for what axe finds")
    given = parser.parse_args()
    pictures = [Picture(*each) for each in product(STATES, THEMES, WIDTHS_PX, LOCALES)]
    if given.only:
        pictures = [each for each in pictures if any(one in each.name for one in given.only)]
    given.out.mkdir(parents=True, exist_ok=True)
    axe = "" if given.no_axe else files("axe_playwright_python").joinpath("axe.min.js").read_text()
    asyncio.run(capture(given.out, pictures, given.speakers, axe))


async def capture(out: Path, pictures: list[Picture], weights: Path | None, axe: str) -> None:
    """Take pictures, and put what is in the folder on sheets."""
    async with stage(weights) as set_up, async_playwright() as playwright:
        folder = shared_speech_dir()
        assert folder is not None, "the recordings beside the checkout are needed"
        speech = acted(folder, CALLS[0], 30)
        microphone = write_microphone_wav(out / "microphone.wav", speech)
        browser = await playwright.chromium.launch(
            executable_path=chromium_path(), args=chromium_arguments(microphone)
        )
        # Those that differ most come first, so that looking can begin.
        waiting = sorted(
            pictures, key=lambda each: _FIRST.get((each.theme, each.width, each.locale), 9)
        )
        print(f"{len(waiting)} pictures", file=sys.stderr)

        async def work() -> None:
            while waiting:
                await take(browser, set_up, out, waiting.pop(0), axe)

        await asyncio.gather(*(work() for _ in range(_WORKERS)))
        await browser.close()
    sheets(out)


async def take(browser: Browser, at: Stage, out: Path, picture: Picture, axe: str) -> None:
    """Take one picture."""
    state, theme, width, locale, name = *picture, picture.name
    server = at.empty if state.is_empty else at.busy
    context = await browser.new_context(
        locale=locale,
        color_scheme=theme,
        viewport={"width": width, "height": _HEIGHT_PX},
        permissions=["microphone"] if state.may_use_microphone else [],
        reduced_motion="reduce",
        # The pages allow no script of others, and axe is one.
        bypass_csp=True,
    )
    context.set_default_timeout(_PATIENCE_MS)
    page = await context.new_page()
    page.on("pageerror", lambda error: print(f"{name}: {error}", file=sys.stderr))
    is_cut = False
    sockets: list[WebSocketRoute] = []

    async def serve_socket(socket: WebSocketRoute) -> None:
        if is_cut:
            await socket.close(code=1011)
            return
        sockets.append(socket)
        socket.connect_to_server()

    async def refuse(route: Route) -> None:
        if is_cut:
            await route.abort()
        elif state.wrong:
            error = {"code": "failed", "message": "the database reported an error", "remedy": ""}
            await route.fulfill(status=500, json={"type": "error", **error})
        else:
            await route.continue_()

    if state.is_lost:
        await page.route_web_socket(_LIVE, serve_socket)
        await page.route("**/api/**", refuse)
    elif state.wrong:
        await page.route(f"**{state.wrong}*", refuse)
    path = state.path.format(**at.ids, lang=locale[:2])
    try:
        if "report.html" in path:
            # The server offers it as a file; the picture is of what is in it.
            answer = await page.request.get(server.url + path)
            await page.set_content(await answer.text())
        else:
            await page.goto(server.url + path)
        await page.locator(state.ready).first.wait_for(state="attached")
        await asyncio.sleep(1.5)
        if state.is_lost:
            is_cut = True
            for each in sockets:
                await each.close(code=1011)
            await asyncio.sleep(2)
        if state.act is not None:
            await state.act(page)
        await asyncio.sleep(1.5)
    except Exception as error:
        # The picture shows what there was instead.
        print(f"{name}: {type(error).__name__} {str(error)[:200]}", file=sys.stderr)
    wide = await page.evaluate("document.documentElement.scrollWidth")
    if wide > width:
        print(f"{name}: {wide} px wide", file=sys.stderr)
    if axe:
        await page.evaluate(axe)
        for each in await page.evaluate(_VIOLATIONS):
            print(f"{name}: {each}", file=sys.stderr)
    await page.screenshot(
        path=out / f"{name}.png",
        full_page=True,
        clip={"x": 0, "y": 0, "width": width, "height": await _height(page)},
    )
    await context.close()


async def _height(page: Page) -> int:
    height = int(await page.evaluate("document.documentElement.scrollHeight"))
    return max(_HEIGHT_PX, min(height, _LONGEST_PX))


@asynccontextmanager
async def stage(weights: Path | None) -> AsyncIterator[Stage]:
    """Start both servers and bring about what is to be seen."""
    async with contextlib.AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        (folder / "empty").mkdir()
        voices = str(weights or make_campplus_folder(folder / "voices"))
        settings = {
            "ser_engine": {"speakers": {"model": voices}},
            "stream_server": {
                "alerts": {"rules": _RULES},
                "streams": {"analyse_roles": ["speaker", "customer", "caller", "driver", "mixed"]},
            },
        }
        busy = DashboardServer(folder, settings)
        empty = DashboardServer(folder / "empty", {})
        await asyncio.gather(busy.start(), empty.start())
        stack.push_async_callback(empty.stop)
        stack.push_async_callback(busy.stop)
        at = Stage(busy, empty)
        await _streams(at, stack)
        await _ended(at)
        await _files(at, folder)
        await _people(at)
        yield at


async def _streams(at: Stage, stack: contextlib.AsyncExitStack) -> None:
    loop = asyncio.get_running_loop()
    url = at.busy.ingest_url
    audio = [samples_of(call) for call in _LIVE_CALLS]
    ready: list[asyncio.Future[str]] = [loop.create_future() for _ in _LIVE_CALLS]
    tasks = [
        asyncio.create_task(stream(url, *each))
        for each in zip(_LIVE_CALLS, audio, ready, strict=True)
    ]
    stack.callback(lambda: [task.cancel() for task in tasks])
    print("calls are on", file=sys.stderr)
    waiting: list[asyncio.Future[Any]] = [asyncio.gather(*ready), *tasks]
    await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    ids = [each.result() for each in ready]
    at.ids |= {"live": ids[0], "chinese": ids[1], "unbroken": ids[2], "hostile": ids[3]}
    silent = await stack.enter_async_context(
        connect(f"{url}/?sample_rate=16000&name=Just+opened", ping_interval=None)
    )
    at.ids["silent"] = json.loads(await silent.recv())["stream_id"]
    apart = await stack.enter_async_context(
        connect(
            f"{url}/?sample_rate=16000&roles=caller&speakers=apart&name=Several+people",
            max_queue=None,
            ping_interval=None,
        )
    )
    at.ids["speakers"] = json.loads(await apart.recv())["stream_id"]
    folder = shared_speech_dir()
    assert folder is not None
    turns = [acted(folder, Call("", ("x",), ("natural",), each), 10) for each in (1, 4, 1, 8, 4)]
    said = (np.clip(np.concatenate(turns), -1, 1) * 32767).astype("<i2").tobytes()
    for begin in range(0, len(said), 2 * RATE_HZ):
        await apart.send(said[begin : begin + 2 * RATE_HZ])
    await apart.send(bytes(2 * 8 * RATE_HZ))

    async def keep_alive() -> None:
        while True:
            await asyncio.sleep(1)
            for each in (silent, apart):
                await each.send(bytes(2 * RATE_HZ))

    alive = asyncio.create_task(keep_alive())
    stack.callback(alive.cancel)


async def _ended(at: Stage) -> None:
    url = at.busy.ingest_url
    heard = samples_of(_LIVE_CALLS[0])
    for key, roles, name, audio in (
        ("ended", "customer,agent", LONG_NAME, heard),
        ("ended_silent", "caller", "Nobody spoke", bytes(2 * 6 * RATE_HZ)),
        ("ended_chinese", "caller", CHINESE_NAME, heard[: 2 * 20 * RATE_HZ]),
    ):
        start = {
            "type": "start",
            "encoding": "pcm_s16le",
            "sample_rate": RATE_HZ,
            "channels": [{"role": role} for role in roles.split(",")],
            "name": name,
            "live": False,
            "metadata": {"caller": CALLER},
            "consent": "given",
            "consent_source": "ivr",
            "notice_version": LONG_WORD[:60],
            "notice_language": "de",
            "notice_how": "spoken",
        }
        async with connect(url, compression=None, max_queue=None, ping_interval=None) as socket:
            await socket.send(json.dumps(start))
            at.ids[key] = json.loads(await socket.recv())["stream_id"]
            for begin in range(0, min(len(audio), 4 * PAST_S * RATE_HZ), 2 * RATE_HZ):
                await socket.send(audio[begin : begin + 2 * RATE_HZ])
            await socket.send('{"type": "mark", "name": "' + LONG_WORD[:80] + '"}')
            await socket.send('{"type": "stop"}')
            async for _ in socket:
                pass


async def _files(at: Stage, folder: Path) -> None:
    speech = shared_speech_dir()
    assert speech is not None
    talk = np.concatenate([acted(speech, call, 20) for call in (CALLS[0], CALLS[2])])
    path = folder / "talk.wav"
    soundfile.write(path, talk, RATE_HZ)
    for key, name, options in (
        ("job_stream", f"{LONG_WORD}.wav", {"granularity": "stream", "speakers": "true"}),
        ("job_frame", f"{CHINESE_NAME}.wav", {"granularity": "frame"}),
        ("job_utterance", "<b>short</b>.wav", {"granularity": "utterance"}),
        ("job_bad", f"{LONG_NAME}.wav", {}),
    ):
        form = FormData(options, quote_fields=False)
        data = b"this is text" if key == "job_bad" else path.read_bytes()
        form.add_field("file", data, filename=name)
        at.ids[key] = (await at.busy.ask("POST", "/api/v1/analyse", data=form))["job_id"]


async def _people(at: Stage) -> None:
    server = at.busy
    alerts = (await server.get("/api/v1/alerts?limit=100"))["alerts"]
    print(f"{len(alerts)} alerts", file=sys.stderr)
    for alert, note in zip(alerts, (LONG_NOTE, "", CHINESE_NAME), strict=False):
        path = f"/api/v1/alerts/{alert['alert_id']}"
        await server.ask("POST", f"{path}/acknowledge", json={"note": note})
        await server.ask("POST", f"{path}/judge", json={"verdict": "right"})
    named = {"speaker": "speaker 1", "name": f"Frau {LONG_WORD}"[:80]}
    await server.ask("PUT", f"/api/v1/streams/{at.ids['speakers']}/speakers/0", json=named)


def sheets(out: Path) -> None:
    """Put six wide or twelve narrow pictures on a sheet, those of a state beside one another."""
    from PIL import Image, ImageDraw

    for width, columns, rows in ((1440, 2, 3), (390, 6, 2)):
        paths = sorted(out.glob(f"*-{width}-*.png"))
        cell = 2000 // columns
        for number in range(0, len(paths), columns * rows):
            images = [
                Image.open(path).convert("RGB") for path in paths[number : number + columns * rows]
            ]
            scale = cell / width
            tall = [
                max(round(image.height * scale) for image in images[row : row + columns])
                for row in range(0, len(images), columns)
            ]
            sheet = Image.new("RGB", (cell * columns, sum(tall) + 16 * len(tall)), "#f0f")
            for index, image in enumerate(images):
                row, column = divmod(index, columns)
                top = sum(tall[:row]) + 16 * row
                small = image.resize((cell - 4, round(image.height * scale)))
                sheet.paste(small, (column * cell, top + 16))
                ImageDraw.Draw(sheet).text(
                    (column * cell + 4, top + 2), paths[number + index].stem, "#fff"
                )
            sheet.save(out / f"sheet-{width}-{number // (columns * rows):02}.png")


if __name__ == "__main__":
    main()
