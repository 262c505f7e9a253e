"""Jobs through their life, on a virtual clock; what analyses them is a fake that waits."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from dashboard.backend import Analysed, AnalysisRequest
from dashboard.config import AnalyseConfig
from dashboard.errors import ApiError
from dashboard.jobs import Jobs
from dashboard.jobs.rows import MemoryRows
from dashboard.jobs.spool import MAX_ATTEMPTS
from stream_server.store import JobRecord, StoreUnavailableError
from tests.support.dashboard_lab import FakeAnalyse
from tests.support.virtual_time import current_loop, virtual_time

OPTIONS = {
    "granularity": "frame",
    "frame_hop_ms": 20,
    "embeddings": False,
    "speakers": False,
    "preset": "",
}


class Rows(MemoryRows):
    """Rows of a store that can be away, and that counts changes."""

    def __init__(self) -> None:
        super().__init__()
        self.is_away = False
        self.changes: list[dict[str, Any]] = []

    async def add(self, *records: JobRecord) -> None:
        if self.is_away:
            raise StoreUnavailableError("away")
        await super().add(*records)

    async def change(self, job_id: str, **values: Any) -> bool:
        if self.is_away:
            raise StoreUnavailableError("away")
        self.changes.append(values)
        return await super().change(job_id, **values)


class Lab:
    """One folder and its rows, which outlive the jobs."""

    def __init__(self, root: Path | None, **limits: Any) -> None:
        self.root = root
        self.rows = Rows()
        self.analyse = FakeAnalyse()
        self.config = AnalyseConfig(**limits)
        self.retention_s = 0.0
        self.is_ready = True
        self.clock_error_s = 0.0

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Jobs]:
        """Jobs until they are stopped as a server stops them."""
        jobs = Jobs(
            analyse=self.analyse,
            config=self.config,
            root=self.root,
            rows_of=lambda _: self.rows,
            retention_s=self.retention_s,
            is_ready=lambda: self.is_ready,
            now=lambda: current_loop().time() + self.clock_error_s,
        )
        with current_loop().frozen():
            await jobs.open()
        task = asyncio.create_task(jobs.run())
        try:
            yield jobs
        finally:
            with current_loop().frozen():
                task.cancel()
                await asyncio.wait([task])

    async def add(self, jobs: Jobs, *contents: bytes, name: str = "a.wav") -> list[JobRecord]:
        added = []
        for content in contents:
            with jobs.place() as place:
                place.grow(len(content))
                place.path.write_bytes(content)
                added += await jobs.add([(place, name, OPTIONS)])
        return added

    def files(self) -> list[str]:
        """What is in the folder, its own two files aside."""
        assert self.root is not None
        # Unlike rglob, walk does not mind what is deleted meanwhile.
        found = [Path(folder, name) for folder, _, names in os.walk(self.root) for name in names]
        return sorted(str(path.relative_to(self.root)) for path in found if path.name[0] != ".")


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path / "jobs")


async def until(condition: Callable[[], bool]) -> None:
    """Let threads work while the clock stands still."""
    with current_loop().frozen():
        while not condition():  # noqa: ASYNC110 - no event tells of it
            await asyncio.sleep(0)


async def settled(jobs: Jobs, record: JobRecord) -> JobRecord:
    with current_loop().frozen():
        while True:
            found = await jobs.get(record.job_id)
            assert found is not None
            if found.is_final and jobs.counts == (0, 0):
                return found
            await asyncio.sleep(0)


@virtual_time
async def test_a_job_runs_and_its_result_is_on_disk(lab: Lab):
    lab.analyse.gate.set()
    async with lab.running() as jobs:
        (job,) = await lab.add(jobs, b"audio")
        done = await settled(jobs, job)
        assert (done.state, done.progress, done.attempts) == ("done", 1.0, 1)
        assert done.duration_s == 0.08
        assert done.folder == f"1970-01-01/{job.job_id}"
        assert done.kept_bytes > 100
        assert [Path(name).name for name in lab.files()] == [
            *("embedding.npy", "log.txt", "result.csv", "result.json", "view.json")
        ]


@virtual_time
async def test_a_job_ends_after_it_began_though_the_clock_was_set_back(lab: Lab):
    lab.clock_error_s = 1e9
    async with lab.running() as jobs:
        (job,) = await lab.add(jobs, b"audio")
        await until(lambda: lab.analyse.running == 1)
        lab.clock_error_s = 0.0
        await asyncio.sleep(5)
        lab.analyse.gate.set()
        done = await settled(jobs, job)
        assert done.started_at is not None and done.finished_at is not None
        assert done.created_at <= done.started_at
        assert done.finished_at - done.started_at == pytest.approx(5, abs=0.5)


@virtual_time
async def test_progress_is_stored_once_a_second_at_most(lab: Lab):
    async with lab.running() as jobs:
        (job,) = await lab.add(jobs, b"audio")
        await until(lambda: lab.analyse.running == 1)
        view = await jobs.get(job.job_id)
        assert view is not None
        assert view.progress == 0.5
        await asyncio.sleep(30.5)
        told = [values for values in lab.rows.changes if "progress" in values]
        assert told == [{"progress": 0.5}]


@virtual_time
async def test_a_job_that_is_cancelled_while_it_waits_or_runs(lab: Lab):
    async with lab.running() as jobs:
        running, waiting = await lab.add(jobs, b"a", b"b")
        await until(lambda: lab.analyse.running == 1)
        with current_loop().frozen():
            for job in (waiting, running):
                found = await jobs.cancel(job.job_id)
                assert found is not None
                assert (found.state, found.folder) == ("cancelled", None)
                assert await lab.rows.get(job.job_id) == found
            again = await jobs.cancel(running.job_id)
            assert again == await jobs.get(running.job_id)
        assert lab.analyse.cancelled == 1
        assert lab.files() == []
        assert await jobs.cancel("nobody") is None


@virtual_time
async def test_nothing_is_left_of_a_job_that_is_deleted(lab: Lab):
    async with lab.running() as jobs:
        running, waiting = await lab.add(jobs, b"a", b"b")
        await until(lambda: lab.analyse.running == 1)
        with current_loop().frozen():
            assert await jobs.delete(running.job_id)
            assert await jobs.delete(waiting.job_id)
            lab.analyse.gate.set()
            (done,) = await lab.add(jobs, b"c")
            await settled(jobs, done)
            assert await jobs.delete(done.job_id)
            assert not await jobs.delete(done.job_id)
        assert lab.files() == []
        assert await jobs.page(states=None, limit=10, offset=0) == []


@virtual_time
async def test_those_that_wait_and_the_one_that_runs_go_on_after_a_stop(lab: Lab):
    async with lab.running() as jobs:
        added = await lab.add(jobs, b"a", b"b")
        await until(lambda: lab.analyse.running == 1)
    assert [row.state for row in await lab.rows.open_jobs()] == ["waiting", "waiting"]
    assert [row.attempts for row in await lab.rows.open_jobs()] == [0, 0], "not the file's fault"
    lab.analyse.gate.set()
    async with lab.running() as jobs:
        for job in added:
            assert (await settled(jobs, job)).state == "done"
    assert lab.analyse.seen == [b"a", b"a", b"b"]


@virtual_time
async def test_a_file_that_ends_the_server_each_time_is_given_up(lab: Lab):
    async with lab.running() as jobs:
        poison, innocent = await lab.add(jobs, b"poison", b"innocent")
    lab.analyse.gate.set()
    # As a server that was killed leaves it.
    await lab.rows.change(poison.job_id, state="running", attempts=MAX_ATTEMPTS - 1)
    async with lab.running() as jobs:
        await settled(jobs, poison)
    assert lab.analyse.seen == [b"innocent", b"poison"], "it goes last"
    record = await lab.rows.get(poison.job_id)
    assert record is not None
    assert record.attempts == MAX_ATTEMPTS

    async with lab.running() as jobs:
        (other,) = await lab.add(jobs, b"poison too")
        await settled(jobs, other)
    await lab.rows.change(
        other.job_id, state="running", attempts=MAX_ATTEMPTS, finished_at=None, folder=None
    )
    (lab.root or Path()).joinpath("uploads", other.job_id).write_bytes(b"poison too")
    async with lab.running() as jobs:
        found = await jobs.get(other.job_id)
        assert found is not None
        assert (found.state, found.error_code) == ("failed", "too_many_attempts")
        assert "the server ended 3 times" in (found.error or "")
    assert lab.files() == [name for name in lab.files() if other.job_id not in name]
    assert innocent.job_id


@virtual_time
async def test_what_a_server_that_was_killed_left_is_cleaned_up(lab: Lab):
    lab.analyse.gate.set()
    async with lab.running() as jobs:
        (job,) = await lab.add(jobs, b"a")
        kept = await settled(jobs, job)
    root = lab.root
    assert root is not None
    half_sent, lost_row = root / "uploads" / ("x" * 16), root / "1970-01-01" / ("y" * 16)
    half_sent.write_bytes(b"x")
    lost_row.mkdir()
    (lost_row / "result.json").write_bytes(b"{}")
    gone = JobRecord(
        job_id="z" * 16, name="gone.wav", options=OPTIONS, size_bytes=1, created_at=0.0
    )
    await lab.rows.add(gone)
    async with lab.running() as jobs:
        found = await jobs.get(gone.job_id)
        assert found is not None
        assert (found.state, found.error_code) == ("failed", "file_lost")
    assert not half_sent.exists()
    assert not lost_row.exists()
    assert kept.folder is not None
    assert {str(Path(name).parent) for name in lab.files()} == {kept.folder}


@virtual_time
async def test_the_same_bytes_again_are_not_analysed_again(lab: Lab):
    lab.analyse.gate.set()
    async with lab.running() as jobs:
        (first,) = await lab.add(jobs, b"same", name="first.wav")
        one = await settled(jobs, first)
        (second,) = await lab.add(jobs, b"same", name="第二.wav")
        two = await settled(jobs, second)
        assert lab.analyse.seen == [b"same"]
        assert (two.state, two.duration_s, two.summary) == ("done", one.duration_s, one.summary)
        assert two.folder != one.folder
        for record in (one, two):
            folder = jobs.folder(record)
            assert folder is not None
            for name in ("result.json", "view.json"):
                assert f'{{"name":"{record.name}","'.encode() in (folder / name).read_bytes()
        # Deleted, it no longer helps.
        with current_loop().frozen():
            await jobs.delete(first.job_id)
            await jobs.delete(second.job_id)
        (third,) = await lab.add(jobs, b"same")
        await settled(jobs, third)
        assert lab.analyse.seen == [b"same", b"same"]


@virtual_time
async def test_results_expire(lab: Lab):
    lab.analyse.gate.set()
    lab.retention_s = 3600
    async with lab.running() as jobs:
        (job,) = await lab.add(jobs, b"a")
        await settled(jobs, job)
        with current_loop().frozen():
            assert await jobs.expire() == 0
        await asyncio.sleep(3000)
        assert await lab.rows.get(job.job_id) is not None
        await asyncio.sleep(1300)
        await until(lambda: not lab.files())
        assert await jobs.get(job.job_id) is None


@virtual_time
async def test_a_job_that_waits_does_not_expire(lab: Lab):
    lab.retention_s = 60
    async with lab.running() as jobs:
        running, waiting = await lab.add(jobs, b"a", b"b")
        await until(lambda: lab.analyse.running == 1)
        await asyncio.sleep(10_000)
        assert [row.job_id for row in await lab.rows.open_jobs()] == [
            running.job_id,
            waiting.job_id,
        ]


@virtual_time
async def test_what_waits_at_a_start_waits_for_the_model(lab: Lab):
    async with lab.running() as jobs:
        (job,) = await lab.add(jobs, b"a")
    lab.is_ready = False
    lab.analyse.gate.set()
    async with lab.running() as jobs:
        await asyncio.sleep(100)
        assert jobs.counts == (1, 0)
        lab.is_ready = True
        await asyncio.sleep(0.5)
        assert (await settled(jobs, job)).state == "done"


class LargeAnalyse(FakeAnalyse):
    """Gives results of 5 MB."""

    async def __call__(
        self, request: AnalysisRequest, progress: Callable[[float], None]
    ) -> Analysed:
        analysed = await super().__call__(request, progress)
        (request.folder / "audio.flac").write_bytes(bytes(5 << 20))
        return analysed


@virtual_time
async def test_the_oldest_results_go_when_they_take_too_much_disk(tmp_path: Path):
    lab = Lab(tmp_path / "jobs", max_kept_mb=16)
    lab.analyse = LargeAnalyse()
    lab.analyse.gate.set()
    async with lab.running() as jobs:
        added = await lab.add(jobs, *(b"%d" % number for number in range(5)))
        await settled(jobs, added[-1])
        await until(lambda: len(lab.rows._rows) == 3)
        await until(lambda: sum(name.endswith(".flac") for name in lab.files()) == 3)
        kept = [await jobs.get(job.job_id) is not None for job in added]
        assert kept == [False, False, True, True, True]


@virtual_time
async def test_a_store_that_is_away_loses_nothing(lab: Lab):
    async with lab.running() as jobs:
        (job,) = await lab.add(jobs, b"a")
        await until(lambda: lab.analyse.running == 1)
        lab.rows.is_away = True
        lab.analyse.gate.set()
        with pytest.raises(StoreUnavailableError):
            await lab.add(jobs, b"b")
        assert [name for name in lab.files() if name.startswith("uploads")] == [
            f"uploads/{job.job_id}"
        ]
        await asyncio.sleep(60)
        assert jobs.counts == (0, 1)
        lab.rows.is_away = False
        await asyncio.sleep(11)
        assert (await settled(jobs, job)).state == "done"
        stored = await lab.rows.get(job.job_id)
        assert stored is not None
        assert stored.state == "done"


@virtual_time
async def test_a_burst_waits_and_what_is_beyond_is_refused(tmp_path: Path):
    lab = Lab(tmp_path / "jobs", max_waiting=20, max_running=2)
    async with lab.running() as jobs:
        added = await lab.add(jobs, *(b"%d" % number for number in range(2)))
        await until(lambda: lab.analyse.running == 2)
        added += await lab.add(jobs, *(b"%d" % number for number in range(2, 22)))
        with pytest.raises(ApiError) as caught:
            await lab.add(jobs, b"one too many")
        assert (caught.value.status, caught.value.retry_after_s) == (503, 5.0)
        assert len(lab.files()) == 22
        lab.analyse.gate.set()
        for job in added:
            assert (await settled(jobs, job)).state == "done"
        assert lab.analyse.most == 2


@virtual_time
async def test_without_a_store_all_goes_with_the_server():
    lab = Lab(None)
    lab.analyse.gate.set()
    async with lab.running() as jobs:
        (job,) = await lab.add(jobs, b"a")
        folder = jobs.folder(await settled(jobs, job))
        assert folder is not None
        assert (folder / "result.json").exists()
    assert not folder.parent.exists()


@virtual_time
async def test_whoever_leaves_while_it_is_noted_has_sent_it_all_the_same(lab: Lab):
    async with lab.running() as jobs:
        with jobs.place() as place:
            place.grow(1)
            place.path.write_bytes(b"x")
            adding = asyncio.create_task(jobs.add([(place, "a.wav", OPTIONS)]))
            await asyncio.sleep(0)
            adding.cancel()
            await asyncio.wait([adding])
        await until(lambda: lab.analyse.running == 1)
        assert len(await lab.rows.open_jobs()) == 1
