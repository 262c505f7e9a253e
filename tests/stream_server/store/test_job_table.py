"""The same on SQLite and on PostgreSQL."""

from __future__ import annotations

import msgspec
import pytest

from stream_server.store import JobRecord, Store, StoreUnavailableError
from tests.stream_server.store.conftest import OpenStore


def job(job_id: str, **values: object) -> JobRecord:
    fields = {"name": "call.wav", "options": {"granularity": "frame"}, "size_bytes": 7}
    return JobRecord(job_id=job_id, created_at=1.5, **{**fields, **values})  # type: ignore[arg-type]


async def ids(store: Store, **wanted: object) -> list[str]:
    return [one.job_id for one in await store.jobs.page(**wanted)]  # type: ignore[arg-type]


async def test_what_was_added_is_what_comes_back(store: Store):
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
        await store.jobs.add(each)
        assert await store.jobs.get(each.job_id) == each
    assert await store.jobs.get("c") is None
    assert (plain.is_final, whole.is_final) == (False, True)


async def test_pages_have_the_newest_first(store: Store):
    for name, state in zip("abcd", ("done", "waiting", "running", "waiting"), strict=True):
        await store.jobs.add(job(name, state=state))
    assert await ids(store) == ["d", "c", "b", "a"]
    assert await ids(store, limit=2, offset=1) == ["c", "b"]
    assert await ids(store, states=["waiting"]) == ["d", "b"]
    assert await ids(store, states=["waiting", "done"], limit=2) == ["d", "b"]
    assert [one.job_id for one in await store.jobs.open_jobs()] == ["b", "c", "d"]


async def test_changes_and_deletion(store: Store):
    await store.jobs.add(job("a"))
    assert await store.jobs.change("a", state="running", attempts=1, started_at=2.0)
    changed = msgspec.structs.replace(job("a"), state="running", attempts=1, started_at=2.0)
    assert await store.jobs.get("a") == changed
    assert not await store.jobs.change("b", state="running")
    assert await store.jobs.delete("a")
    assert not await store.jobs.delete("a")
    assert await ids(store) == []


async def test_what_postgresql_refuses_in_a_text_is_left_out(store: Store):
    await store.jobs.add(job("a", name="a\x00b"))
    await store.jobs.change("a", error="c\x00d")
    found = await store.jobs.get("a")
    assert found is not None
    assert "\x00" not in found.name + (found.error or "")


async def test_the_oldest_finished_ones(store: Store):
    for name, at in (("a", 30.0), ("b", 10.0), ("c", None), ("d", 20.0)):
        await store.jobs.add(job(name, finished_at=at, kept_bytes=100))
    assert [one.job_id for one in await store.jobs.finished()] == ["b", "d", "a"]
    assert [one.job_id for one in await store.jobs.finished(before=30.0)] == ["b", "d"]
    assert [one.job_id for one in await store.jobs.finished(limit=1)] == ["b"]
    assert await store.jobs.kept_bytes() == 400
    assert await store.jobs.known(["a", "x", "d"]) == {"a", "d"}


async def test_the_result_of_a_key_is_that_of_the_newest_one(store: Store):
    await store.jobs.add(job("a", state="done", cache_key="k"))
    await store.jobs.add(job("b", state="done", cache_key="k"))
    await store.jobs.add(job("c", state="failed", cache_key="k"))
    found = await store.jobs.cached("k")
    assert found is not None
    assert found.job_id == "b"
    assert await store.jobs.cached("other") is None


async def test_each_server_has_its_own(open_store: OpenStore):
    first = await open_store(options={"owner": "one"})
    second = await open_store(options={"owner": "two"})
    await first.jobs.add(job("a", state="done", cache_key="k", kept_bytes=5))
    assert await ids(second) == []
    assert await second.jobs.get("a") is None
    assert await second.jobs.cached("k") is None
    assert await second.jobs.kept_bytes() == 0
    assert await second.jobs.known(["a"]) == set()
    assert not await second.jobs.change("a", state="failed")
    assert not await second.jobs.delete("a")
    assert await ids(first) == ["a"]


async def test_a_closed_store(open_store: OpenStore):
    store = await open_store()
    await store.close()
    with pytest.raises(StoreUnavailableError):
        await store.jobs.add(job("a"))
    with pytest.raises(StoreUnavailableError):
        await store.jobs.page()
