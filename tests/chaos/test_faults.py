"""Real faults under the whole server, in the middle of a call; each test says what may be lost.

Faults of a part alone are with its tests: a clock that is set back (``stream_server/streams/
test_clock_steps.py``: nothing), a killed engine process (``stream_server/engines/test_remote.py``:
a gap, named). ``python -m benchmarks.soak`` is the long form.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import os
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Self

import aiohttp
import numpy as np
import pytest
from aiohttp import web
from websockets.asyncio.client import ClientConnection, connect

from benchmarks.null_engine import NullEngine
from emotion_monitor.dashboard import serve_dashboard
from emotion_monitor.local_services import PostgreSQL
from mic_client import load_sample_call
from ser_engine.errors import WindowError
from ser_engine.types import Window, WindowResult
from stream_server.alerts import actions
from stream_server.engines.opening import local_engine
from stream_server.engines.pool import EnginePool
from stream_server.feeds import mqtt
from stream_server.server import Server
from tests.support.dashboard_server import DashboardServer
from tests.support.mosquitto import Mosquitto
from tests.support.whole_server import settings_in, whole_server

RATE_HZ = 16_000
LOOK_AHEAD_S = 2.0
"""More than points lie behind what was said."""


def speech() -> bytes:
    samples, rate_hz = load_sample_call()
    mono = samples.mean(axis=1) if samples.ndim == 2 else samples
    assert rate_hz == RATE_HZ
    return (np.clip(mono, -1, 1) * 32767).astype("<i2").tobytes()


class Call:
    """A call that goes on step by step.

    Attributes:
        messages: all that came so far.
    """

    def __init__(self, server: Server | DashboardServer) -> None:
        self._url = f"{server.ingest_url}/?encoding=pcm_s16le&sample_rate=16000"
        self._audio = speech()
        self._said_s = 0.0
        self._socket: ClientConnection | None = None
        self.messages: list[dict[str, Any]] = []

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def open(self) -> None:
        """Connect."""
        self._socket = await connect(self._url, proxy=None, compression=None)
        await self._until("ready")

    async def __aexit__(self, *_: object) -> None:
        assert self._socket is not None
        await self._socket.close()

    @property
    def points(self) -> list[int]:
        """Where the points begin, in samples."""
        return [m["start_sample"] for m in self.messages if m["type"] == "point"]

    async def say(self, seconds: float) -> None:
        """Send so much more, and wait until the server has said something of it."""
        assert self._socket is not None
        begin, end = (round(at * RATE_HZ) * 2 for at in (self._said_s, self._said_s + seconds))
        for at in range(begin, end, 3200):
            await self._socket.send(self._audio[at : min(at + 3200, end)])
        self._said_s += seconds
        until = round((self._said_s - LOOK_AHEAD_S) * RATE_HZ)
        while max((m.get("end_sample", 0) for m in self.messages), default=0) < until:
            await self._receive()

    async def stop(self) -> None:
        """End in order, and hold that what is final tiles the whole call."""
        assert self._socket is not None
        await self._socket.send('{"type": "stop"}')
        await self._until("summary")
        kinds = ("segment", "gap")
        final = [m for m in self.messages if m["type"] in kinds and m["final"]]
        final.sort(key=lambda m: m["start_sample"])
        ends = [0, *(m["end_sample"] for m in final)]
        assert [m["start_sample"] for m in final] == ends[:-1]
        assert ends[-1] == round(self._said_s * RATE_HZ)

    @property
    def lost(self) -> dict[str, float]:
        """Seconds of final gaps that are somebody's fault, by reason."""
        found: dict[str, float] = {}
        for m in self.messages:
            if m["type"] == "gap" and m["final"] and m["reason"] != "silence":
                found[m["reason"]] = found.get(m["reason"], 0) + m["end_s"] - m["start_s"]
        return found

    async def _until(self, kind: str) -> None:
        while not self.messages or self.messages[-1]["type"] != kind:
            await self._receive()

    async def _receive(self) -> None:
        assert self._socket is not None
        async with asyncio.timeout(60):
            self.messages.append(json.loads(await self._socket.recv()))


async def check_all_is_stored(server: Server, call: Call) -> None:
    """Hold that the store has every point that the caller was told."""
    assert server.store is not None
    await server.store.flush()
    (record,) = await server.store.list_streams()
    found = await server.store.results(record.stream_id, kinds=["point"], limit=5000)
    assert found is not None
    stored = [result.start_sample for result in found.results]  # type: ignore[union-attr]
    assert stored == call.points and stored


