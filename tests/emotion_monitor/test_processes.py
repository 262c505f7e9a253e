"""``serve --workers 2``: real processes, two of which are killed."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import pytest
import soxr

from mic_client import ArraySource, StreamClient, StreamOptions, load_sample_call
from stream_server.wire.messages import Ready
from stream_server.wire.results import Gap, Point, Segment, Summary
from tests.emotion_monitor.test_serve import addresses, running
from tests.support.spans import SpanCollector
from tests.support.waiting import until

NUM_CLIENTS = 6
LONGEST_S = 300


class Call:
    """A client that goes on through lost connections, and what it was told, by stream.

    Attributes:
        streams: what opened each stream it was in, and the messages that followed.
        stop: ends the stream.
    """

    def __init__(self, url: str, name: str) -> None:
        samples, rate_hz = load_sample_call()
        customer = soxr.resample(samples[:, 1], rate_hz, 16_000)
        self._source = ArraySource(np.resize(customer, LONGEST_S * 16_000), 16_000)
        self._url = url
        self._options = StreamOptions(name=name, reconnect_timeout_s=30)
        self.streams: list[tuple[Ready, list[Any]]] = []
        self.stop: Callable[[], None] = lambda: None

    async def run(self) -> None:
        async with StreamClient(self._source, self._url, self._options) as client:
            self.stop = client.stop
            async for message in client:
                if isinstance(message, Ready):
                    self.streams.append((message, []))
                elif self.streams:
                    self.streams[-1][1].append(message)

    @property
    def num_points(self) -> int:
        return sum(isinstance(one, Point) for _, messages in self.streams for one in messages)


def children(process: subprocess.Popen[str]) -> dict[str, int]:
    """Return the server's processes by name."""
    found = {}
    listed = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    for pid in listed:
        words = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
        if "emotion_monitor.processes" in words:
            found[words[words.index("emotion_monitor.processes") + 2]] = int(pid)
    return found


def has_torch(pid: int) -> bool:
    return "libtorch" in Path(f"/proc/{pid}/maps").read_text()


def children_exist(named: dict[str, int]) -> bool:
    return any(Path(f"/proc/{pid}").exists() for pid in named.values())


async def get(url: str) -> str:
    async with aiohttp.ClientSession() as session, session.get(url) as response:
        return await response.text()


async def on_the_wall(http: str, ids: set[str]) -> bool:
    """Return whether a page that is opened is shown all these streams, in its first messages."""
    url = f"{http}/api/v1/live"
    async with aiohttp.ClientSession() as session, session.ws_connect(url) as page:
        seen = ""
        async with asyncio.timeout(10):
            while not all(one in seen for one in ids):
                seen += await page.receive_str()
    return True


def metric(text: str, name: str) -> float:
    """Return the sum of a metric's samples."""
    found = re.findall(rf"^emotion_monitor_{name}(?:{{[^}}]*}})? (\S+)$", text, re.MULTILINE)
    return sum(map(float, found))


