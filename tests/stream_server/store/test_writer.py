"""The writer when the database is away, and when the process dies."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import structlog
from sqlalchemy import insert

from emotion_monitor.local_services import PostgreSQL
from stream_server.bus import Bus
from stream_server.config import StoreConfig
from stream_server.store import Store, StoreError, StoreUnavailableError, schema
from stream_server.wire.results import Marked, Point, Result, StreamClosed
from tests.requirements import REPOSITORY
from tests.support.results import make_opened, make_point

KILLED = """
import asyncio, sys, time
from stream_server.bus import Bus
from stream_server.config import StoreConfig
from stream_server.store import Store
from tests.support.results import make_opened, make_point, make_segment

async def main():
    store = await Store.open(StoreConfig(url=sys.argv[1]))
    bus = Bus()
    running = asyncio.ensure_future(store.run(bus.subscribe(name="store", capacity=1000)))
    bus.publish(make_opened())
    for number in range(1, 1_000_000):
        now = time.monotonic()
        start_s = 0.01 * number
        bus.publish(make_point(seq=2 * number - 1, start_s=start_s, end_s=start_s + 0.01))
        bus.publish(make_segment(seq=2 * number, end_s=start_s + 0.01, final=False))
        print(2 * number, now, flush=True)
        await asyncio.sleep(0.002)

