"""What docs/files.md says is true."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import soundfile

from ser_engine import factory
from ser_engine.config import EngineConfig
from ser_engine.offline import one_call
from ser_engine.offline.listener import WarningCode
from tests.requirements import REPOSITORY
from tests.support.fake_engine import FakeEngine

PAGE = (REPOSITORY / "docs" / "files.md").read_text(encoding="utf-8")


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
    assert told == set(get_args(WarningCode))


@pytest.mark.needs("pandas")
def test_the_code_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(factory, "build_engine", lambda config: FakeEngine())
    monkeypatch.setattr(one_call, "_engines", type(one_call._engines)())
    soundfile.write("call.wav", np.full(32_000, 0.1), 16_000, subtype="FLOAT")
    names: dict[str, object] = {"paths": ["call.wav", "missing.wav"]}
    blocks = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert len(blocks) == 3
    for block in blocks:
        exec(block, names)
    first, *others = capsys.readouterr().out.splitlines()
    assert first == "angry"
    assert others[0].startswith("call.wav {'emotion': 'angry'")
    assert others[1] == "missing.wav: there is no such file"
