"""The same on SQLite and on PostgreSQL."""

from __future__ import annotations

import msgspec
import pytest

from stream_server.store import JobRecord, JobTable, Store, StoreError, StoreUnavailableError
from tests.stream_server.store.conftest import OpenStore


def job(job_id: str, **values: object) -> JobRecord:
    fields = {"name": "call.wav", "options": {"granularity": "frame"}, "size_bytes": 7}
    return JobRecord(job_id=job_id, created_at=1.5, **{**fields, **values})  # type: ignore[arg-type]


@pytest.fixture
def jobs(store: Store) -> JobTable:
    """Those of one folder."""
    return store.jobs("here")


async def ids(jobs: JobTable, **wanted: object) -> list[str]:
    return [one.job_id for one in await jobs.page(**wanted)]  # type: ignore[arg-type]


async def test_what_was_added_is_what_comes_back(jobs: JobTable):
    plain = job("a")
    whole = job(
        "b",
        name="通话.wav",
        state="failed",
        progress=0.25,
        attempts=2,
        size_bytes=5_000_000_000,
        started_at=2.0,
        finished_at=3.0,
        duration_s=4.5,
        error_code="bad_audio",
        error="got text, expected audio",
        folder="2026-11-22/b",
        kept_bytes=6_000_000_000,
        summary={"channels": [{"emotion": "angry", "confidence": 0.5}]},
        cache_key="k",
    )
    for each in (plain, whole):
        await jobs.add(each)
        assert await jobs.get(each.job_id) == each
    assert await jobs.get("c") is None
    assert (plain.is_final, whole.is_final) == (False, True)


async def test_pages_have_the_newest_first(jobs: JobTable):
    for name, state in zip("abcd", ("done", "waiting", "running", "waiting"), strict=True):
        await jobs.add(job(name, state=state))
    assert await ids(jobs) == ["d", "c", "b", "a"]
    assert await ids(jobs, limit=2, offset=1) == ["c", "b"]
    assert await ids(jobs, states=["waiting"]) == ["d", "b"]
    assert await ids(jobs, states=["waiting", "done"], limit=2) == ["d", "b"]
    assert [one.job_id for one in await jobs.open_jobs()] == ["b", "c", "d"]


async def test_changes_and_deletion(jobs: JobTable):
    await jobs.add(job("a"))
    assert await jobs.change("a", state="running", attempts=1, started_at=2.0)
    changed = msgspec.structs.replace(job("a"), state="running", attempts=1, started_at=2.0)
    assert await jobs.get("a") == changed
    assert not await jobs.change("b", state="running")
    assert await jobs.delete("a")
    assert not await jobs.delete("a")
    assert await ids(jobs) == []


async def test_what_postgresql_refuses_in_a_text_is_left_out(jobs: JobTable):
    await jobs.add(job("a", name="a\x00b"))
    await jobs.change("a", error="c\x00d")
    found = await jobs.get("a")
    assert found is not None
    assert "\x00" not in found.name + (found.error or "")


async def test_the_oldest_finished_ones(jobs: JobTable):
    for name, at in (("a", 30.0), ("b", 10.0), ("c", None), ("d", 20.0)):
        await jobs.add(job(name, finished_at=at, kept_bytes=100))
    assert [one.job_id for one in await jobs.finished()] == ["b", "d", "a"]
    assert [one.job_id for one in await jobs.finished(before=30.0)] == ["b", "d"]
    assert [one.job_id for one in await jobs.finished(limit=1)] == ["b"]
    assert await jobs.usage() == (3, 400)
    assert await jobs.known(["a", "x", "d"]) == {"a", "d"}


async def test_the_result_of_a_key_is_that_of_the_newest_one(jobs: JobTable):
    await jobs.add(job("a", state="done", cache_key="k"))
    await jobs.add(job("b", state="done", cache_key="k"))
    await jobs.add(job("c", state="failed", cache_key="k"))
    found = await jobs.cached("k")
    assert found is not None
    assert found.job_id == "b"
    assert await jobs.cached("other") is None


async def test_each_folder_has_its_own(store: Store):
    first, second = store.jobs("one"), store.jobs("two")
    await first.add(job("a", state="done", cache_key="k", kept_bytes=5, finished_at=1.0))
    assert await ids(second) == []
    assert await second.get("a") is None
    assert await second.cached("k") is None
    assert await second.usage() == (0, 0)
    assert await second.known(["a"]) == set()
    assert not await second.change("a", state="failed")
    assert not await second.delete("a")
    assert await ids(first) == ["a"]


async def test_several_are_added_all_or_none(jobs: JobTable):
    await jobs.add(job("a"))
    with pytest.raises(StoreError, match="refused"):
        await jobs.add(job("b"), job("a"))
    assert await ids(jobs) == ["a"]


async def test_they_outlive_the_process(open_store: OpenStore):
    first = await open_store()
    await first.jobs("here").add(job("a"))
    await first.close()
    second = await open_store()
    assert await ids(second.jobs("here")) == ["a"]
    assert second.fingerprint == first.fingerprint


async def test_a_closed_store(open_store: OpenStore):
    store = await open_store()
    await store.close()
    with pytest.raises(StoreUnavailableError):
        await store.jobs("here").add(job("a"))
    with pytest.raises(StoreUnavailableError):
        await store.jobs("here").page()
