from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import session


def test_it_reports_every_case(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    # Tracing allocations makes sessions many times slower.
    monkeypatch.setattr(session, "_KEPT_SESSIONS", 2)
    path = tmp_path / "report.json"
    session.main(["--seconds", "2", "--runs", "1", "--json", str(path)])
    report = json.loads(path.read_text(encoding="utf-8"))
    assert len(report["rows"]) == 3
    # Of each: time, the same against a reference, and memory.
    assert len(report["summary"]) == 9
    assert all(value > 0 for value in report["summary"].values())
    assert "8 kHz mulaw stereo" in capsys.readouterr().out
