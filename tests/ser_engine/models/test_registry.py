from __future__ import annotations

import logging
import shutil
from pathlib import Path

import pytest

from benchmarks.random_checkpoint import write_random_checkpoint
from ser_engine.config import ModelConfig
from ser_engine.errors import CheckpointError, HubUnavailableError
from ser_engine.models.emotion2vec.model import EMOTION2VEC_PLUS_BASE
from ser_engine.models.registry import fetch_model, find_model, inventory
from tests.support.fake_hub import FakeHub
from tests.support.hub_server import hub_server

BASE, LARGE, SEED = "emotion2vec_plus_base", "emotion2vec_plus_large", "emotion2vec_plus_seed"


@pytest.fixture
def models_dir(tmp_path: Path) -> Path:
    return tmp_path / "models"


@pytest.fixture
def hub(tmp_path: Path) -> FakeHub:
    hub = FakeHub()
    hub.cached = [tmp_path / "cache"]
    return hub


def config(name: str, models_dir: Path, *, offline: bool = False) -> ModelConfig:
    return ModelConfig(name=name, models_dir=str(models_dir), offline=offline, hub_timeout_s=30)


def test_a_folder_is_read_where_it_is(published, models_dir, hub) -> None:
    checkpoint = find_model(config(str(published), models_dir), clients=[hub])
    assert checkpoint.info.source == str(published)
    assert (models_dir / "prepared").is_dir()
    assert hub.asked == []


@pytest.mark.parametrize("name", [BASE, f"iic/{BASE}", f"emotion2vec/{BASE}"])
def test_a_known_name_is_found_in_models_dir(models_dir, hub, name) -> None:
    write_random_checkpoint(models_dir / BASE)
    info = find_model(config(name, models_dir), clients=[hub]).info
    assert (info.name, info.source) == (BASE, str(models_dir / BASE))
    assert hub.asked == []


def test_a_known_name_is_found_in_a_hubs_cache(tmp_path, models_dir, hub) -> None:
    write_random_checkpoint(tmp_path / "cache" / BASE)
    info = find_model(config(BASE, models_dir), clients=[hub]).info
    assert (info.name, info.source) == (BASE, str(tmp_path / "cache" / BASE))
    assert hub.asked == []


def test_a_known_name_is_found_prepared_when_the_published_folder_is_gone(models_dir, hub) -> None:
    write_random_checkpoint(models_dir / BASE)
    expected = find_model(config(BASE, models_dir), clients=[hub])
    shutil.rmtree(models_dir / BASE)
    found = find_model(config(BASE, models_dir, offline=True), clients=[hub])
    assert found.info == expected.info


def test_a_known_name_is_fetched(published, models_dir) -> None:
    with hub_server(published) as server:
        hub = FakeHub(url=server.url, published=published)
        checkpoint = find_model(config(BASE, models_dir), clients=[hub])
    assert checkpoint.info.source == str(models_dir / BASE)
    assert f"emotion2vec/{BASE}" in hub.asked


def test_offline_never_asks(models_dir, hub) -> None:
    with pytest.raises(CheckpointError, match=r"offline on \(looked in .*models and"):
        find_model(config(BASE, models_dir, offline=True), clients=[hub])
    with pytest.raises(CheckpointError, match="offline on"):
        fetch_model(EMOTION2VEC_PLUS_BASE, config("auto", models_dir, offline=True), clients=[hub])
    assert hub.asked == []


def test_a_hub_that_does_not_answer_is_told(models_dir, hub) -> None:
    with pytest.raises(HubUnavailableError, match="unreachable"):
        find_model(config(BASE, models_dir), clients=[hub])


def test_auto_takes_the_best_on_disk(tmp_path, models_dir, hub) -> None:
    write_random_checkpoint(models_dir / SEED)
    assert find_model(config("auto", models_dir), clients=[hub]).info.name == SEED
    write_random_checkpoint(models_dir / BASE)
    assert find_model(config("auto", models_dir), clients=[hub]).info.name == BASE
    write_random_checkpoint(tmp_path / "cache" / LARGE)
    assert find_model(config("auto", models_dir), clients=[hub]).info.name == LARGE
    found = inventory(config("auto", models_dir), clients=[hub])
    assert list(dict.fromkeys(each.name for each in found)) == [
        LARGE,
        BASE,
        SEED,
        "standard",
        "compact",
    ]
    assert hub.asked == []


def test_auto_passes_over_what_is_damaged(models_dir, hub, caplog) -> None:
    write_random_checkpoint(models_dir / LARGE)
    (models_dir / LARGE / "model.pt").write_bytes(b"damaged")
    write_random_checkpoint(models_dir / SEED)
    with caplog.at_level(logging.WARNING):
        assert find_model(config("auto", models_dir), clients=[hub]).info.name == SEED
    assert f"model {LARGE} is passed over" in caplog.text


def test_auto_falls_back_to_the_model_in_the_package(models_dir, hub, caplog) -> None:
    assert find_model(config("auto", models_dir), clients=[hub]).info.name == "standard"
    write_random_checkpoint(models_dir / LARGE)
    (models_dir / LARGE / "model.pt").write_bytes(b"damaged")
    with caplog.at_level(logging.WARNING):
        assert find_model(config("auto", models_dir), clients=[hub]).info.name == "standard"
    assert f"model {LARGE} is passed over" in caplog.text
    assert hub.asked == []


def test_a_known_name_that_is_damaged_is_told_rather_than_replaced(models_dir, hub) -> None:
    write_random_checkpoint(models_dir / BASE)
    (models_dir / BASE / "model.pt").write_bytes(b"damaged")
    with pytest.raises(CheckpointError, match="cannot be read as PyTorch weights"):
        find_model(config(BASE, models_dir), clients=[hub])
    assert hub.asked == []


def test_a_name_that_means_nothing_is_told(models_dir, hub) -> None:
    with pytest.raises(CheckpointError, match=rf"got model\.name 'large'.*{LARGE}"):
        find_model(config("large", models_dir), clients=[hub])


def test_a_hub_without_a_client_is_done_without(models_dir) -> None:
    class NotInstalled(FakeHub):
        def cached_folders(self, repo_id: str) -> list[Path]:
            raise ImportError("no client")

    write_random_checkpoint(models_dir / BASE)
    assert find_model(config("auto", models_dir), clients=[NotInstalled()]).info.name == BASE
