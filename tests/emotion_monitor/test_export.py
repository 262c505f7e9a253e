from __future__ import annotations

from pathlib import Path

import pytest

from emotion_monitor import main


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as caught:
        main([*map(str, arguments)])
    return int(caught.value.code or 0)


def test_a_folder_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("export", tmp_path / "nowhere" / "model.onnx") == 2
    assert "there is no folder" in capsys.readouterr().err


def test_a_model_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("export", tmp_path / "model.onnx", "--model", tmp_path / "nowhere") == 1
    assert "which is no folder on this machine" in capsys.readouterr().err
    assert not (tmp_path / "model.onnx").exists()
