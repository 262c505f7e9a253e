"""What is said of the analysis of recordings is true."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import soundfile

from ser_engine.config import EngineConfig
from ser_engine.core import factory
from ser_engine.files import job, speakers
from ser_engine.files import run as one_call
from ser_engine.schema import FileWarningCode
from ser_engine.types import FloatArray
from tests.requirements import REPOSITORY
from tests.support.fake_engine import FakeEngine, LevelDetector

PYTHON = (REPOSITORY / "docs" / "reference" / "python.md").read_text(encoding="utf-8")
PAGE = (REPOSITORY / "docs" / "explanation" / "files.md").read_text(encoding="utf-8")


def rows(title: str) -> list[list[str]]:
    """Return the cells of the table of a section, its head left out."""
    section = PAGE.split(f"\n## {title}\n")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")][2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_the_table_of_presets():
    told = {
        name.strip("`"): (granularity, embeddings == "yes", hop or "20 ms")
        for name, granularity, embeddings, hop, _ in rows("Presets")
    }
    presets = EngineConfig().offline.presets
    assert told == {
        name: (preset.granularity, preset.embeddings, f"{preset.frame_hop_ms} ms")
        for name, preset in presets.items()
    }


def test_the_table_of_warnings():
    told = {row[0].strip("`") for row in rows("What is wrong with the audio")}
    assert told == set(get_args(FileWarningCode))


@pytest.mark.needs("pandas")
def test_the_code_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(factory, "build_engine", lambda config: FakeEngine())
    monkeypatch.setattr(one_call, "_engines", type(one_call._engines)())
    monkeypatch.setattr("ser_engine.files.job.make_detector", lambda config: LevelDetector())
    soundfile.write("call.wav", np.full(32_000, 0.1), 16_000, subtype="FLOAT")
    names: dict[str, object] = {"paths": ["call.wav", "missing.wav"]}
    section = PYTHON.split("\n## A recording\n")[1].split("\n## ")[0]
    blocks = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    assert len(blocks) == 3
    for block in blocks:
        exec(block, names)
    first, *others = capsys.readouterr().out.splitlines()
    assert first == "0 0.0 2.0 angry"
    assert others[0] == "call.wav 2.0"
    assert others[1] == "missing.wav: there is no such file"


def test_the_code_that_tells_speakers_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    class OneVoice:
        name = "one"

        def embed(self, pieces: list[FloatArray]) -> list[FloatArray]:
            return [np.array([1.0, 0.0], dtype=np.float32) for _ in pieces]

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(factory, "build_engine", lambda config: FakeEngine())
    monkeypatch.setattr(one_call, "_engines", type(one_call._engines)())
    monkeypatch.setattr(job, "embedder_for", lambda config: OneVoice())
    monkeypatch.setattr(speakers, "make_detector", lambda config: LevelDetector())
    soundfile.write("call.wav", np.full(48_000, 0.1), 16_000, subtype="FLOAT")
    section = PAGE.split("\n## Several speakers\n")[1].split("\n## ")[0]
    (block,) = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    exec(block, {})
    assert capsys.readouterr().out == "speaker 1 3.0 angry 1\n"
