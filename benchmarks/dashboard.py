"""What the dashboard costs: many live streams, many pages that look at the wall.

    python -m benchmarks.dashboard                  200 streams, 20 viewers
    python -m benchmarks.dashboard --quick          40 streams, 5 viewers

The streams are paced like microphones, the engine computes nothing and changes its mind
(``benchmarks.moody_engine``), so that what is measured is server and pages. One of the viewers is
a real Chromium showing the wall, if there is one; the others count what they are sent. Streams,
viewers and browser share the machine's cores with the server.

A **frame** is the browser's main thread from the first callback of a frame until it is painted:
scripts, styles, layout, painting commands. Budgets: ``BUDGETS``.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import ClientSession, WSMsgType

from benchmarks.live import cpu_s, running_server
from benchmarks.report import Report, argument_parser, percentile

BUDGETS = {
    "server_cpu_percent": 100.0,
    "viewer_kb_per_s": 200.0,
    "wall_frame_ms_p95": 33.0,
}
"""Of one core; of each viewer; with 200 streams and 20 viewers on two cores."""

_CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
_PROBE = """
(() => {
  const frames = { work_ms: [], interval_ms: [] };
  window.frames_seen = frames;
  const { port1, port2 } = new MessageChannel();
  port1.onmessage = ({ data }) => frames.work_ms.push(performance.now() - data);
  let last = null;
  const tick = () => {
    // The first callback of a frame, because it was asked for before all others; a message that
    // is sent here comes after the frame is painted.
    const now = performance.now();
    if (last !== null) frames.interval_ms.push(now - last);
    last = now;
    port2.postMessage(now);
    requestAnimationFrame(tick);
  };
  requestAnimationFrame(tick);
})();
"""


@dataclass(slots=True)
class Counter:
    """What one viewer was sent."""

    num_bytes: int = 0
    messages: int = 0


@dataclass(frozen=True, slots=True)
class Plan:
    """One run."""

    streams: int
    viewers: int
    seconds: float
    warm_up_s: float = 10.0


@dataclass(slots=True)
class Findings:
    """What was seen of the browser; empty where there is none."""

    work_ms: list[float] = field(default_factory=list)
    interval_ms: list[float] = field(default_factory=list)
    tiles: int = 0


def main(arguments: list[str] | None = None) -> None:
    """Run the benchmark."""
    parser = argument_parser(__doc__ or "")
    parser.add_argument("--streams", type=int, default=200)
    parser.add_argument("--viewers", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=20.0, help="time measured")
    options = parser.parse_args(arguments)
    plan = Plan(options.streams, options.viewers, options.seconds)
    if options.quick:
        plan = Plan(40, 5, 8.0, warm_up_s=6.0)
    report = Report({"streams": plan.streams, "viewers": plan.viewers, "seconds": plan.seconds})
    report.settings["budgets"] = BUDGETS
    asyncio.run(_run(plan, report))
    report.finish(options.json)
    for name, budget in BUDGETS.items():
        figure = report.summary.get(name)
        if figure is not None and figure > budget:
            print(f"over budget: {name} {figure:.4g}, at most {budget:g}")


async def _run(plan: Plan, report: Report) -> None:
    started = running_server("--model", "moody", "--dashboard")
    with started as (pid, addresses), _streams(plan, addresses["ingest"]):
        http = addresses["http"]
        await _until_live(http, plan.streams)
        await asyncio.sleep(plan.warm_up_s)
        alone = await _cpu_percent(pid, plan.seconds / 2)
        report.add(viewers=0, server_cpu_percent=alone)
        counters = [Counter() for _ in range(plan.viewers)]
        async with _browser(http, counters[0]) as findings, _viewers(http, counters[1:]):
            # Snapshots and the page's first drawing are no part of the steady state.
            await asyncio.sleep(plan.warm_up_s / 2)
            for counter in counters:
                counter.num_bytes = counter.messages = 0
            findings.start()
            begun_s = time.monotonic()
            watched = await _cpu_percent(pid, plan.seconds)
            took_s = time.monotonic() - begun_s
            seen = await findings.stop()
        per_viewer = [counter.num_bytes / took_s / 1000 for counter in counters[1:]]
        messages = [counter.messages / took_s for counter in counters[1:]]
        report.add(
            viewers=plan.viewers,
            server_cpu_percent=watched,
            viewer_kb_per_s=round(percentile(per_viewer, 50), 1),
            viewer_messages_per_s=round(percentile(messages, 50), 2),
            **_frame_figures(seen),
        )
    row = report.rows[-1]
    wanted = ("server_cpu_percent", "viewer_kb_per_s", "wall_frame_ms_p95", "wall_frame_ms_p50")
    report.summary = {name: row[name] for name in wanted if name in row}
    report.summary["server_cpu_percent_without_viewers"] = alone


def _frame_figures(seen: Findings) -> dict[str, Any]:
    if not seen.work_ms:
        return {}
    return {
        "wall_frame_ms_p50": round(percentile(seen.work_ms, 50), 2),
        "wall_frame_ms_p95": round(percentile(seen.work_ms, 95), 2),
        "wall_frame_interval_ms_p95": round(percentile(seen.interval_ms, 95), 2),
        "wall_tiles": seen.tiles,
        "wall_frames": len(seen.work_ms),
    }


@contextmanager
def _streams(plan: Plan, url: str) -> Iterator[None]:
    # Streams outlast everything; they are ended, not waited for.
    seconds = plan.warm_up_s * 3 + plan.seconds * 2 + 120
    clients = subprocess.Popen(
        [
            *(sys.executable, "-m", "benchmarks.live_client", "--url", url, "--chunk-ms", "100"),
            *("--clients", str(plan.streams), "--seconds", str(seconds)),
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield
    finally:
        clients.kill()
        clients.wait()


async def _until_live(http: str, streams: int) -> None:
    async with ClientSession() as session, asyncio.timeout(120):
        while True:
            async with session.get(f"{http}/api/v1/streams?live=true&limit=1000") as response:
                if len((await response.json())["streams"]) >= streams:
                    return
            await asyncio.sleep(0.5)


async def _cpu_percent(pid: int, seconds: float) -> float:
    """Return the processor time of a process over the next seconds, in percent of one core."""
    begin_s, begin_cpu_s = time.monotonic(), cpu_s(pid)
    await asyncio.sleep(seconds)
    return round(100 * (cpu_s(pid) - begin_cpu_s) / (time.monotonic() - begin_s), 1)


@asynccontextmanager
async def _viewers(http: str, counters: list[Counter]) -> AsyncIterator[None]:
    """Pages that only count."""
    async with ClientSession() as session:

        async def view(counter: Counter) -> None:
            async with session.ws_connect(f"{http}/api/v1/live", max_msg_size=0) as socket:
                async for message in socket:
                    if message.type is WSMsgType.TEXT:
                        counter.num_bytes += len(message.data)
                        counter.messages += 1

        tasks = [asyncio.create_task(view(counter)) for counter in counters]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


class FrameProbe:
    """Watches the frames of a page; of none, it sees nothing."""

    def __init__(self, page: Any = None) -> None:
        self._page = page

    def start(self) -> None:
        """Begin anew."""
        if self._page is not None:
            self._begun = asyncio.create_task(
                self._page.evaluate(
                    "() => { frames_seen.work_ms.length = frames_seen.interval_ms.length = 0; }"
                )
            )

    async def stop(self) -> Findings:
        """Return what was seen since."""
        if self._page is None:
            return Findings()
        await self._begun
        seen = await self._page.evaluate("() => JSON.stringify(frames_seen)")
        tiles = await self._page.locator(".tile").count()
        return Findings(tiles=tiles, **json.loads(seen))


@asynccontextmanager
async def _browser(http: str, counter: Counter) -> AsyncIterator[FrameProbe]:
    """Chromium on the wall."""
    path = next((path for path in map(shutil.which, _CHROMIUM) if path), None)
    with contextlib.suppress(ImportError):
        from playwright.async_api import async_playwright
    if path is None or "async_playwright" not in locals():
        print("no Chromium or no Playwright: frames are not measured")
        yield FrameProbe()
        return
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=path,
            args=["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"],
        )
        page = await browser.new_page(viewport={"width": 1920, "height": 1080})
        await page.add_init_script(_PROBE)
        page.on("websocket", lambda socket: socket.on("framereceived", _adder(counter)))
        await page.goto(http, wait_until="commit", timeout=90_000)
        await page.locator(".tile").first.wait_for(timeout=90_000)
        yield FrameProbe(page)
        await browser.close()


def _adder(counter: Counter) -> Any:
    def add(payload: str | bytes) -> None:
        counter.num_bytes += len(payload.encode() if isinstance(payload, str) else payload)
        counter.messages += 1

    return add


if __name__ == "__main__":
    main()
