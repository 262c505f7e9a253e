from __future__ import annotations

import multiprocessing
import os
import stat
import time
from pathlib import Path

import pytest

from ser_engine.files.cache import BoundedFolder

A, B, C = ("a" * 16, "b" * 16, "c" * 16)


class Clock:
    def __init__(self) -> None:
        self.now_s = 1_700_000_000.0

    def __call__(self) -> float:
        self.now_s += 1
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def folder(tmp_path: Path, clock: Clock) -> BoundedFolder:
    return BoundedFolder(tmp_path / "kept" / "results", 100, clock=clock)


def test_what_is_put_is_got(folder: BoundedFolder):
    assert folder.get(A) is None
    assert folder.put(A, b"one")
    assert folder.put(A, b"two")
    assert folder.get(A) == b"two"
    assert folder.size_bytes == 3


def test_what_was_used_longest_ago_goes_first(folder: BoundedFolder):
    folder.put(A, bytes(40))
    folder.put(B, bytes(40))
    folder.get(A)
    folder.put(C, bytes(40))
    assert [folder.get(key) is not None for key in (A, B, C)] == [True, False, True]


def test_an_entry_beyond_the_bound_is_not_kept(folder: BoundedFolder):
    folder.put(A, bytes(40))
    assert not folder.put(B, bytes(101))
    assert folder.put(C, bytes(100))
    assert [folder.get(key) is not None for key in (A, B, C)] == [False, False, True]


def test_old_entries_are_gone_however_often_they_are_used(tmp_path: Path, clock: Clock):
    folder = BoundedFolder(tmp_path, 100, 60.0, clock=clock)
    folder.put(A, b"a")
    clock.now_s += 50
    folder.put(B, b"b")
    assert folder.get(A) == b"a"
    clock.now_s += 20
    assert folder.get(A) is None
    assert not (tmp_path / A).exists()
    clock.now_s += 60
    folder.put(C, b"c")
    assert not (tmp_path / B).exists()


def test_only_the_owner_may_read(folder: BoundedFolder, tmp_path: Path):
    folder.put(A, b"a")
    assert stat.S_IMODE((tmp_path / "kept" / "results").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "kept" / "results" / A).stat().st_mode) == 0o600


@pytest.mark.parametrize("key", ["", "../../etc/passwd", "A" * 16, "a" * 15, "a" * 129, "é" * 16])
def test_a_key_is_no_path(folder: BoundedFolder, key: str):
    for call in (folder.get, folder.remove, lambda key: folder.put(key, b"")):
        with pytest.raises(ValueError, match="hexadecimal"):
            call(key)


def test_a_folder_that_cannot_be_made_keeps_nothing(tmp_path: Path):
    (tmp_path / "file").write_text("")
    folder = BoundedFolder(tmp_path / "file" / "results", 100)
    assert not folder.put(A, b"a")
    assert folder.get(A) is None


def test_what_dead_processes_left_is_removed_in_time(
    folder: BoundedFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    folder.put(A, b"a")
    place = tmp_path / "kept" / "results"
    left, foreign = place / f".{B}.x.new", place / "README"
    left.write_bytes(b"half")
    foreign.write_text("not ours")
    folder.put(C, b"c")
    assert left.exists()
    later = time.time() + 4000
    monkeypatch.setattr(time, "time", lambda: later)
    folder.put(C, b"c")
    assert not left.exists()
    assert foreign.exists()


def test_entries_can_be_removed(folder: BoundedFolder):
    folder.put(A, b"a")
    folder.put(B, b"b")
    folder.remove(A)
    folder.remove(A)
    assert (folder.get(A), folder.get(B)) == (None, b"b")
    folder.clear()
    assert folder.size_bytes == 0


def _write_a_lot(folder: Path, seed: int) -> None:
    shared = BoundedFolder(folder, 3_000)
    for number in range(100):
        key = f"{(number * 7 + seed) % 10:016x}"
        shared.put(key, key.encode() * 50)
        got = shared.get(key)
        assert got is None or got == key.encode() * 50


def test_processes_share_it(tmp_path: Path):
    context = multiprocessing.get_context("spawn")
    workers = [
        context.Process(target=_write_a_lot, args=(tmp_path / "shared", seed)) for seed in range(3)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    assert BoundedFolder(tmp_path / "shared", 3_000).size_bytes <= 3_000
    assert all(not name.startswith(".") for name in os.listdir(tmp_path / "shared"))
