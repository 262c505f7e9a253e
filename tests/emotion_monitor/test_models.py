from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.random_checkpoint import write_random_checkpoint
from emotion_monitor import main
from tests.support.hub_server import HubServer, hub_server

BASE = "emotion2vec_plus_base"


@pytest.fixture(autouse=True)
def _no_caches(monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine's own hub caches are none of these tests' business."""
    from ser_engine.models.hub import HuggingFace, ModelScope

    monkeypatch.setattr(HuggingFace, "cached_folders", lambda self, repo_id: [])
    monkeypatch.setattr(ModelScope, "cached_folders", lambda self, repo_id: [])
    monkeypatch.setenv("COLUMNS", "200")


@pytest.fixture
def models_dir(tmp_path: Path) -> Path:
    return tmp_path / "models"


@pytest.fixture
def hub(tiny_checkpoint_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    from huggingface_hub import constants

    with hub_server(tiny_checkpoint_dir) as server:
        monkeypatch.setenv("no_proxy", "*")
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        yield server


def run(models_dir: Path, *arguments: object, **model: str) -> int:
    settings = {
        "models_dir": str(models_dir),
        "device": "cpu",
        "runtime": "torch",
        "hub": "huggingface",
        "hub_timeout_s": "60",
    } | model
    options = [f"--set=ser_engine.model.{name}={value}" for name, value in settings.items()]
    with pytest.raises(SystemExit) as caught:
        main([*options, "models", *map(str, arguments)])
    return int(caught.value.code or 0)


def test_with_nothing_fetched_the_better_built_in_model_is_taken(models_dir, capsys) -> None:
    assert run(models_dir, "list") == 0
    out = capsys.readouterr().out
    assert "▸" in out
    assert "CC BY-NC-SA 4.0" in out
    assert "auto takes standard: no emotion2vec+ is here." in out
    assert f"While serving, auto fetches {BASE}" in out


def test_the_best_model_is_taken(models_dir, capsys) -> None:
    write_random_checkpoint(models_dir / BASE)
    assert run(models_dir, "list") == 0
    out = capsys.readouterr().out
    assert f"auto takes {BASE}: the best on this machine." in out
    assert "not read yet" in out
    assert "While serving" not in out


def test_a_model_that_is_named_is_marked(models_dir, capsys) -> None:
    write_random_checkpoint(models_dir / BASE)
    assert run(models_dir, "list", name="compact", offline="true") == 0
    out = capsys.readouterr().out
    marked = next(line for line in out.splitlines() if "▸" in line)
    assert "built in" in marked
    assert "model.name is compact." in out


def test_offline_is_said(models_dir, capsys) -> None:
    assert run(models_dir, "list", offline="true") == 0
    assert "no hub is asked" in capsys.readouterr().out


@pytest.mark.needs("huggingface-hub")
def test_a_model_is_pulled_once(models_dir, hub, capsys) -> None:
    assert run(models_dir, "pull", "auto") == 0
    captured = capsys.readouterr()
    assert "licence: FunASR Model License" in captured.err
    assert captured.out.startswith(f"{BASE}: {models_dir / BASE}, sha256 ")
    asked = len(hub.asked)
    for name in ("auto", BASE):
        assert run(models_dir, "pull", name) == 0
    assert len(hub.asked) == asked


def test_nothing_is_pulled_offline(models_dir, capsys) -> None:
    assert run(models_dir, "pull", BASE, offline="true") == 1
    assert capsys.readouterr().err.startswith("emotion-monitor: got model.offline on")


def test_what_no_hub_has_cannot_be_pulled(models_dir, capsys) -> None:
    assert run(models_dir, "pull", "compact") == 2
    assert "expected auto, cam++ or one of" in capsys.readouterr().err


def test_sound_models_are_told_with_their_hash_and_time(models_dir, capsys) -> None:
    write_random_checkpoint(models_dir / BASE)
    assert run(models_dir, "check") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in lines] == [
        f"{BASE} (published)",
        "standard (built in)",
        "compact (built in)",
    ]
    assert all(": sound, sha256 " in line and "1 s of audio scored in" in line for line in lines)


def test_a_damaged_model_is_status_1_and_the_others_are_checked(models_dir, capsys) -> None:
    write_random_checkpoint(models_dir / BASE)
    (models_dir / BASE / "model.pt").write_bytes(b"nothing")
    assert run(models_dir, "check") == 1
    damaged, *sound = capsys.readouterr().out.splitlines()
    assert damaged.startswith(f"{BASE} (published): DAMAGED: got ")
    assert [line.partition(", ")[0] for line in sound] == [
        "standard (built in): sound",
        "compact (built in): sound",
    ]


def test_a_model_the_settings_cannot_run_is_told_apart(models_dir, monkeypatch, capsys) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert run(models_dir, "check", "compact", device="cuda") == 1
    assert "NOT USABLE: got model.device cuda" in capsys.readouterr().out


def test_one_model_is_checked_by_folder(models_dir, tiny_checkpoint_dir, capsys) -> None:
    assert run(models_dir, "check", tiny_checkpoint_dir) == 0
    assert capsys.readouterr().out.startswith("emotion2vec_tiny (published): sound")


def test_a_model_that_is_not_there_is_said_how_to_get(models_dir, capsys) -> None:
    assert run(models_dir, "check", BASE) == 1
    assert f"`emotion-monitor models pull {BASE}` fetches it" in capsys.readouterr().err
    assert run(models_dir, "check", "nothing") == 1
    assert "got no model nothing" in capsys.readouterr().err
