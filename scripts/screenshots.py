"""Take the pictures of README and docs: a server with calls of natural speech, some acted in part.

    .venv/bin/python -m scripts.screenshots                 docs/images/*.png
    .venv/bin/python -m scripts.screenshots --out /tmp/x    somewhere else

Starts a server of its own with the built-in model, streams calls to it, opens its pages in
Chromium (light and dark) and takes pictures of the live wall, of one stream and of an analysis, and
a contact sheet of all main pages.
The speech is that of the recordings beside the checkout (``benchmarks.speech``); without them it is
the project's own sample call.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import csv
import json
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from playwright.async_api import Browser, Page, ViewportSize, async_playwright
from websockets.asyncio.client import connect

from benchmarks.speech import shared_speech_dir
from mic_client.audio_file import load_sample_call
from tests.support.browser import chromium_path
from tests.support.dashboard_server import DashboardServer

REPOSITORY = Path(__file__).resolve().parent.parent
RATE_HZ = 16_000
PAST_S = 75
"""How long every call has lasted when the pictures are taken."""
SIZE: ViewportSize = {"width": 1440, "height": 900}
SHEET_PAGES = (
    *("/", "/?view=board", "/streams/{id}", "/alerts"),
    *("/history", "/analyse", "/microphone", "/oversight"),
)
SHEET_WIDTH_PX = 1920
_EXACT_COLOURS = 144


@dataclass(frozen=True)
class Call:
    """A stream to be seen.

    Attributes:
        roles: of its channels.
        moods: of the analysed channel, in turns of about 10 s: ``natural`` speech, or an emotion
            that is acted.
        speaker: number of the actor, and of the natural recording.
    """

    name: str
    roles: tuple[str, ...]
    moods: tuple[str, ...]
    speaker: int


CALLS = (
    Call("Order 2207, refund", ("customer", "agent"), ("natural", "natural", "angry", "angry"), 0),
    Call("Delivery is late", ("customer", "agent"), ("natural", "angry", "sad", "natural"), 3),
    Call("New contract", ("customer", "agent"), ("natural",), 1),
    Call("Bicycle insurance", ("customer", "agent"), ("natural", "happy", "natural"), 5),
    Call("Password reset", ("customer", "agent"), ("natural",), 2),
    Call("Test drive, car 3", ("driver",), ("natural",), 4),
    Call("Test drive, car 7", ("driver",), ("natural", "fearful"), 6),
    Call("Hotline 14", ("caller",), ("natural", "sad"), 7),
    Call("Interview, room B", ("speaker",), ("natural",), 8),
    Call("Invoice question", ("customer", "agent"), ("natural",), 9),
    Call("Reading lamp, warranty", ("customer", "agent"), ("natural",), 10),
    Call("Hotline 15", ("caller",), ("natural",), 11),
)


def main() -> None:
    """Take all pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=REPOSITORY / "docs" / "images")
    out: Path = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    asyncio.run(take(out))


async def take(out: Path) -> None:
    """Take all pictures, into a folder."""
    with tempfile.TemporaryDirectory() as folder:
        server = DashboardServer(Path(folder), {"dashboard": {}})
        sheet = Path(folder) / "sheet"
        sheet.mkdir()
        await server.start()
        try:
            async with streams(server.ingest_url) as first_id, async_playwright() as playwright:
                browser = await playwright.chromium.launch(
                    executable_path=chromium_path(), args=["--no-sandbox", "--disable-gpu"]
                )
                recording = write_call(Path(folder) / "Delivery is late.wav")
                for scheme in ("light", "dark"):
                    await pages(browser, server, first_id, sheet, scheme)
                    await pictures(browser, server, first_id, recording, out, scheme)
                await browser.close()
        finally:
            await server.stop()
        contact_sheet(sorted(sheet.glob("*.png")), out / "contact-sheet.png")
    shrink(out)


async def pictures(
    browser: Browser, server: DashboardServer, stream: str, recording: Path, out: Path, scheme: Any
) -> None:
    """Take the pictures of one colour scheme."""
    page = await browser.new_page(viewport=SIZE, color_scheme=scheme, locale="en-GB")
    await page.goto(server.url)
    await page.locator(".tile").nth(len(CALLS) - 1).wait_for()
    await settled(page)
    await page.screenshot(path=out / f"wall-{scheme}.png")

    await page.goto(f"{server.url}/streams/{stream}")
    await page.locator(".js-plotly-plot").first.wait_for()
    await settled(page)
    await page.screenshot(path=out / f"stream-{scheme}.png")

    await page.goto(f"{server.url}/analyse")
    await page.get_by_test_id("files").set_input_files(recording)
    await page.locator("[data-testid=chart][data-drawn=true]").first.wait_for(timeout=120_000)
    await settled(page)
    await page.screenshot(path=out / f"analyse-{scheme}.png")
    await page.close()


