from __future__ import annotations

from pathlib import Path, PurePath

import pytest

from emotion_monitor.batch import Entry, Manifest, place_all
from ser_engine.files.search import FoundFile


def found(*places: str, root: str = "/in") -> list[FoundFile]:
    return [FoundFile(Path(root, place), PurePath(place)) for place in places]


def places(files: list[FoundFile], manifest: Manifest) -> list[str]:
    return [each.place for each in place_all(files, manifest)]


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    return Manifest(tmp_path)


def test_the_tree_is_mirrored(manifest: Manifest):
    names = ["a.wav", "a.mp3", "sub/a.wav", "sub/deep er/Ü.flac"]
    assert places(found(*names), manifest) == names


def test_names_are_made_safe(manifest: Manifest):
    files = found("new\nline.wav", "sub\x1b[0m/con.wav")
    assert places(files, manifest) == ["new_line.wav", "sub_[0m/_con.wav"]


def test_names_that_are_one_name_elsewhere_stay_apart(manifest: Manifest):
    files = [*found("A.wav", "a.wav"), *found("a.wav", root="/other")]
    first, second, third = places(files, manifest)
    assert first == "A.wav"
    assert second.startswith("a~")
    assert third.startswith("a~")
    assert second != third


def test_a_file_keeps_its_place_whatever_comes_later(manifest: Manifest):
    for each in place_all(found("b/a.wav"), manifest):
        manifest.add(Entry(source=each.source, place=each.place))
    newcomer = FoundFile(Path("/in/0.wav"), PurePath("b/a.wav"))
    first, second = place_all([newcomer, *found("b/a.wav")], manifest)
    assert second.place == "b/a.wav"
    assert first.place.startswith("b/a~")


@pytest.mark.parametrize("place", ["../../evil", "/etc/passwd", "", "a/../b", "a//b"])
def test_a_place_that_leads_elsewhere_is_not_believed(place: str, manifest: Manifest):
    manifest.add(Entry(source="/in/a.wav", place=place))
    assert places(found("a.wav"), manifest) == ["a.wav"]
