"""Results are kept for a while, and within bounds."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np

from dashboard.config import AnalyseConfig
from dashboard.jobs import Job, Jobs
from ser_engine.offline import FileAnalysis, FrameResult
from tests.support.dashboard_lab import FakeAnalyse, make_analysis
from tests.support.virtual_time import virtual_time


@asynccontextmanager
async def running(config: AnalyseConfig, analyse: FakeAnalyse) -> AsyncIterator[Jobs]:
    jobs = Jobs(analyse, config)
    task = asyncio.create_task(jobs.run())
    try:
        yield jobs
    finally:
        task.cancel()
        await asyncio.wait([task])


def add(jobs: Jobs) -> Job:
    with jobs.place() as path:
        path.write_bytes(b"x")
        return jobs.add(path, "a.wav", "frame")


async def until_settled(*jobs: Job) -> None:
    while any(job.state in ("waiting", "running") for job in jobs):  # noqa: ASYNC110
        await asyncio.sleep(0)


@virtual_time
async def test_a_result_expires():
    analyse = FakeAnalyse()
    analyse.gate.set()
    async with running(AnalyseConfig(keep_s=60), analyse) as jobs:
        job = add(jobs)
        await until_settled(job)
        await asyncio.sleep(59)
        assert jobs.get(job.job_id) is job
        await asyncio.sleep(1)
        assert jobs.get(job.job_id) is None


@virtual_time
async def test_a_job_that_works_does_not_expire():
    analyse = FakeAnalyse()
    async with running(AnalyseConfig(keep_s=60), analyse) as jobs:
        job, waiting = add(jobs), add(jobs)
        await asyncio.sleep(1000)
        assert (job.state, waiting.state) == ("running", "waiting")


class LargeAnalyse(FakeAnalyse):
    """Gives results of 10 MB."""

    async def __call__(self, path: Path, *_: object) -> FileAnalysis:
        analysis = make_analysis("frame")
        (channel, _second) = analysis.channels
        assert isinstance(channel.result, FrameResult)
        large = replace(channel.result, embeddings=np.zeros((10_000, 250), dtype=np.float32))
        return replace(analysis, channels=(replace(channel, result=large),))


async def test_the_oldest_results_go_when_there_are_too_many():
    async with running(AnalyseConfig(max_kept_mb=32), LargeAnalyse()) as jobs:
        all_jobs = [add(jobs) for _ in range(6)]
        await until_settled(*all_jobs)
        kept = [jobs.get(job.job_id) is not None for job in all_jobs]
        assert kept == [False, False, False, True, True, True]


async def test_a_result_that_is_too_large_by_itself_can_be_had_all_the_same():
    async with running(AnalyseConfig(max_kept_mb=16), LargeAnalyse()) as jobs:
        first, second = add(jobs), add(jobs)
        await until_settled(first, second)
        assert jobs.get(first.job_id) is None
        assert jobs.get(second.job_id) is second
