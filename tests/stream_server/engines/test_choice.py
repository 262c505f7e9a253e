from __future__ import annotations

import pytest

from ser_engine.config import EngineConfig, ModelConfig
from stream_server.engines.opening import model_to_upgrade_to

LARGE, BASE, SEED = "emotion2vec_plus_large", "emotion2vec_plus_base", "emotion2vec_plus_seed"


@pytest.mark.parametrize(
    ("in_use", "device", "wanted"),
    [
        ("compact", "cpu", BASE),
        ("standard", "cpu", BASE),
        (SEED, "cpu", BASE),
        (BASE, "cpu", None),
        (LARGE, "cpu", None),
        ("compact", "cuda", LARGE),
        (BASE, "cuda:1", LARGE),
        (LARGE, "cuda", None),
    ],
)
def test_what_is_better_depends_on_the_device(
    monkeypatch: pytest.MonkeyPatch, in_use: str, device: str, wanted: str | None
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    config = EngineConfig(model=ModelConfig(device=device))
    found = model_to_upgrade_to(config, in_use)
    assert (found and found.name) == wanted


@pytest.mark.parametrize("model", [ModelConfig(offline=True), ModelConfig(name="compact")])
def test_nothing_is_better_where_none_may_be_fetched(model: ModelConfig) -> None:
    assert model_to_upgrade_to(EngineConfig(model=model), "compact") is None
