from __future__ import annotations

import os
from collections.abc import Sequence
from multiprocessing import Pipe
from multiprocessing.process import BaseProcess
from pathlib import Path

import numpy as np
import pytest
import soundfile

from ser_engine.config import BatchingConfig, EngineConfig, VadConfig
from ser_engine.errors import ConfigError, EngineDeadError
from ser_engine.files import AnalysisOptions, FileAnalysis
from ser_engine.files.analyser import Answer, FileAnalyser, Wanted
from ser_engine.files.processes import OpenEngine, ProcessesAnalyser, _Child
from ser_engine.types import Window, WindowResult
from tests.support.fake_engine import FakeEngine

# A file at a time, so that a child has taken no other one when it ends.
CONFIG = EngineConfig(batching=BatchingConfig(max_batch_size=1), vad=VadConfig(detector="off"))
OPTIONS = AnalysisOptions()
LOUD = 0.9


class MortalEngine(FakeEngine):
    """Ends its process at a loud window."""

    def run(self, window: Window) -> WindowResult:
        if np.abs(window.samples).max() >= LOUD:
            os._exit(3)
        result = super().run(window)
        assert isinstance(result, WindowResult)
        return result


def open_engine(config: EngineConfig) -> FakeEngine:
    return MortalEngine()


def open_no_engine(config: EngineConfig) -> FakeEngine:
    raise ConfigError("got no such model")


def a_recording(path: Path, level: float) -> Path:
    samples = level * np.sin(np.arange(16_000) / 20)
    soundfile.write(path, samples.astype(np.float32), 16_000)
    return path


def wanted(paths: Sequence[Path]) -> list[Wanted]:
    return [Wanted(path, path.name, about=path) for path in paths]


def analyser_of(number: int, opened_by: OpenEngine = open_engine) -> ProcessesAnalyser:
    return ProcessesAnalyser(
        num_processes=number,
        open_engine=opened_by,
        info=FakeEngine().info,
        config=CONFIG,
        options=OPTIONS,
        use_cache=False,
    )


def in_processes(number: int, paths: Sequence[Path]) -> dict[Path, Answer]:
    analyser = analyser_of(number)
    answers: list[Answer] = []
    analyser.run(wanted(paths), answers.append)
    assert len(answers) == len(paths)
    return {answer.wanted.about: answer for answer in answers}


def test_several_processes_say_what_one_says(tmp_path: Path):
    paths = [a_recording(tmp_path / f"{level}.wav", level) for level in (0.1, 0.2, 0.3, 0.4)]
    paths.append(tmp_path / "missing.wav")
    one: list[Answer] = []
    FileAnalyser(FakeEngine(), CONFIG, OPTIONS, use_cache=False).run(wanted(paths), one.append)
    answers = in_processes(2, paths)
    for expected in one:
        found = answers[expected.wanted.about]
        assert found.wanted == expected.wanted
        if isinstance(expected.outcome, FileAnalysis):
            assert isinstance(found.outcome, FileAnalysis)
            assert found.outcome.document() == expected.outcome.document()
        else:
            assert str(found.outcome) == str(expected.outcome)


def test_a_process_that_ends_costs_its_file_only(tmp_path: Path):
    paths = [a_recording(tmp_path / f"{level}.wav", level) for level in (0.99, 0.1, 0.2, 0.3)]
    answers = in_processes(2, paths)
    outcomes = [answers[path].outcome for path in paths]
    assert "ended with status 3; analyse it again" in str(outcomes[0])
    assert all(isinstance(outcome, FileAnalysis) for outcome in outcomes[1:])


class Gone(BaseProcess):
    """A process that was killed."""

    exitcode = -9

    def join(self, timeout: float | None = None) -> None:
        pass

    def terminate(self) -> None:
        pass


def test_a_process_that_ends_after_it_has_asked_costs_its_file_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    ours, theirs = Pipe()
    theirs.send(None)
    theirs.close()
    monkeypatch.setattr(ProcessesAnalyser, "_start", lambda _: _Child(Gone(), ours))
    answers = in_processes(1, [tmp_path / "any.wav"])
    assert "ended with status -9" in str(answers[tmp_path / "any.wav"].outcome)


def test_files_that_no_process_is_left_for_are_named(tmp_path: Path):
    paths = [a_recording(tmp_path / f"{level}.wav", level) for level in (0.99, 0.1)]
    with pytest.raises(EngineDeadError, match=r"all 1 processes have ended, 0\.1\.wav"):
        in_processes(1, paths)


def test_what_no_file_could_have_ends_the_run(tmp_path: Path):
    analyser = analyser_of(1, open_no_engine)
    with pytest.raises(ConfigError, match="got no such model"):
        analyser.run(wanted([tmp_path / "any.wav"]), lambda answer: None)


def test_a_result_has_the_same_key_as_in_one_process():
    one = FileAnalyser(FakeEngine(), CONFIG, OPTIONS, use_cache=False)
    assert analyser_of(2).key("cd") == one.key("cd")