def check_timeline(messages: list[Any]) -> None:
    """Hold that no point came twice, and that what is final leaves nothing out."""
    points = Counter(one.start_sample for one in messages if isinstance(one, Point))
    assert set(points.values()) <= {1}
    final = [one for one in messages if isinstance(one, Segment | Gap) and one.final]
    final.sort(key=lambda one: one.start_sample)
    ends = [0, *(one.end_sample for one in final)]
    assert [one.start_sample for one in final] == ends[:-1]


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.needs("tracing")
async def test_streams_over_two_workers_outlive_a_worker_and_the_engine(tmp_path: Path):
    quick = ("stream_server.limits.drain_timeout_s=5", "stream_server.store.write_interval_ms=50")
    with contextlib.ExitStack() as stack:
        collector = stack.enter_context(SpanCollector())
        traced = (
            f"stream_server.tracing.url={collector.url}",
            "stream_server.tracing.share=1",
        )
        process = stack.enter_context(running(tmp_path, "--workers", "2", *quick, *traced))
        audio, http = await asyncio.to_thread(addresses, process)
        named = children(process)
        assert sorted(named) == ["engine", "worker-0", "worker-1"]
        have_torch = {name for name, pid in named.items() if has_torch(pid)}
        assert have_torch == {"engine"}
        assert not has_torch(process.pid)
        calls = [Call(audio, f"call {number}") for number in range(NUM_CLIENTS)]
        tasks = [asyncio.create_task(call.run()) for call in calls]
        await until(lambda: all(call.num_points >= 2 for call in calls))
        # One wall, whichever worker a stream is in.
        ids = {call.streams[0][0].stream_id for call in calls}
        assert await on_the_wall(http, ids)
        assert metric(await get(f"{http}/metrics"), "streams") == NUM_CLIENTS

        os.kill(named["worker-0"], signal.SIGKILL)
        former = [call.num_points for call in calls]
        await until(
            lambda: all(
                call.num_points >= before + 2 for call, before in zip(calls, former, strict=True)
            )
        )
        os.kill(named["engine"], signal.SIGKILL)
        former = [call.num_points for call in calls]
        # Every stream is scored again.
        await until(
            lambda: all(
                call.num_points > before for call, before in zip(calls, former, strict=True)
            )
        )
        for call in calls:
            call.stop()
        await asyncio.gather(*tasks)
        # Each process reports once a second.
        num_streams = sum(len(call.streams) for call in calls)
        metrics = ""
        while metric(metrics, "streams_closed_total") < num_streams:
            metrics = await get(f"{http}/metrics")
        process.send_signal(signal.SIGTERM)
        await asyncio.to_thread(process.communicate, timeout=60)
        assert process.returncode == 0
        assert not await asyncio.to_thread(children_exist, named)

    in_second = [call for call in calls if len(call.streams) == 2]
    assert {len(call.streams) for call in calls} <= {1, 2}
    for call in calls:
        first, last = call.streams[0], call.streams[-1]
        check_timeline(last[1])
        assert isinstance(last[1][-1], Summary)
        if call in in_second:
            assert last[0].continues == first[0].stream_id
    assert metric(metrics, "streams_opened_total") == num_streams
    assert metric(metrics, "streams_closed_total") == num_streams
    assert metric(metrics, "streams") == 0
    assert metric(metrics, "process_restarts_total") == 2
    check_store(tmp_path / "timelines.db", calls)
    check_traces(collector)


def check_traces(collector: SpanCollector) -> None:
    """Hold that a window's trace leads from its worker to the engine, and on to the front."""
    whole = [one for one in collector.processes() if {"score", "forwarded"} <= one.keys()]
    assert whole
    for one in whole:
        assert (one["score"], one["forwarded"]) == ("engine", "server")
        in_worker = {one.get(name) for name in ("window", "engine", "published")} - {None}
        # Of the worker that was killed, what it had not sent is lost.
        assert in_worker <= {"worker-0", "worker-1"} and len(in_worker) <= 1
    last = next(one for one in whole if "window" in one)
    assert len(last) == 8
    spans = {one.span_id: one for one in collector.spans}
    for span in collector.spans:
        if span.name in ("score", "forwarded") and (parent := spans.get(span.parent_id)):
            assert parent.name == {"score": "engine", "forwarded": "published"}[span.name]
            assert parent.trace_id == span.trace_id


def check_store(path: Path, calls: list[Call]) -> None:
    """Hold that what clients were told is stored once, and that each timeline is whole."""
    with sqlite3.connect(path) as database:
        rows = database.execute("SELECT id, key, reason FROM streams").fetchall()
        stored = {stream_id: (key, reason) for stream_id, key, reason in rows}
        for call in calls:
            for number, (ready, messages) in enumerate(call.streams):
                key, reason = stored.pop(ready.stream_id)
                is_last = number == len(call.streams) - 1
                assert reason == ("stopped" if is_last else "internal")
                points = database.execute(
                    "SELECT count(*) FROM points WHERE stream_key = ?", [key]
                ).fetchone()[0]
                told = sum(isinstance(one, Point) for one in messages)
                assert points == told if is_last else points >= told - 1
                spans = database.execute(
                    "SELECT start_sample, end_sample FROM segments WHERE stream_key = :key"
                    " UNION ALL SELECT start_sample, end_sample FROM gaps WHERE stream_key = :key"
                    " ORDER BY 1",
                    {"key": key},
                ).fetchall()
                assert [start for start, _ in spans] == [0, *(end for _, end in spans)][:-1]
    assert not stored
