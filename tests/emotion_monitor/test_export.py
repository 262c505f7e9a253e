from __future__ import annotations

from pathlib import Path

import pytest

from emotion_monitor import main


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as caught:
        main([*map(str, arguments)])
    return int(caught.value.code or 0)


@pytest.mark.needs("onnx", "onnxruntime")
def test_a_model_becomes_one_file(
    tiny_checkpoint_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import onnxruntime

    target = tmp_path / "model.onnx"
    models_dir = f"ser_engine.model.models_dir={tmp_path / 'models'}"

    assert run("--set", models_dir, "export", target, "--model", tiny_checkpoint_dir) == 0

    captured = capsys.readouterr()
    assert captured.out.splitlines()[-1] == str(target)
    assert "model: emotion2vec_tiny" in captured.err
    session = onnxruntime.InferenceSession(target, providers=["CPUExecutionProvider"])
    assert [output.name for output in session.get_outputs()] == ["embeddings", "logits"]


def test_a_folder_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("export", tmp_path / "nowhere" / "model.onnx") == 2
    assert "there is no folder" in capsys.readouterr().err


def test_a_model_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("export", tmp_path / "model.onnx", "--model", tmp_path / "nowhere") == 1
    assert "which is no folder on this machine" in capsys.readouterr().err
    assert not (tmp_path / "model.onnx").exists()
