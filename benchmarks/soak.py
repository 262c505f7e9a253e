"""Whether a server stays the same for hours: memory, descriptors and tasks while calls come and go.

    python -m benchmarks.soak --hours 2 --json soak.json --plot soak.png
    python -m benchmarks.soak --quick            one minute

A server with an engine that computes nothing, a store and the dashboard is called by clients that
send their audio many times as fast as it is spoken, so that an hour holds the calls of days. Most
hang up in order, some vanish, some break the protocol; pages, walls and feeds are opened and
closed beside them. It goes in rounds: after each all clients are gone, and what is left is
measured.

It holds if resident memory at the end is within 5 % of what it was after the warm-up, and if
descriptors and tasks at rest are what they were then. Exit status 1 if not. Calls that fail are
counted by what failed; on a machine that is busy with other things some run out of time. Plotting
needs the extra ``train``.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import statistics
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from benchmarks.report import Report, argument_parser

_RATE_HZ = 16_000
_CHUNK_S = 0.2
_SPEED = 10.0
_ROUND_S = 20.0
_QUIET_S = 4.0
"""More than the resume window of the server, and than what its parts need to end."""
_RESUME_S = 1
_PATIENCE_S = 120.0
"""Longest wait of a caller for its last results."""
_WARM_UP = 0.2
"""Share of the rounds that do not count: caches and allocators fill."""
_MAX_GROWTH = 0.05
_SLACK = 3
"""Descriptors and tasks that may differ between two moments at rest: a write or a sweep in
progress."""
_QUERY = "encoding=pcm_s16le&sample_rate=16000"


class Callers:
    """Clients of one server.

    Attributes:
        calls: begun so far.
        failed: of them, that the server refused or broke.
    """

    def __init__(self, ingest: str, http: str, rng: random.Random) -> None:
        self._ingest, self._http, self._rng = ingest, http, rng
        noise = np.random.default_rng(0).normal(0, 3000, _RATE_HZ * 60)
        self._sound = noise.astype("<i2").tobytes()
        self.calls = 0
        self.failed: Counter[str] = Counter()

    async def round(self, seconds: float, num_callers: int) -> None:
        """Call for a while, with so many at a time; return when all have hung up."""
        end_s = time.monotonic() + seconds
        async with aiohttp.ClientSession(self._http) as session:
            await asyncio.gather(
                *(self._caller(end_s) for _ in range(num_callers)),
                self._watcher(session, end_s),
                self._follower(session, end_s),
            )

    async def _caller(self, end_s: float) -> None:
        while time.monotonic() < end_s:
            self.calls += 1
            try:
                await self._call(self._rng.uniform(2, 40))
            except (OSError, ConnectionClosed, InvalidHandshake, TimeoutError) as error:
                self.failed[type(error).__name__] += 1
            await asyncio.sleep(self._rng.uniform(0, 0.5))

    async def _call(self, audio_s: float) -> None:
        url = f"{self._ingest}/?{_QUERY}"
        kind = self._rng.choices(("stop", "vanish", "error"), (8, 1, 1))[0]
        async with connect(
            url, proxy=None, compression=None, max_size=None, open_timeout=_PATIENCE_S
        ) as socket:
            reading = asyncio.create_task(_read(socket))
            size = round(_CHUNK_S * _RATE_HZ) * 2
            for at in range(0, round(audio_s * _RATE_HZ) * 2, size):
                await socket.send(self._sound[at : at + size])
                await asyncio.sleep(_CHUNK_S / _SPEED)
            if kind == "vanish":
                socket.transport.abort()
            else:
                await socket.send("nonsense" if kind == "error" else '{"type": "stop"}')
                if kind == "error":
                    await socket.close()
            async with asyncio.timeout(_PATIENCE_S):
                await reading

    async def _watcher(self, session: aiohttp.ClientSession, end_s: float) -> None:
        """Open and close pages and the wall."""
        while time.monotonic() < end_s:
            for path in ("/", "/api/v1/streams", "/api/v1/alerts", "/metrics", "/nowhere"):
                async with session.get(path) as answer:
                    await answer.read()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._rng.uniform(0.2, 2)):
                    async with session.ws_connect("/api/v1/live") as wall:
                        async for _ in wall:
                            pass

    async def _follower(self, session: aiohttp.ClientSession, end_s: float) -> None:
        """Open and close feeds, by both transports."""
        while time.monotonic() < end_s:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._rng.uniform(0.2, 2)):
                    async with session.get("/feed") as answer:
                        async for _ in answer.content.iter_any():
                            pass
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._rng.uniform(0.2, 2)):
                    async with session.ws_connect("/feed") as feed:
                        async for _ in feed:
                            pass


async def _read(socket: Any) -> None:
    with contextlib.suppress(ConnectionClosed):
        async for _ in socket:
            pass


async def _tasks(http: str) -> int:
    async with aiohttp.ClientSession() as session, session.get(f"{http}/metrics") as answer:
        text = await answer.text()
    line = next(line for line in text.splitlines() if line.startswith("emotion_monitor_tasks "))
    return round(float(line.split()[1]))


async def _tasks_at_rest(http: str) -> int:
    """Return the tasks that are left once they get no fewer."""
    before = await _tasks(http)
    while True:
        await asyncio.sleep(_QUIET_S)
        after = await _tasks(http)
        if after >= before:
            return after
        before = after


def _resident_mb(process: int) -> float:
    # statm counts pages, of 4 KiB on every machine this runs on.
    pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    return pages * 4 / 1024


def _descriptors(process: int) -> int:
    return len(list(Path(f"/proc/{process}/fd").iterdir()))


async def _soak(report: Report, seconds: float, num_callers: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        server = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "benchmarks.live_server", "--model", "null", "--dashboard"),
            *("--store", f"sqlite:///{folder}/timelines.db", "--resume-window-s", str(_RESUME_S)),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
        assert server.stdout is not None
        try:
            while not (line := await server.stdout.readline()).startswith(b"{"):
                if not line:
                    raise RuntimeError("the server did not come up")
            addresses = json.loads(line)
            # A pipe that nobody reads is full after an hour, and the server waits to write.
            reading = asyncio.create_task(_read_on(server.stdout))
            callers = Callers(addresses["ingest"], addresses["http"], random.Random(0))
            began_s = time.monotonic()
            while time.monotonic() - began_s < seconds:
                await callers.round(_ROUND_S, num_callers)
                tasks = await _tasks_at_rest(addresses["http"])
                report.add(
                    minutes=round((time.monotonic() - began_s) / 60, 2),
                    calls=callers.calls,
                    failed=callers.failed.total(),
                    resident_mb=round(_resident_mb(server.pid), 1),
                    descriptors=_descriptors(server.pid),
                    tasks=tasks,
                )
            report.settings["failures"] = dict(callers.failed)
        finally:
            server.terminate()
            await server.wait()
        await reading


async def _read_on(output: asyncio.StreamReader) -> None:
    while await output.read(65_536):
        pass


def _judge(report: Report) -> bool:
    """Add the summary; return whether it holds."""
    rows = report.rows[round(len(report.rows) * _WARM_UP) :]
    edge = max(1, len(rows) // 5)
    first, last = rows[:edge], rows[-edge:]

    def before_and_after(name: str) -> tuple[float, float]:
        begun, ended = (statistics.median(row[name] for row in part) for part in (first, last))
        return begun, ended

    begun_mb, ended_mb = before_and_after("resident_mb")
    growth = ended_mb / begun_mb - 1
    holds = abs(growth) <= _MAX_GROWTH
    report.summary |= {
        "calls": report.rows[-1]["calls"],
        "failed": report.rows[-1]["failed"],
        "resident_mb_after_warm_up": begun_mb,
        "resident_mb_at_the_end": ended_mb,
        "growth_percent": round(100 * growth, 2),
    }
    for name in ("descriptors", "tasks"):
        begun, ended = before_and_after(name)
        report.summary |= {f"{name}_after_warm_up": begun, f"{name}_at_the_end": ended}
        holds = holds and ended - begun <= _SLACK
    report.summary["holds"] = int(holds)
    return holds


def _plot(report: Report, path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    minutes = [row["minutes"] for row in report.rows]
    figure, axes = pyplot.subplots(3, 1, sharex=True, figsize=(8, 6), layout="constrained")
    names = ("resident_mb", "descriptors", "tasks")
    for axis, name, title in zip(
        axes, names, ("resident memory, MB", "open descriptors", "asyncio tasks"), strict=True
    ):
        axis.plot(minutes, [row[name] for row in report.rows], color="#0072B2")
        axis.axvspan(0, minutes[-1] * _WARM_UP, color="0.92")
        axis.set_ylim(bottom=0)
        axis.set_title(title, loc="left", fontsize=10)
    axes[-1].set_xlabel(f"minutes; {report.rows[-1]['calls']} calls; grey: warm-up")
    figure.savefig(path, dpi=100)


def main(arguments: list[str] | None = None) -> None:
    """Run the benchmark."""
    parser = argument_parser(__doc__ or "")
    parser.add_argument("--hours", type=float, default=2.0)
    parser.add_argument("--callers", type=int, default=12, help="calls at a time")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw it there, as PNG")
    options = parser.parse_args(arguments)
    hours = 1 / 60 if options.quick else options.hours
    report = Report({"hours": hours, "callers": options.callers, "speed": _SPEED})
    asyncio.run(_soak(report, hours * 3600, options.callers))
    holds = _judge(report)
    report.finish(options.json)
    if options.plot is not None:
        _plot(report, options.plot)
    if not holds:
        raise SystemExit("it does not stay the same")


if __name__ == "__main__":
    main()