async def is_ready(server: Server) -> bool:
    async with aiohttp.ClientSession() as session:
        async with session.get(f"{server.http_url}/readyz") as answer:
            return answer.status == 200


async def until_away(server: Server) -> None:
    assert server.store is not None
    while server.store.problem is None:
        await server.store.probe(timeout_s=0.05)


async def until_back(server: Server) -> None:
    assert server.store is not None
    async with asyncio.timeout(60):
        while server.store.problem is not None:
            await server.store.probe(timeout_s=0.5)


# -- The disk --------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 8 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(folder)]
    if subprocess.run(command, capture_output=True, check=False).returncode != 0:
        pytest.skip("may not mount a file system; run it as root")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


async def test_a_full_disk_loses_nothing_while_its_results_fit_into_memory(small_disk: Path):
    filler = small_disk / "filler"
    async with whole_server(small_disk) as server, Call(server) as call:
        await call.say(3)
        with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(4096))
        await call.say(4)
        await until_away(server)
        assert not await is_ready(server)
        filler.unlink()
        await call.stop()
        await until_back(server)
        assert await is_ready(server)
        assert call.lost == {}
        await check_all_is_stored(server, call)


# -- The database ----------------------------------------------------------------------------------


def processes_of(cluster: PostgreSQL) -> list[int]:
    """Return the server's process, and those it has for its connections."""
    first = int((cluster.folder / "data" / "postmaster.pid").read_text().split()[0])
    found = [first]
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            # The name may hold anything, a bracket too; the parent is the second field after it.
            if int(path.read_text().rpartition(")")[2].split()[1]) == first:
                found.append(int(path.parent.name))
    return found


@pytest.mark.needs("postgresql")
async def test_a_database_that_is_frozen_and_one_that_is_stopped_lose_nothing(tmp_path: Path):
    cluster = await asyncio.to_thread(PostgreSQL)
    try:
        url = f"stream_server.store.url={cluster.new_database()}"
        async with whole_server(tmp_path, url) as server, Call(server) as call:
            await call.say(3)
            frozen = processes_of(cluster)
            for process in frozen:
                os.kill(process, signal.SIGSTOP)
            try:
                await call.say(3)
                await until_away(server)
                assert not await is_ready(server)
            finally:
                for process in frozen:
                    os.kill(process, signal.SIGCONT)
            await until_back(server)
            await asyncio.to_thread(cluster.stop)
            await call.say(3)
            await until_away(server)
            await asyncio.to_thread(cluster.start)
            await call.stop()
            await until_back(server)
            assert call.lost == {}
            await check_all_is_stored(server, call)
    finally:
        await asyncio.to_thread(cluster.close)


# -- Who is told -----------------------------------------------------------------------------------

EVERY_LABEL = "[angry, disgusted, fearful, happy, neutral, other, sad, surprised, unknown]"


@pytest.mark.needs("mosquitto", "aiomqtt")
async def test_a_broker_and_a_webhook_that_were_away_get_the_alert(
    tmp_path: Path, unused_tcp_port: int, monkeypatch: pytest.MonkeyPatch
):
    """What is lost are single points over MQTT that were on their way when the broker went."""
    for module in (actions, mqtt):
        monkeypatch.setattr(module, "_FIRST_DELAY_S", 0.05)
        monkeypatch.setattr(module, "_LONGEST_DELAY_S", 0.05)
    monkeypatch.setattr(actions, "MAX_ATTEMPTS", 10_000)
    broker, posted = Mosquitto(tmp_path), asyncio.Event()

    async def receive(_: web.Request) -> web.Response:
        posted.set()
        return web.Response()

    app = web.Application()
    app.router.add_post("/", receive)
    runner = web.AppRunner(app)
    await broker.start()
    async with (
        whole_server(
            tmp_path,
            f"stream_server.feeds.mqtt_url=mqtt://127.0.0.1:{broker.port}",
            "stream_server.alerts.rules=[{name: talk, threshold: 0.05, clear_threshold: 0,"
            f" hold_s: 0, labels: {EVERY_LABEL}, webhook: 'http://127.0.0.1:{unused_tcp_port}/'}}]",
        ) as server,
        Call(server) as call,
    ):
        await call.say(1)
        await broker.stop()
        await call.say(8)
        assert any(m["type"] == "alert" for m in call.messages)
        assert not posted.is_set()
        await broker.start()
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", unused_tcp_port).start()
        async with asyncio.timeout(60):
            await posted.wait()
            while not any('"alerts":["talk"]' in each for each in await states(broker)):
                pass  # Asking takes a moment.
        await call.stop()
        assert call.lost == {}
        await check_all_is_stored(server, call)
    await runner.cleanup()
    await broker.stop()


