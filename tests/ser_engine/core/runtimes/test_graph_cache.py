from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from ser_engine.core.runtimes.select import GraphCache
from ser_engine.types import ModelInfo
from tests.support.networks import load


@pytest.fixture
def info(tiny_checkpoint_dir: Path) -> ModelInfo:
    return load(tiny_checkpoint_dir).info


def write(folder: Path) -> None:
    (folder / "graph").write_text("complete")


def refuse(folder: Path) -> None:
    pytest.fail("made again")


def test_a_graph_is_made_once(tmp_path: Path, info: ModelInfo) -> None:
    made = GraphCache(tmp_path, info).folder("openvino", write)

    found = GraphCache(tmp_path, info).folder("openvino", refuse)

    assert found == made
    assert (found / "graph").read_text() == "complete"


def test_another_model_has_graphs_of_its_own(tmp_path: Path, info: ModelInfo) -> None:
    first = GraphCache(tmp_path, info).folder("openvino", write)
    another = dataclasses.replace(info, sha256="another")
    second = GraphCache(tmp_path, another).folder("openvino", write)

    assert first != second


def test_what_was_not_finished_is_not_taken_for_a_graph(tmp_path: Path, info: ModelInfo) -> None:
    def fail(folder: Path) -> None:
        write(folder)
        raise KeyboardInterrupt

    cache = GraphCache(tmp_path, info)
    with pytest.raises(KeyboardInterrupt):
        cache.folder("openvino", fail)

    assert not list(tmp_path.rglob("graph"))
    assert (cache.folder("openvino", write) / "graph").exists()


def test_of_two_starts_at_once_one_is_kept(tmp_path: Path, info: ModelInfo) -> None:
    cache = GraphCache(tmp_path, info)

    def overtaken(folder: Path) -> None:
        write(folder)
        cache.folder("openvino", write)

    found = cache.folder("openvino", overtaken)

    assert [path.parent for path in tmp_path.rglob("graph")] == [found]


def test_a_folder_that_cannot_be_written_costs_the_keeping_only(
    tmp_path: Path, info: ModelInfo, caplog: pytest.LogCaptureFixture
) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("in the way")

    found = GraphCache(blocked, info).folder("openvino", write)

    assert (found / "graph").read_text() == "complete"
    assert "cannot be kept" in caplog.text
