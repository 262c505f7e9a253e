from __future__ import annotations

import os
from pathlib import Path

import pytest

from ser_engine.files.whole_files import new_folder, whole_file


def test_a_file_takes_the_place_of_the_former_one(tmp_path: Path):
    target = tmp_path / "a.json"
    target.write_text("old")
    with whole_file(target) as partial:
        partial.write_text("new")
        assert target.read_text() == "old"
    assert target.read_text() == "new"
    assert os.listdir(tmp_path) == ["a.json"]


def test_a_file_that_fails_leaves_what_was_there(tmp_path: Path):
    target = tmp_path / ("long" * 60)
    target.write_text("old")
    with pytest.raises(RuntimeError), whole_file(target) as partial:
        partial.write_text("half")
        raise RuntimeError
    assert target.read_text() == "old"
    assert len(os.listdir(tmp_path)) == 1


def test_folders_of_one_name_are_numbered(tmp_path: Path):
    made = [
        new_folder(tmp_path / "outputs", "run", lambda folder: (folder / "x").touch())
        for _ in range(3)
    ]
    assert [folder.name for folder in made] == ["run", "run_2", "run_3"]
    assert sorted(os.listdir(tmp_path / "outputs")) == ["run", "run_2", "run_3"]


def test_a_file_of_that_name_is_not_written_over(tmp_path: Path):
    (tmp_path / "run").write_text("mine")
    assert new_folder(tmp_path, "run", lambda folder: None).name == "run_2"
    assert (tmp_path / "run").read_text() == "mine"


def test_somebody_who_is_faster_keeps_the_name(tmp_path: Path):
    def fill(folder: Path) -> None:
        (folder / "x").touch()

    real = Path.exists
    asked: list[Path] = []

    def exists(path: Path, **options: bool) -> bool:
        asked.append(path)
        if len(asked) == 1:
            (path / "theirs").mkdir(parents=True)
            return False
        return real(path, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "exists", exists)
        made = new_folder(tmp_path, "run", fill)
    assert made.name == "run_2"
    assert os.listdir(tmp_path / "run") == ["theirs"]


def test_a_folder_that_fails_leaves_nothing(tmp_path: Path):
    def fill(folder: Path) -> None:
        (folder / "x").touch()
        raise RuntimeError

    with pytest.raises(RuntimeError):
        new_folder(tmp_path, "run", fill)
    assert os.listdir(tmp_path) == []


def test_what_is_no_file_is_not_put_away(tmp_path: Path):
    os.mkfifo(tmp_path / "pipe")
    with whole_file(tmp_path / "pipe") as partial:
        assert partial == tmp_path / "pipe"
    assert (tmp_path / "pipe").is_fifo()
