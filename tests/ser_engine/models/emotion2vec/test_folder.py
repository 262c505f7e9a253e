from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from benchmarks.random_checkpoint import LABELS_OF_FIVE_CLASSES, write_random_checkpoint
from ser_engine.errors import CheckpointError
from ser_engine.models.emotion2vec.folder import (
    FUNASR_LICENCE,
    load_folder,
    model_name,
    read_labels,
)
from ser_engine.models.emotion2vec.reference import is_published_folder


def test_a_published_folder_is_read(published: Path) -> None:
    checkpoint = load_folder(published)
    info = checkpoint.info
    assert info.name == "emotion2vec_plus_base"
    assert info.source == str(published)
    assert info.licence == FUNASR_LICENCE
    assert info.sha256 == hashlib.sha256((published / "model.pt").read_bytes()).hexdigest()
    assert info.embedding_dim == checkpoint.sizes.embed_dim == 64
    assert info.labels.names[0] == "angry"
    assert info.labels.names[-1] == "unknown"
    assert len(info.labels) == len(checkpoint.tensors["proj.bias"]) == 9
    assert not any(key.startswith("d2v_model.") for key in checkpoint.tensors)


def test_a_folder_with_unused_classes_is_read(tmp_path: Path) -> None:
    write_random_checkpoint(tmp_path, labels=LABELS_OF_FIVE_CLASSES, final_newline=True)
    checkpoint = load_folder(tmp_path)
    assert checkpoint.info.labels.names == ("angry", "happy", "neutral", "sad", "unknown")
    assert checkpoint.tensors["proj.weight"].shape == (5, 64)


def test_a_folder_of_another_name_has_no_stated_licence(tmp_path: Path) -> None:
    assert "not stated" in load_folder(write_random_checkpoint(tmp_path / "mine")).info.licence


def test_a_name_can_be_given(published: Path) -> None:
    assert load_folder(published, name="emotion2vec_plus_seed").info.name == "emotion2vec_plus_seed"


def test_the_source_does_not_depend_on_where_one_stands(published: Path, monkeypatch) -> None:
    monkeypatch.chdir(published.parent)
    assert load_folder(Path(published.name)).info.source == str(published)


@pytest.mark.parametrize(
    ("hubs", "expected"),
    [
        ({"ms": "iic/emotion2vec_plus_large", "hf": ""}, "emotion2vec_plus_large"),
        ({"ms": "", "hf": "emotion2vec/emotion2vec_plus_seed"}, "emotion2vec_plus_seed"),
        ({"ms": "", "hf": ""}, "folder"),
        (["odd"], "folder"),
    ],
)
def test_the_name_in_the_hub_goes_before_the_folder(tmp_path, hubs, expected) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "configuration.json").write_text(json.dumps({"model_name_in_hub": hubs}))
    assert model_name(folder) == expected


@pytest.mark.parametrize(
    "cached",
    [
        "models--emotion2vec--emotion2vec_plus_base/snapshots/0123abc",
        "iic--emotion2vec_plus_base/snapshots/master",
    ],
)
def test_a_snapshot_in_a_hubs_cache_is_called_by_its_repository(tmp_path, cached) -> None:
    folder = tmp_path / cached
    folder.mkdir(parents=True)
    assert model_name(folder) == "emotion2vec_plus_base"


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"got nothing at .*gone, expected a folder"):
        load_folder(tmp_path / "gone")
    (tmp_path / "file").touch()
    with pytest.raises(CheckpointError, match=r"got a file at .*file, expected a folder"):
        load_folder(tmp_path / "file")


@pytest.mark.parametrize("name", ["config.yaml", "tokens.txt", "model.pt"])
def test_a_missing_file_is_named(published: Path, name: str) -> None:
    assert is_published_folder(published)
    (published / name).unlink()
    assert not is_published_folder(published)
    with pytest.raises(CheckpointError, match=f"without {name}, expected"):
        load_folder(published)


@pytest.mark.parametrize(
    "text", ["a\nb\n", "a\r\nb", "\ufeffa\nb", "a\nb\n\n\n", " a \nb ", "a\nunuse_0\nb"]
)
def test_labels_are_read_whatever_the_line_ends(tmp_path: Path, text: str) -> None:
    path = tmp_path / "tokens.txt"
    path.write_bytes(text.encode())
    assert read_labels(path).names == ("a", "b")


@pytest.mark.parametrize("data", [b"a\na", b"unuse_0", b"\xff\xff"])
def test_labels_that_cannot_be_are_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "tokens.txt"
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match=r"tokens\.txt that cannot be read"):
        read_labels(path)
