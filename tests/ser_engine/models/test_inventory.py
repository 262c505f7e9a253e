from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from ser_engine.config import ModelConfig
from ser_engine.errors import CheckpointError
from ser_engine.models.emotion2vec.prepared import PREPARED_FILE
from ser_engine.models.model import Form
from ser_engine.models.registry import check_model, find_model, inventory, model_in_folder
from tests.support.fake_hub import FakeHub

BASE = "emotion2vec_plus_base"


@pytest.fixture
def config(tmp_path: Path) -> ModelConfig:
    return ModelConfig(name=BASE, models_dir=str(tmp_path / "models"), offline=True)


@pytest.fixture
def hub() -> FakeHub:
    return FakeHub()


@pytest.fixture
def folder(published: Path, config: ModelConfig) -> Path:
    return Path(shutil.move(published, Path(config.models_dir) / BASE))


def prepared_file(config: ModelConfig) -> Path:
    (path,) = Path(config.models_dir).glob(f"prepared/*/{PREPARED_FILE}")
    return path


def test_the_built_in_models_are_always_there(config, hub) -> None:
    found = inventory(config, [hub])
    assert [(each.name, each.form) for each in found] == [
        ("standard", Form.BUILT_IN),
        ("compact", Form.BUILT_IN),
    ]
    for each in found:
        assert each.size_bytes > 100_000
        assert len(each.sha256) == 64
        assert check_model(each, config).info.name == each.name


def test_a_published_model_is_listed_without_being_read(folder, config, hub) -> None:
    found = inventory(config, [hub])[0]
    assert (found.name, found.form, found.folder) == (BASE, Form.PUBLISHED, folder)
    assert found.size_bytes == (folder / "model.pt").stat().st_size
    assert "FunASR" in found.licence
    assert found.sha256 == ""


def test_once_read_its_hash_is_known_and_so_is_what_was_prepared(folder, config, hub) -> None:
    info = find_model(config, clients=[hub]).info
    published, prepared, *_ = inventory(config, [hub])
    assert published.sha256 == prepared.sha256 == info.sha256
    assert prepared.form is Form.PREPARED
    assert check_model(published, config).info == info
    assert check_model(prepared, config).info == info


def test_a_model_in_a_hubs_cache_is_listed(published, config, hub) -> None:
    hub.cached = [published.parent]
    assert inventory(config, [hub])[0].folder == published


def test_a_damaged_file_is_found(folder, config, hub) -> None:
    weights = folder / "model.pt"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(CheckpointError):
        check_model(inventory(config, [hub])[0], config)


def test_a_prepared_file_that_has_changed_is_found(folder, config, hub) -> None:
    find_model(config, clients=[hub])
    change_prepared(config, 1.0)
    published, prepared, *_ = inventory(config, [hub])
    check_model(prepared, config)
    with pytest.raises(CheckpointError, match=r"differs from .*remove the file"):
        check_model(published, config)


def test_values_that_are_not_numbers_are_found(folder, config, hub) -> None:
    find_model(config, clients=[hub])
    change_prepared(config, float("nan"))
    with pytest.raises(CheckpointError, match=r"values in proj\.bias that are not numbers"):
        check_model(inventory(config, [hub])[1], config)


def test_a_prepared_file_that_cannot_be_read_is_listed_and_found(folder, config, hub) -> None:
    find_model(config, clients=[hub])
    prepared_file(config).write_bytes(b"nothing")
    published, prepared, *_ = inventory(config, [hub])
    assert published.sha256 == prepared.sha256 == ""
    with pytest.raises(CheckpointError, match="cannot be read as a prepared model"):
        check_model(prepared, config)


def test_a_folder_is_taken_by_its_path(published, config, tmp_path) -> None:
    found = model_in_folder(published, config)
    assert (found.name, found.form) == (BASE, Form.PUBLISHED)
    with pytest.raises(CheckpointError, match=r"without config\.yaml"):
        model_in_folder(tmp_path, config)


def change_prepared(config: ModelConfig, value: float) -> None:
    from safetensors import safe_open

    path = prepared_file(config)
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    tensors = {name: tensor.clone() for name, tensor in load_file(path).items()}
    tensors["proj.bias"] = torch.full_like(tensors["proj.bias"], value)
    save_file(tensors, path, metadata=metadata)
