"""Files analysed with the engines of a running server."""

from __future__ import annotations

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import soundfile

from dashboard.backend import AnalysisError, AnalysisRequest
from dashboard.config import AnalyseConfig
from dashboard.jobs import analyser as dashboard_analysis
from dashboard.jobs.analyser import PoolAnalyser
from ser_engine.core.queue import Priority
from ser_engine.errors import EngineDeadError, WindowError
from ser_engine.files import (
    AnalysisOptions,
    FileAnalysis,
    FrameResult,
    Granularity,
    StreamResult,
    UtteranceResult,
    analyze_file,
    file_sha256,
)
from ser_engine.files.shared_engine import MAX_IN_FLIGHT
from ser_engine.types import Window
from tests.ser_engine.files.jobs import plain
from tests.support.fake_engine import FakeEngine, square
from tests.support.live_lab import ENGINE_CONFIG, LabEngine, level

GRANULARITIES: tuple[Granularity, ...] = ("utterance", "frame", "stream")


@pytest.fixture
def call(tmp_path: Path) -> Path:
    """Two channels: one angry then happy, the other neutral; 12 s."""
    left = np.concatenate([level(6, 0.1), level(6, 0.2)])
    path = tmp_path / "call.wav"
    soundfile.write(path, np.stack([left, level(12, 0.3)], axis=1), 16_000, subtype="FLOAT")
    return path


async def analyse(
    path: Path,
    granularity: Granularity = "utterance",
    engine: LabEngine | None = None,
    config: AnalyseConfig | None = None,
) -> FileAnalysis:
    engines = engine or LabEngine()
    analyser = PoolAnalyser(engines, config or AnalyseConfig(max_pass_s=30))
    options = AnalysisOptions(granularity, embeddings=True)
    with engines.acquire() as lent:
        return await analyser.analyse(lent, path, options, lambda progress: None)


@pytest.mark.parametrize("granularity", GRANULARITIES)
async def test_results_are_those_of_the_command_line(call: Path, granularity: Granularity):
    analysis = await analyse(call, granularity)
    expected = analyze_file(
        FakeEngine(), call, granularity, ENGINE_CONFIG, embeddings=granularity == "frame"
    )
    found = [plain(channel.result) for channel in analysis.channels]
    assert found == list(map(plain, expected))
    assert (analysis.duration_s, analysis.rate_hz) == (12.0, 16_000)
    assert analysis.model.notice == "A fake model."


async def test_frames_come_with_what_the_whole_is(call: Path):
    (left, right) = (await analyse(call, "frame")).channels
    (whole, _) = (await analyse(call, "utterance")).channels
    assert isinstance(left.result, FrameResult)
    assert isinstance(whole.result, UtteranceResult)
    assert left.overall is not None
    assert right.overall is not None
    assert right.overall.label == "neutral"
    assert left.overall.posteriors == pytest.approx(whole.result.posteriors, abs=1e-6)
    assert left.overall.embedding == pytest.approx(whole.result.embedding, abs=1e-6)
    assert left.overall.level_dbfs == pytest.approx(whole.result.level_dbfs, abs=1e-6)


async def test_live_streams_go_first(call: Path):
    """Every window says so; passes are no longer than a live stream may have to wait."""
    engine = LabEngine()
    await analyse(call, "utterance", engine, AnalyseConfig(max_pass_s=3))
    assert set(engine.priorities) == {Priority.OFFLINE}
    assert max(len(window.samples) for window in engine.core.windows) <= 3 * 16_000


async def test_the_engine_is_given_back_and_forgets(call: Path):
    engine = LabEngine()
    await analyse(call, "stream", engine)
    assert engine.released == 1
    assert len(engine.forgotten) == 2


async def test_progress_grows(call: Path):
    told: list[float] = []
    engine = LabEngine()
    analyser = PoolAnalyser(engine, AnalyseConfig())
    with engine.acquire() as lent:
        await analyser.analyse(lent, call, AnalysisOptions("stream"), told.append)
    assert told == sorted(told)
    assert 0 < told[-1] < 1


async def test_quality_is_told_of(tmp_path: Path):
    path = tmp_path / "a.wav"
    soundfile.write(path, np.zeros(8000), 16_000)
    (channel,) = (await analyse(path)).channels
    assert [warning.code for warning in channel.warnings] == ["silent", "short"]
    soundfile.write(path, square(32_000, 1.0), 16_000)
    (channel,) = (await analyse(path)).channels
    assert "clipping" in [warning.code for warning in channel.warnings]


@pytest.mark.parametrize("content", [b"", b"hello", b"RIFF", b"\x1aE\xdf\xa3 webm"])
async def test_what_is_no_audio_is_said_so_without_a_path(tmp_path: Path, content: bytes):
    path = tmp_path / "upload"
    path.write_bytes(content)
    with pytest.raises(AnalysisError) as caught:
        await analyse(path)
    assert str(tmp_path) not in str(caught.value)
    assert str(caught.value)


async def test_a_recording_that_is_too_short_or_too_long(tmp_path: Path, call: Path):
    path = tmp_path / "short.wav"
    soundfile.write(path, np.zeros(100), 16_000)
    with pytest.raises(AnalysisError, match=r"^got 100 samples"):
        await analyse(path)
    with pytest.raises(AnalysisError, match="got 12 s of audio or more, expected 5 s or less"):
        await analyse(call, config=AnalyseConfig(max_duration_s=5))


