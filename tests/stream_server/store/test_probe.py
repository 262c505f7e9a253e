"""Whether the store says so when it cannot keep what is published."""

from __future__ import annotations

import os
import shutil
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from stream_server.config import StoreConfig
from stream_server.store import Store
from tests.support.results import make_opened, make_point


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "timelines.db"


async def open_store(path: Path) -> Store:
    store = await Store.open(StoreConfig(url=f"sqlite:///{path}", write_interval_ms=10))
    await store.probe()
    assert store.problem is None
    store.write(make_opened())
    await store.flush()
    return store


def replace(path: Path) -> None:
    shutil.copy(path, path.with_name("copy"))
    os.replace(path.with_name("copy"), path)


def cut(path: Path) -> None:
    # Until the write-ahead log goes into the file, there is little in it.
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA wal_checkpoint").fetchall()
    connection.close()
    os.truncate(path, 4096)


def overwrite(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(b"something else, of some other program" * 100)


def delete_log(path: Path) -> None:
    path.with_name(f"{path.name}-wal").unlink()


@pytest.mark.parametrize("harm", [Path.unlink, replace, cut, overwrite, delete_log])
async def test_a_database_that_was_harmed_is_noticed(path: Path, harm: Callable[[Path], None]):
    store = await open_store(path)
    harm(path)
    await store.probe()
    assert not store.is_ready
    assert str(path) in (store.problem or "")
    # It stays so, whatever the connection still can do.
    store.write(make_point(seq=1))
    await store.probe()
    assert not store.is_ready
    await store.close(timeout_s=0)


async def test_a_database_that_does_not_answer_is_noticed(path: Path):
    store = await open_store(path)
    thaw = threading.Event()
    frozen = store.writer.submit(lambda connection: thaw.wait(60))
    await store.probe(timeout_s=0.01)
    assert store.problem == "the database has not answered for 0.01 s"
    thaw.set()
    await frozen
    await store.probe()
    assert store.is_ready
    await store.close()


async def test_a_full_disk_is_one_problem_until_there_is_room(path: Path):
    store = await open_store(path)
    failures: list[bool] = []
    store.writer.on_failure = lambda: failures.append(store.writer.is_ready)

    def limit(num_pages: int) -> Callable[..., None]:
        def apply(connection: object) -> None:
            connection.exec_driver_sql(f"PRAGMA max_page_count = {num_pages}")  # type: ignore

        return apply

    # No page can be added; what changes a page that is there still works, as on a full disk.
    await store.writer.submit(limit(1))
    for number in range(1, 5000):
        store.write(make_point(seq=number))
    while len(failures) < 3:
        await store.probe()
        assert not store.is_ready or not failures
    # It was ready before the first failure only.
    assert failures[1:] == [False] * (len(failures) - 1)
    assert store.writer.pending > 0
    await store.close(timeout_s=0)
