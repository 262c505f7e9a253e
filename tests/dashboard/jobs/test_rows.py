"""Rows in memory do what those in a store do; the same as in ``test_job_table``."""

from __future__ import annotations

from dashboard.jobs.rows import MemoryRows
from stream_server.store import JobRecord


def job(job_id: str, **values: object) -> JobRecord:
    fields = {"name": "a.wav", "options": {}, "size_bytes": 7, "created_at": 1.0}
    return JobRecord(job_id=job_id, **{**fields, **values})  # type: ignore[arg-type]


def ids(records: list[JobRecord]) -> list[str]:
    return [one.job_id for one in records]


async def test_pages_changes_and_deletion():
    rows = MemoryRows()
    states = ("done", "waiting", "running", "waiting")
    await rows.add(*(job(name, state=state) for name, state in zip("abcd", states, strict=True)))
    assert ids(await rows.page()) == ["d", "c", "b", "a"]
    assert ids(await rows.page(limit=2, offset=1)) == ["c", "b"]
    assert ids(await rows.page(states=["waiting"])) == ["d", "b"]
    assert ids(await rows.open_jobs()) == ["b", "c", "d"]
    assert await rows.change("b", state="running", attempts=1)
    assert not await rows.change("x", state="running")
    assert await rows.get("b") == job("b", state="running", attempts=1)
    assert await rows.delete("b")
    assert not await rows.delete("b")
    assert await rows.get("b") is None


async def test_the_oldest_finished_ones_and_what_they_take():
    rows = MemoryRows()
    for name, at in (("a", 30.0), ("b", 10.0), ("c", None), ("d", 20.0)):
        state = "done" if at else "running"
        await rows.add(job(name, finished_at=at, kept_bytes=100, state=state, cache_key="k"))
    assert ids(await rows.finished()) == ["b", "d", "a"]
    assert ids(await rows.finished(before=30.0, limit=1)) == ["b"]
    assert await rows.usage() == (3, 400)
    assert await rows.known(["a", "x"]) == {"a"}
    found = await rows.cached("k")
    assert found is not None
    assert found.job_id == "d"
    assert await rows.cached("other") is None