async def states(broker: Mosquitto) -> list[str]:
    """Return what the broker retains."""
    import aiomqtt

    found: list[str] = []
    async with aiomqtt.Client("127.0.0.1", broker.port) as client:
        await client.subscribe("#")
        await client.publish("end", b"")
        async for message in client.messages:
            if str(message.topic) == "end":
                break
            found.append(bytes(message.payload).decode())
    return found


# -- The server itself -----------------------------------------------------------------------------


async def stored_points(server: DashboardServer, stream_id: str) -> list[int]:
    found = await server.get(f"/api/v1/streams/{stream_id}/results?limit=1000")
    return [m["start_sample"] for m in found["results"] if m["type"] == "point"]


async def test_a_server_that_is_killed_loses_what_it_had_not_stored_and_nothing_else(
    tmp_path: Path,
):
    """That is less than the last second: ``stream_server/store/test_writer.py``."""
    server = DashboardServer(tmp_path, {"stream_server": {"access": {"refusal_delay_ms": 0}}})
    await server.start()
    try:
        call = Call(server)
        await call.open()
        await call.say(4)
        told = call.points
        stream_id, stored = call.messages[0]["stream_id"], [0]
        async with asyncio.timeout(60):
            while stored[: len(told)] != told:
                stored = await stored_points(server, stream_id)
        await call.say(3)
        await server.kill()
        await server.start()
        found = await server.get("/api/v1/streams")
        (stream,) = found["streams"]
        assert stream["reason"] is not None, "what a dead server left open is closed"
        after = await stored_points(server, stream_id)
        assert after[: len(stored)] == stored and after == call.points[: len(after)]
    finally:
        await server.stop()


# -- The model and the engine ----------------------------------------------------------------------


async def test_a_model_file_that_changes_under_the_server_changes_nothing(
    tmp_path: Path, tiny_checkpoint_dir: Path
):
    folder = tmp_path / "model"
    shutil.copytree(tiny_checkpoint_dir, folder)
    async with whole_server(tmp_path, f"ser_engine.model.name={folder}") as server:
        async with Call(server) as call:
            await call.say(3)
            (weights,) = folder.glob("*.pt")
            # In place: what is mapped into memory and not read yet would be a SIGBUS.
            os.truncate(weights, 0)
            await call.say(3)
            new = folder / "new"
            new.write_bytes(b"another model")
            os.replace(new, weights)
            await call.say(3)
            await call.stop()
            assert call.lost == {}
            await check_all_is_stored(server, call)


class FailsOnce(NullEngine):
    """An engine whose second batch fails.

    Args:
        error: that is raised, once.
    """

    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self._errors = [error]
        self._num_batches = 0

    def step(self, windows: Sequence[Window]) -> list[WindowResult | WindowError]:
        self._num_batches += 1
        if self._num_batches > 2 and self._errors:
            raise self._errors.pop()
        return super().step(windows)


@asynccontextmanager
async def server_with(folder: Path, core: NullEngine) -> AsyncIterator[Server]:
    settings = settings_in(folder)
    engines = EnginePool(
        config=settings.ser_engine,
        open_engine=functools.partial(local_engine, load=lambda *_: lambda: core),
    )
    server = Server(
        settings.ser_engine,
        settings.stream_server,
        engines=engines,
        serve_more=lambda server, source: serve_dashboard(settings, server, source),
    )
    async with server:
        yield server


@pytest.mark.parametrize("error", [RuntimeError("a bug"), MemoryError(), OSError("a device")])
async def test_an_engine_that_fails_once_costs_at_most_a_gap_that_is_named(
    tmp_path: Path, error: Exception
):
    async with server_with(tmp_path, FailsOnce(error)) as server, Call(server) as call:
        await call.say(3)
        await call.say(6)
        await call.stop()
        assert set(call.lost) <= {"error"} and sum(call.lost.values()) <= 2
        await check_all_is_stored(server, call)