asyncio.run(main())
"""


def start_writing(url: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", KILLED, url], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True
    )


async def test_a_killed_process_loses_less_than_a_second(store_url: str):
    writing = start_writing(store_url)
    assert writing.stdout is not None
    published: list[tuple[int, float]] = []

    def read_two_seconds() -> None:
        assert writing.stdout is not None
        for line in writing.stdout:
            seq, at_s = line.split()
            published.append((int(seq), float(at_s)))
            if float(at_s) - published[0][1] > 2:
                return

    await asyncio.to_thread(read_two_seconds)
    writing.send_signal(signal.SIGKILL)
    rest = await asyncio.to_thread(writing.stdout.read)
    lines = [line.split() for line in rest.splitlines() if line.count(" ") == 1]
    published += [(int(seq), float(at_s)) for seq, at_s in lines if "." in at_s]
    writing.stdout.close()
    assert await asyncio.to_thread(writing.wait) == -signal.SIGKILL

    store = await Store.open(StoreConfig(url=store_url))
    found = await store.results("s1", limit=1_000_000)
    await store.close()
    assert found is not None
    killed_at_s = published[-1][1]
    safe = [seq for seq, at_s in published if at_s < killed_at_s - 1]
    points = [result.seq for result in found.results if isinstance(result, Point)]
    assert points == list(range(1, points[-1] + 1, 2))
    assert points[-1] >= safe[-1] - 1
    end = found.results[-1]
    assert isinstance(end, StreamClosed)
    assert end.reason == "server_stopped"


async def until_back(store: Store) -> None:
    while True:
        try:
            return await store.flush()
        except StoreUnavailableError:
            assert not store.is_ready


@pytest.mark.needs("postgresql")
async def test_results_wait_while_the_database_is_away(postgresql_cluster: PostgreSQL):
    store = await Store.open(StoreConfig(url=postgresql_cluster.new_database()))
    store.write(make_opened())
    await store.flush()
    with structlog.testing.capture_logs() as logs:
        await asyncio.to_thread(postgresql_cluster.stop)
        store.write(make_point(seq=1))
        with pytest.raises(StoreUnavailableError, match="it is tried again by itself"):
            await store.flush()
        assert not store.is_ready
        store.write(make_point(seq=2))
        with pytest.raises(StoreUnavailableError):
            await store.acknowledge("a")
        with pytest.raises(StoreUnavailableError):
            await store.stream("s1")
        assert store.writer.pending == 2
        await asyncio.to_thread(postgresql_cluster.start)
        await until_back(store)
    found = await store.results("s1")
    assert found is not None
    assert [result.seq for result in found.results] == [0, 1, 2]
    assert (store.is_ready, store.writer.pending, store.writer.dropped) == (True, 0, 0)
    assert [line["event"] for line in logs] == ["store_unavailable", "store_available"]
    await store.close()


@pytest.mark.needs("postgresql")
async def test_what_waits_is_bounded_and_points_go_first(postgresql_cluster: PostgreSQL):
    url = postgresql_cluster.new_database()
    store = await Store.open(StoreConfig(url=url, max_pending_results=1000))
    store.write(make_opened())
    await store.flush()
    await asyncio.to_thread(postgresql_cluster.stop)
    store.write(make_opened("t"))
    with pytest.raises(StoreUnavailableError):
        await store.flush()
    for seq in range(1, 1501):
        store.write(make_point(seq=seq))
    assert store.writer.pending == 1000
    assert store.writer.dropped == 501
    await asyncio.to_thread(postgresql_cluster.start)
    await until_back(store)
    found = await store.results("s1", limit=5000)
    assert found is not None
    assert [result.seq for result in found.results] == [0, *range(502, 1501)]
    assert await store.stream("t") is not None
    await store.close()


@pytest.mark.needs("postgresql")
async def test_closing_gives_up_on_a_database_that_is_away(postgresql_cluster: PostgreSQL):
    store = await Store.open(StoreConfig(url=postgresql_cluster.new_database()))
    store.write(make_opened())
    await store.flush()
    await asyncio.to_thread(postgresql_cluster.stop)
    try:
        for seq in range(1, 4):
            store.write(make_point(seq=seq))
        with structlog.testing.capture_logs() as logs:
            await store.close(timeout_s=0.2)
        assert store.writer.dropped == 3
        assert logs[-1]["event"] == "store_closed_with_results_left"
    finally:
        await asyncio.to_thread(postgresql_cluster.start)


async def test_a_result_is_written_without_being_asked_for(store_url: str):
    store = await Store.open(StoreConfig(url=store_url, write_interval_ms=10))
    store.write(make_opened())
    # What is in the database can be read a moment before the writer has heard that it is.
    while await store.stream("s1") is None or store.writer.pending:
        pass
    await store.close()


async def test_a_job_that_is_cancelled_does_not_disturb(tmp_path: Path):
    store = await Store.open(StoreConfig(url=f"sqlite:///{tmp_path}/timelines.db"))
    job = asyncio.ensure_future(store.acknowledge("a"))
    await asyncio.sleep(0)
    job.cancel()
    with pytest.raises(asyncio.CancelledError):
        await job
    store.write(make_opened())
    await store.flush()
    assert await store.stream("s1") is not None
    await store.close()


async def test_a_job_that_raises_tells_who_asked(tmp_path: Path):
    store = await Store.open(StoreConfig(url=f"sqlite:///{tmp_path}/timelines.db"))
    with pytest.raises(ZeroDivisionError):
        await store.writer.submit(lambda connection: 1 / 0)
    await store.flush()
    await store.close()


async def test_a_job_the_database_refuses_tells_who_asked(tmp_path: Path):
    store = await Store.open(StoreConfig(url=f"sqlite:///{tmp_path}/timelines.db"))
    twice = insert(schema.alerts).values(id="a")
    with pytest.raises(StoreError, match="the database refused: IntegrityError"):
        await store.writer.submit(lambda connection: connection.execute(twice))
    assert store.is_ready
    await store.close()


@pytest.mark.needs("postgresql")
async def test_a_job_finds_out_that_the_database_is_away(postgresql_cluster: PostgreSQL):
    store = await Store.open(StoreConfig(url=postgresql_cluster.new_database()))
    await asyncio.to_thread(postgresql_cluster.stop)
    try:
        with pytest.raises(StoreUnavailableError):
            await store.acknowledge("a")
        assert not store.is_ready
    finally:
        await asyncio.to_thread(postgresql_cluster.start)
    await until_back(store)
    assert (store.is_ready, store.writer.pending) == (True, 0)
    await store.close()


async def test_running_ends_with_the_bus(tmp_path: Path):
    store = await Store.open(StoreConfig(url=f"sqlite:///{tmp_path}/timelines.db"))
    bus = Bus()
    results: list[Result] = [make_opened(), make_point(seq=1)]
    subscription = bus.subscribe(name="store", capacity=10)
    for result in results:
        bus.publish(result)
    bus.close()
    await store.run(subscription)
    await store.flush()
    found = await store.results("s1")
    assert found is not None
    assert list(found.results) == results
    await store.close()


@pytest.mark.needs("postgresql")
async def test_what_is_refused_is_counted_once_though_the_database_goes_away(
    postgresql_cluster: PostgreSQL,
):
    store = await Store.open(StoreConfig(url=postgresql_cluster.new_database()))
    store.write(make_opened())
    await store.flush()
    await asyncio.to_thread(postgresql_cluster.stop)
    bad = Marked(stream_id="s1", seq=2, name="\ud800", at_sample=0, at_s=0.0)
    for result in (make_point(seq=1), bad, make_point(seq=3), make_point(stream_id="unknown")):
        store.write(result)
    with pytest.raises(StoreUnavailableError):
        await store.flush()
    await asyncio.to_thread(postgresql_cluster.start)
    await until_back(store)
    assert (store.writer.written, store.writer.dropped, store.writer.pending) == (3, 2, 0)
    await store.close()
