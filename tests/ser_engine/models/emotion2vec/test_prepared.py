from __future__ import annotations

import dataclasses
import json
import logging
import os
import shutil
import threading
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from benchmarks.random_checkpoint import write_random_checkpoint
from ser_engine.errors import CheckpointError
from ser_engine.models.emotion2vec import prepared as module
from ser_engine.models.emotion2vec.checkpoint import Emotion2vecCheckpoint
from ser_engine.models.emotion2vec.folder import load_folder
from ser_engine.models.emotion2vec.prepared import (
    PREPARED_FILE,
    load_model,
    load_prepared,
    prepared_folders,
    save_prepared,
)


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "models" / "prepared"


@pytest.fixture
def published_reads(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The published folders that are read."""
    reads: list[Path] = []

    def counted(folder: Path, **arguments: str | None) -> Emotion2vecCheckpoint:
        reads.append(folder)
        return load_folder(folder, **arguments)

    monkeypatch.setattr(module, "load_folder", counted)
    return reads


def assert_same(got: Emotion2vecCheckpoint, expected: Emotion2vecCheckpoint) -> None:
    assert got.sizes == expected.sizes
    assert got.info == expected.info
    assert_same_tensors(got.tensors, expected.tensors)


def assert_same_tensors(
    got: Mapping[str, torch.Tensor], expected: Mapping[str, torch.Tensor]
) -> None:
    assert got.keys() == expected.keys()
    for key, tensor in expected.items():
        assert torch.equal(got[key], tensor), key


def the_file(cache: Path) -> Path:
    (folder,) = cache.iterdir()
    assert [path.name for path in folder.iterdir()] == [PREPARED_FILE]
    return folder / PREPARED_FILE


def test_what_is_prepared_is_what_was_published(published, cache, published_reads) -> None:
    expected = load_folder(published)
    assert_same(load_model(published, cache), expected)
    assert_same(load_model(published, cache), expected)
    assert published_reads == [published]


def test_the_file_is_a_third_of_the_published_one(published, cache) -> None:
    load_model(published, cache)
    ratio = the_file(cache).stat().st_size / (published / "model.pt").stat().st_size
    assert ratio < 0.4


def test_a_prepared_folder_loads_alone(published, cache) -> None:
    expected = load_model(published, cache)
    shutil.rmtree(published)
    (folder,) = prepared_folders(cache, "emotion2vec_plus_base")
    assert_same(load_model(folder, cache), expected)


@pytest.mark.parametrize("changed", ["model.pt", "config.yaml", "tokens.txt"])
def test_a_changed_file_is_noticed(published, cache, published_reads, changed) -> None:
    load_model(published, cache)
    before = the_file(cache)
    other = write_random_checkpoint(
        published.parent / "other", seed=1, labels=tuple("abcdefghi"), optimiser_state=True
    )
    text = (published / "config.yaml").read_text()
    (other / "config.yaml").write_text(text.replace("normalize: true", "normalize: false"))
    shutil.copy2(other / changed, published / changed)
    checkpoint = load_model(published, cache)
    assert len(published_reads) == 2
    assert the_file(cache) != before
    assert_same(checkpoint, load_folder(published))


def test_weights_of_equal_size_written_later_are_noticed(published, cache, published_reads) -> None:
    load_model(published, cache)
    weights = published / "model.pt"
    os.utime(weights, ns=(weights.stat().st_atime_ns, weights.stat().st_mtime_ns + 1))
    load_model(published, cache)
    assert len(published_reads) == 2


def test_two_folders_of_one_name_do_not_meet(published, cache, tmp_path) -> None:
    other = write_random_checkpoint(tmp_path / "elsewhere" / published.name, seed=5)
    load_model(published, cache)
    load_model(other, cache)
    assert len(prepared_folders(cache, published.name)) == 2
    assert_same(load_model(published, cache), load_folder(published))
    assert_same(load_model(other, cache), load_folder(other))


@pytest.mark.parametrize("kept", [0, 4, 100, 5000, -1])
def test_a_damaged_file_is_made_anew(published, cache, published_reads, caplog, kept) -> None:
    load_model(published, cache)
    path = the_file(cache)
    path.write_bytes(path.read_bytes()[:kept])
    with caplog.at_level(logging.WARNING):
        assert_same(load_model(published, cache), load_folder(published))
    assert "is damaged and is made anew" in caplog.text
    assert_same(load_prepared(path), load_folder(published))
    assert len(published_reads) == 2


@pytest.mark.parametrize("damage", ["format", "sizes", "info", "tensor", "shape", "metadata"])
def test_a_file_of_another_make_is_refused(published, cache, damage) -> None:
    load_model(published, cache)
    path = the_file(cache)
    with safe_open(path, framework="pt") as file:
        metadata = dict(file.metadata())
        tensors = {key: file.get_tensor(key).clone() for key in file.keys()}
    if damage == "tensor":
        del tensors["proj.bias"]
    elif damage == "shape":
        tensors["proj.bias"] = torch.zeros(3)
    elif damage == "metadata":
        metadata = {}
    elif damage == "format":
        metadata["format"] = "emotion-monitor-emotion2vec-0"
    else:
        metadata[damage] = json.dumps({"odd": 1})
    save_file(tensors, path, metadata=metadata)
    with pytest.raises(CheckpointError, match="got"):
        load_prepared(path)
    with pytest.raises(CheckpointError, match="got"):
        load_model(path.parent, cache)


def test_a_cache_that_cannot_be_written_is_done_without(published, tmp_path, caplog) -> None:
    (tmp_path / "models").write_text("a file where the folder should be")
    with caplog.at_level(logging.WARNING):
        checkpoint = load_model(published, tmp_path / "models" / "prepared")
    assert "could not be kept" in caplog.text
    assert_same(checkpoint, load_folder(published))


def test_a_write_that_fails_leaves_nothing(published, cache, monkeypatch) -> None:
    def full(tensors: object, path: Path, metadata: object) -> None:
        path.write_bytes(b"half")
        raise OSError("no space left on device")

    monkeypatch.setattr(module, "save_file", full)
    assert_same(load_model(published, cache), load_folder(published))
    (folder,) = cache.iterdir()
    assert list(folder.iterdir()) == []


def test_starts_at_the_same_time_are_safe(published, cache) -> None:
    expected = load_folder(published)
    results: list[Emotion2vecCheckpoint] = []
    gate = threading.Barrier(4)

    def start() -> None:
        gate.wait(10)
        results.append(load_model(published, cache))

    threads = [threading.Thread(target=start) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(results) == 4
    for result in results:
        assert_same(result, expected)
    the_file(cache)


def test_a_name_that_is_no_file_name_is_kept(published, cache) -> None:
    checkpoint = load_folder(published)
    odd = dataclasses.replace(checkpoint, info=dataclasses.replace(checkpoint.info, name="模型/一"))
    save_prepared(odd, cache / "x" / PREPARED_FILE)
    assert_same(load_prepared(cache / "x" / PREPARED_FILE), odd)
    assert load_model(published, cache, name="模型/一").info.name == "模型/一"
    assert len(prepared_folders(cache, "模型/一")) == 1


def test_an_incomplete_folder_is_refused_although_it_is_prepared(published, cache) -> None:
    load_model(published, cache)
    (published / "tokens.txt").unlink()
    with pytest.raises(CheckpointError, match=r"without tokens\.txt"):
        load_model(published, cache)
