from __future__ import annotations

import os
from pathlib import Path, PurePath

import pytest

from ser_engine.files.search import find_recordings


def make(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")


def places(*names: Path, recursive: bool = True, leave_out: Path | None = None) -> list[str]:
    found = find_recordings(names, recursive=recursive, leave_out=leave_out)
    return [each.place.as_posix() for each in found]


def test_a_folder_is_listed_in_order_of_name(tmp_path: Path):
    make(
        tmp_path, "b.wav", "a.WAV", "a.mp3", "notes.txt", "sub/c.flac", ".hidden.wav", ".git/d.wav"
    )
    assert places(tmp_path, recursive=False) == ["a.WAV", "a.mp3", "b.wav"]
    assert places(tmp_path) == ["a.WAV", "a.mp3", "b.wav", "sub/c.flac"]


def test_a_named_file_is_taken_whatever_it_is_called(tmp_path: Path):
    make(tmp_path, "recording")
    assert places(tmp_path / "recording", tmp_path / "missing.xyz") == ["recording", "missing.xyz"]


def test_several_folders_stay_apart(tmp_path: Path):
    make(tmp_path, "one/a.wav", "two/a.wav", "three.wav")
    found = places(tmp_path / "one", tmp_path / "two", tmp_path / "three.wav")
    assert found == ["one/a.wav", "two/a.wav", "three.wav"]


def test_a_file_is_found_once(tmp_path: Path):
    make(tmp_path, "sub/a.wav")
    again = tmp_path / "sub" / ".." / "sub" / "a.wav"
    assert places(tmp_path / "sub", again) == ["sub/a.wav"]


def test_the_folder_above_has_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    make(tmp_path, "calls/a.wav", "calls/sub/b.wav", "other/c.wav")
    monkeypatch.chdir(tmp_path / "calls" / "sub")
    assert places(Path(".."), Path("../../other")) == [
        "calls/a.wav",
        "calls/sub/b.wav",
        "other/c.wav",
    ]


def test_loops_of_links_end(tmp_path: Path):
    make(tmp_path, "sub/a.wav", "elsewhere/b.wav")
    (tmp_path / "sub" / "up").symlink_to(tmp_path)
    (tmp_path / "sub" / "self").symlink_to(tmp_path / "sub")
    (tmp_path / "sub" / "broken.wav").symlink_to(tmp_path / "nothing")
    found = places(tmp_path / "sub")
    assert found == ["a.wav", "broken.wav", "up/elsewhere/b.wav"]


def test_results_are_no_recordings(tmp_path: Path):
    folder = "outputs_20261122_101500_2"
    make(tmp_path, "a.wav", f"{folder}/processed_audio.wav", f"{folder}/result.json", "out/b.wav")
    make(tmp_path, "outputs_20261122_101501/only audio.wav")
    assert places(tmp_path, leave_out=tmp_path / "out") == [
        "a.wav",
        "outputs_20261122_101501/only audio.wav",
    ]


def test_a_folder_that_is_named_is_entered(tmp_path: Path):
    make(tmp_path, "a.wav", "sub/b.wav")
    assert places(tmp_path, leave_out=tmp_path / "sub" / "..") == ["a.wav", "sub/b.wav"]


def test_a_folder_that_cannot_be_listed_is_told_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    make(tmp_path, "closed/a.wav", "open/b.wav")
    real = os.scandir

    def scandir(path: Path) -> object:
        if Path(path).name == "closed":
            raise PermissionError(13, "Permission denied")
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    told: list[tuple[Path, str]] = []
    found = list(
        find_recordings([tmp_path], recursive=True, on_unreadable=lambda *each: told.append(each))
    )
    assert [each.place for each in found] == [PurePath("open/b.wav")]
    assert told == [(tmp_path / "closed", "Permission denied")]


def test_depth_is_no_limit(tmp_path: Path):
    deep = tmp_path / "/".join(["d"] * 300)
    make(deep, "a.wav")
    assert len(places(tmp_path)) == 1
