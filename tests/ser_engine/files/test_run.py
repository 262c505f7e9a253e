"""Many files through one engine."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import soundfile

from ser_engine.config import EngineConfig, OfflineConfig, VadConfig
from ser_engine.errors import AudioError, EngineDeadError, WindowError
from ser_engine.files import (
    AnalysisJob,
    AnalysisOptions,
    FileAnalysis,
    Granularity,
    open_job,
    run_jobs,
)
from ser_engine.types import Window, WindowResult
from tests.ser_engine.files.jobs import RATE, Blocks, make_job, work
from tests.ser_engine.timeline.streams import make_audio
from tests.support.fake_engine import FakeEngine

CONFIG = EngineConfig(vad=VadConfig(detector="off"), offline=OfflineConfig(max_pass_s=2))


class CountingEngine(FakeEngine):
    """Notes the batches, and what it was told to forget."""

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[list[Window]] = []
        self.forgotten: list[str] = []

    def step(self, windows: Sequence[Window]) -> list[WindowResult | WindowError]:
        self.batches.append(list(windows))
        return super().step(windows)

    def forget(self, stream_key: str) -> None:
        self.forgotten.append(stream_key)


class OpenFile(Blocks):
    """Counts how many are open."""

    num_open = most_open = 0

    def __init__(self, seconds: float, level: float) -> None:
        super().__init__([make_audio((round(seconds * RATE), level))[None]])
        OpenFile.num_open += 1
        OpenFile.most_open = max(OpenFile.most_open, OpenFile.num_open)

    def __enter__(self) -> OpenFile:
        return self

    def __exit__(self, *_: object) -> None:
        OpenFile.num_open -= 1


@pytest.fixture(autouse=True)
def nothing_stays_open() -> Iterator[None]:
    OpenFile.num_open = OpenFile.most_open = 0
    yield
    assert OpenFile.num_open == 0


def files(count: int, granularity: Granularity = "utterance") -> Iterator[AnalysisJob]:
    for number in range(count):
        file = OpenFile(3 + number % 3, 0.1 + number % 3 * 0.1)
        yield make_job(file, AnalysisOptions(granularity), CONFIG, name=str(number))


@pytest.mark.parametrize("granularity", ["utterance", "frame", "stream"])
def test_every_file_has_the_result_it_has_alone(granularity: Granularity):
    found = dict(run_jobs(CountingEngine(), files(7, granularity), max_batch=3))
    assert sorted(job.name for job in found) == [str(number) for number in range(7)]
    alone = {job.name: work(job) for job in files(7, granularity)}
    OpenFile.num_open -= 7
    for job, analysis in found.items():
        assert isinstance(analysis, FileAnalysis)
        expected = alone[job.name].to_json()
        assert analysis.to_json() == expected


def test_a_batch_holds_windows_of_several_files_and_few_are_open():
    engine = CountingEngine()
    assert len(list(run_jobs(engine, files(20, "stream"), max_batch=4))) == 20
    assert max(map(len, engine.batches)) == 4
    keys = [{window.stream_key for window in batch} - {None} for batch in engine.batches]
    assert max(map(len, keys)) >= 3
    assert OpenFile.most_open == 4
    assert len(engine.forgotten) == 20


def test_a_batch_is_bounded_by_its_audio():
    engine = CountingEngine()
    list(run_jobs(engine, files(6), max_batch=100, max_batch_s=5))
    lengths = [sum(len(window.samples) for window in batch) / RATE for batch in engine.batches]
    # The last window of a batch may go beyond.
    assert max(lengths) < 5 + 2
    assert min(lengths[:-1]) >= 5


@pytest.mark.parametrize("granularity", ["utterance", "frame"])
def test_an_error_ends_its_own_file_only(granularity: Granularity):
    engine = CountingEngine()
    # Files 1, 4 have this level; only their windows fail.
    engine.fail_when = lambda window: bool(0.15 < np.abs(window.samples).mean() < 0.25)
    found = {
        job.name: outcome for job, outcome in run_jobs(engine, files(6, granularity), max_batch=3)
    }
    assert [isinstance(found[str(number)], WindowError) for number in range(6)] == [
        number in (1, 4) for number in range(6)
    ]
    assert str(found["4"]).startswith("4: got a window")


def test_files_that_cannot_be_opened_are_found_among_the_others(tmp_path: Path):
    soundfile.write(tmp_path / "good.wav", make_audio((RATE, 0.1)), RATE)
    (tmp_path / "text.wav").write_text("no audio")
    names = ["missing.wav", "good.wav", "text.wav"]
    info = FakeEngine().info
    jobs = (open_job(tmp_path / name, info, CONFIG, AnalysisOptions(), name=name) for name in names)
    found = {job.name: outcome for job, outcome in run_jobs(FakeEngine(), jobs, max_batch=2)}
    assert isinstance(found["good.wav"], FileAnalysis)
    assert found["good.wav"].name == "good.wav"
    assert isinstance(found["missing.wav"], AudioError)
    assert "there is no such file" in str(found["missing.wav"])
    assert isinstance(found["text.wav"], AudioError)


def test_progress_is_told():
    told: dict[str, list[float]] = {}
    jobs = files(5)
    list(
        run_jobs(
            FakeEngine(),
            jobs,
            max_batch=2,
            on_progress=lambda job: told.setdefault(job.name, []).append(job.progress),
        )
    )
    assert sorted(told) == [str(number) for number in range(5)]
    for steps in told.values():
        assert steps == sorted(steps)
        assert steps[-1] == 1


def test_a_dead_engine_ends_everything_and_leaves_the_files():
    class DeadEngine(FakeEngine):
        def step(self, windows: Sequence[Window]) -> list[WindowResult | WindowError]:
            raise EngineDeadError("gone")

    with pytest.raises(EngineDeadError):
        list(run_jobs(DeadEngine(), files(5), max_batch=2))


def test_whoever_stops_early_leaves_the_files():
    running = run_jobs(FakeEngine(), files(9), max_batch=3)
    next(running)
    assert OpenFile.num_open > 0
    running.close()  # type: ignore[attr-defined]


def test_without_files_there_is_nothing():
    assert list(run_jobs(FakeEngine(), [], max_batch=2)) == []