async def pages(
    browser: Browser, server: DashboardServer, stream: str, out: Path, scheme: Any
) -> None:
    """Take a picture of each main page for the contact sheet."""
    page = await browser.new_page(viewport=SIZE, color_scheme=scheme, locale="en-GB")
    for number, path in enumerate(SHEET_PAGES):
        await page.goto(server.url + path.format(id=stream))
        await settled(page)
        await page.screenshot(path=out / f"{scheme}-{number}.png")
    await page.close()


def contact_sheet(paths: Sequence[Path], out: Path) -> None:
    """Put pictures side by side in one file."""
    from PIL import Image

    columns = len(SHEET_PAGES) // 2
    width, height = SHEET_WIDTH_PX // columns, SHEET_WIDTH_PX // columns * 5 // 8
    rows = -(-len(paths) // columns)
    sheet = Image.new("RGB", (columns * width, rows * height), "#888")
    for number, path in enumerate(paths):
        with Image.open(path) as file:
            # Of a page that is longer than the window the top is enough.
            top = file.convert("RGB").crop(
                (0, 0, file.width, min(file.height, file.width * 5 // 8))
            )
        small = top.resize((width - 4, round(top.height * (width - 4) / top.width)))
        sheet.paste(small, (number % columns * width + 2, number // columns * height + 2))
    sheet.save(out)


async def settled(page: Page) -> None:
    """Wait until the page has shown what it was sent, twice."""
    await page.wait_for_load_state("networkidle")
    await asyncio.sleep(2.5)


@asynccontextmanager
async def streams(url: str) -> AsyncIterator[str]:
    """Keep all calls going; yield the id of the first."""
    loop = asyncio.get_running_loop()
    # Reading takes longer than a connection waits.
    audio = [samples_of(call) for call in CALLS]
    ready: list[asyncio.Future[str]] = [loop.create_future() for _ in CALLS]
    tasks = [
        asyncio.create_task(stream(url, *each)) for each in zip(CALLS, audio, ready, strict=True)
    ]
    try:
        # A call that fails must not be waited for.
        waiting = asyncio.gather(*ready)
        anything: list[asyncio.Future[Any]] = [waiting, *tasks]
        await asyncio.wait(anything, return_when=asyncio.FIRST_COMPLETED)
        if not waiting.done():
            raise RuntimeError(f"a call ended: {[task for task in tasks if task.done()]}")
        ids = await waiting
        yield ids[0]
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def stream(url: str, call: Call, audio: bytes, ready: asyncio.Future[str]) -> None:
    """Send the past of a call at once, tell that it is heard, and go on at the pace of speech."""
    start = {
        "type": "start",
        "encoding": "pcm_s16le",
        "sample_rate": RATE_HZ,
        "channels": [{"role": role} for role in call.roles],
        "name": call.name,
        "live": False,
    }
    # Without pings: on a busy machine they wait behind the past, which is read at its own pace.
    async with connect(url, compression=None, max_queue=None, ping_interval=None) as socket:
        await socket.send(json.dumps(start))
        stream_id = json.loads(await socket.recv())["stream_id"]
        heard = asyncio.create_task(listen(socket, PAST_S - 2, ready, stream_id))
        second = RATE_HZ * len(call.roles) * 2
        for begin in range(0, PAST_S * second, second):
            await socket.send(audio[begin : begin + second])
        await asyncio.shield(ready)
        at = PAST_S * second
        with contextlib.suppress(asyncio.CancelledError):
            while True:
                await socket.send(audio[at % len(audio) :][: second // 10])
                at += second // 10
                await asyncio.sleep(0.1)
        heard.cancel()


async def listen(socket: Any, until_s: float, ready: asyncio.Future[str], stream_id: str) -> None:
    """Read what comes; say when it has come to ``until_s``."""
    async for text in socket:
        message = json.loads(text)
        if message.get("published_s", 0) >= until_s and not ready.done():
            ready.set_result(stream_id)


def samples_of(call: Call) -> bytes:
    """Return interleaved 16-bit samples, a little longer than the past."""
    folder = shared_speech_dir()
    seconds = PAST_S + 60
    if folder is None:
        sample, _ = load_sample_call()
        channels = np.tile(sample[:, ::-1][:, : len(call.roles)], (seconds // 42 + 1, 1))
    else:
        turns = [acted(folder, call, seconds), acted_agent(folder, call, seconds)]
        channels = np.stack(turns[: len(call.roles)], axis=1)
    channels = np.roll(channels, -RATE_HZ * call.speaker, axis=0)[: seconds * RATE_HZ]
    return (np.clip(channels, -1, 1) * 32767).astype("<i2").tobytes()


def clips(folder: Path, speaker: int, mood: str) -> list[Path]:
    """Return recordings of one actor in one mood."""
    with (folder / "manifest.csv").open(encoding="utf-8", newline="") as manifest:
        rows = [row for row in csv.DictReader(manifest) if row["corpus"] == "emodb"]
    speakers = sorted({row["speaker"] for row in rows})
    name = speakers[speaker % len(speakers)]
    of_mood = [row for row in rows if row["speaker"] == name and row["emotion"] == mood]
    others = [row for row in rows if row["emotion"] == mood] or rows
    return [folder / row["path"] for row in of_mood or others]


def acted(folder: Path, call: Call, seconds: int) -> np.ndarray:
    """Return turns of about 10 s in the call's moods, with pauses between them."""
    rng = np.random.default_rng(call.speaker)
    parts: list[np.ndarray] = []
    turn = 0
    while sum(map(len, parts)) < seconds * RATE_HZ:
        mood = call.moods[turn % len(call.moods)]
        if mood == "natural":
            parts.append(natural(folder, call.speaker, turn))
            turn += 1
            continue
        paths = clips(folder, call.speaker, mood)
        for index in rng.permutation(len(paths))[:5]:
            parts.append(soundfile.read(paths[index], dtype="float32")[0])
        parts.append(np.zeros(round(rng.uniform(1.0, 3.0) * RATE_HZ), np.float32))
        turn += 1
    return np.concatenate(parts)[: seconds * RATE_HZ]


def natural(folder: Path, number: int, turn: int) -> np.ndarray:
    """Return 10 s of a recording in which nobody acts, of somebody who reads or talks."""
    others = folder.parent / "more-speech" / "natural"
    paths = sorted([*others.glob("librispeech*"), *others.glob("other-multi*")])
    samples = soundfile.read(paths[number % len(paths)], dtype="float32")[0]
    length = 10 * RATE_HZ
    begin = turn * length % max(1, len(samples) - length)
    return np.asarray(samples[begin : begin + length])


def acted_agent(folder: Path, call: Call, seconds: int) -> np.ndarray:
    """Return somebody calm; agents are not analysed."""
    return acted(folder, Call("", ("agent",), ("natural",), call.speaker + 2), seconds)


def write_call(path: Path) -> Path:
    """Write the recording that is analysed: a customer alone."""
    folder = shared_speech_dir()
    if folder is None:
        samples = load_sample_call()[0][:, 1]
    else:
        samples = acted(folder, CALLS[1], 45)
    soundfile.write(path, samples, RATE_HZ)
    return path


def shrink(out: Path) -> None:
    """Make the files smaller: 256 colours are enough for pages.

    Areas keep their exact colours, the edges of letters and lines get near ones. Palettes that are
    made of all pixels alike turn happy orange, or tint the background.
    """
    from PIL import Image

    for path in out.glob("*.png"):
        with Image.open(path) as file:
            picture = file.convert("RGB")
        colours, places, counts = np.unique(
            np.asarray(picture).reshape(-1, 3), axis=0, return_inverse=True, return_counts=True
        )
        areas = colours[np.argsort(-counts)[:_EXACT_COLOURS]]
        edges = picture.quantize(256 - len(areas), Image.Quantize.MAXCOVERAGE).getpalette() or []
        palette = np.concatenate([areas, np.array(edges, np.uint8).reshape(-1, 3)])[:256]
        # Pillow finds the nearest colour to 6 bits only, and white would not stay white.
        nearest = [np.abs(palette.astype(int) - colour).sum(axis=1).argmin() for colour in colours]
        small = Image.fromarray(
            np.array(nearest, np.uint8)[places].reshape(picture.height, picture.width), "P"
        )
        small.putpalette(palette.reshape(-1).tolist())
        small.save(path, optimize=True)


if __name__ == "__main__":
    main()