async def test_a_window_that_fails_fails_the_file_but_is_a_gap_in_a_stream(call: Path):
    engine = LabEngine()
    engine.core.fail_when = lambda window: window.start_sample >= 16_000
    with pytest.raises(AnalysisError):
        await analyse(call, engine=engine, config=AnalyseConfig(max_pass_s=2))
    (left, _) = (await analyse(call, "stream", engine)).channels
    assert isinstance(left.result, StreamResult)
    assert "error" in {gap.reason for gap in left.result.gaps}


async def test_an_engine_that_is_lost_ends_it(call: Path, tmp_path: Path):
    engine = LabEngine()
    engine.fails = EngineDeadError("gone")
    with pytest.raises(AnalysisError, match="the engine was lost: gone"):
        await analyse(call, engine=engine)
    engine.is_alive = False
    with pytest.raises(AnalysisError, match="got no engine"):
        PoolAnalyser(engine, AnalyseConfig()).key(request_of(call, tmp_path / "out"))


class StuckEngine(LabEngine):
    """Never answers."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = asyncio.Event()

    async def score(self, window: Window, priority: Priority = Priority.LIVE):
        self.asked.set()
        await asyncio.Event().wait()
        raise WindowError("not reached")


class HoldingEngine(LabEngine):
    """Holds its answers back until a test lets them go."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = asyncio.Event()
        self.asked = asyncio.Event()
        self.in_flight = self.most_in_flight = 0

    async def score(self, window: Window, priority: Priority = Priority.LIVE):
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        self.asked.set()
        try:
            await self.gate.wait()
            return await super().score(window, priority)
        finally:
            self.in_flight -= 1


async def test_few_windows_are_in_flight_and_no_thread_waits_for_them(call: Path):
    """The only thread there is has time for others while the engine holds its answers."""
    engine = HoldingEngine()
    with ThreadPoolExecutor(max_workers=1) as one_thread:
        asyncio.get_running_loop().set_default_executor(one_thread)
        task = asyncio.create_task(analyse(call, engine=engine, config=AnalyseConfig(max_pass_s=1)))
        await engine.asked.wait()
        async with asyncio.timeout(10):
            assert await asyncio.to_thread(lambda: 1) == 1
        engine.gate.set()
        analysis = await task
    assert engine.most_in_flight == MAX_IN_FLIGHT
    assert len(analysis.channels[0].pieces) > MAX_IN_FLIGHT


async def test_a_file_that_is_stopped_is_left_and_its_windows_withdrawn(call: Path):
    engine = HoldingEngine()
    task = asyncio.create_task(analyse(call, engine=engine))
    await engine.asked.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert engine.in_flight == 0
    assert engine.released == 1


async def test_it_can_be_stopped_while_it_waits_for_the_engine(call: Path):
    engine = StuckEngine()
    task = asyncio.create_task(analyse(call, engine=engine))
    await engine.asked.wait()
    task.cancel()
    async with asyncio.timeout(10):
        with pytest.raises(asyncio.CancelledError):
            await task
    assert engine.released == 1


def request_of(call: Path, folder: Path, **options: object) -> AnalysisRequest:
    folder.mkdir()
    given = {"granularity": "frame", "frame_hop_ms": 20, "embeddings": True, "speakers": False}
    return AnalysisRequest(call, "call.wav", given | options, folder, file_sha256(call))


async def test_a_result_is_written_as_files(call: Path, tmp_path: Path):
    analyser = PoolAnalyser(LabEngine(), AnalyseConfig(keep_audio=True))
    request = request_of(call, tmp_path / "out")
    analysed = await analyser(request, lambda progress: None)
    assert analysed.duration_s == 12.0
    assert analysed.cache_key == analyser.key(request)
    assert [one["label"] for one in analysed.summary["channels"]][1] == "neutral"
    names = sorted(path.name for path in request.folder.iterdir())
    assert names == [
        *("audio.flac", "embedding.npy", "log.txt", "result.csv", "result.json", "view.json")
    ]
    document = json.loads((request.folder / "result.json").read_bytes())
    assert (document["name"], document["has_embedding"]) == ("call.wav", True)
    assert len(document["channels"][0]["frames"]["labels"]) == 599
    log = (request.folder / "log.txt").read_text()
    assert str(tmp_path) not in log
    assert "took call.wav" in log


async def test_the_key_tells_what_makes_a_difference(call: Path, tmp_path: Path):
    analyser = PoolAnalyser(LabEngine(), AnalyseConfig())
    differing: list[dict[str, object]] = [
        {},
        {"embeddings": False},
        {"frame_hop_ms": 10},
        {"granularity": "utterance"},
    ]
    keys = {
        analyser.key(request_of(call, tmp_path / str(number), **options))
        for number, options in enumerate(differing)
    }
    assert len(keys) == 4
    other = PoolAnalyser(LabEngine(), AnalyseConfig(max_pass_s=2))
    assert other.key(request_of(call, tmp_path / "x")) not in keys


async def test_a_result_that_would_take_too_much_memory_is_refused(
    call: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(dashboard_analysis, "_MAX_RESULT_BYTES", 10_000)
    analyser = PoolAnalyser(LabEngine(), AnalyseConfig())
    request = request_of(call, tmp_path / "out")
    with pytest.raises(AnalysisError, match="ask for embeddings=false, or granularity=utterance"):
        await analyser(request, lambda progress: None)
    whole = request_of(call, tmp_path / "whole", granularity="utterance")
    assert (await analyser(whole, lambda progress: None)).duration_s == 12.0
