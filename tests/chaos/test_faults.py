"""Real faults under the whole server, in the middle of a call; each test says what may be lost.

Faults of a part alone are with its tests: a server that is killed (``stream_server/store/
test_writer.py``: less than the last second), a clock that is set back (``stream_server/streams/
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
from websockets.asyncio.client import ClientConnection, connect

from benchmarks.null_engine import NullEngine
from emotion_monitor.dashboard import serve_dashboard
from mic_client import load_sample_call
from ser_engine.errors import WindowError
from ser_engine.types import Window, WindowResult
from stream_server.engines.opening import local_engine
from stream_server.engines.pool import EnginePool
from stream_server.server import Server
from tests.support.postgresql import Cluster
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

    def __init__(self, server: Server) -> None:
        self._url = f"{server.ingest_url}/?encoding=pcm_s16le&sample_rate=16000"
        self._audio = speech()
        self._said_s = 0.0
        self._socket: ClientConnection | None = None
        self.messages: list[dict[str, Any]] = []

    async def __aenter__(self) -> Self:
        self._socket = await connect(self._url, proxy=None, compression=None)
        await self._until("ready")
        return self

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


def processes_of(cluster: Cluster) -> list[int]:
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
    cluster = await asyncio.to_thread(Cluster)
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
