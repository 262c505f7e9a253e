from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
import yaml

from benchmarks.random_checkpoint import (
    LABELS,
    LABELS_OF_FIVE_CLASSES,
    model_config,
    random_state_dict,
    write_random_checkpoint,
)
from ser_engine.labels import LabelSet


def saved(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = torch.load(folder / "model.pt", weights_only=True)
    return content


def test_a_folder_holds_the_published_files(tmp_path: Path):
    folder = write_random_checkpoint(tmp_path / "model")
    assert sorted(path.name for path in folder.iterdir()) == [
        "config.yaml",
        "configuration.json",
        "model.pt",
        "tokens.txt",
    ]
    assert yaml.safe_load((folder / "config.yaml").read_text())["model_conf"] == model_config(
        "tiny"
    )
    facts = json.loads((folder / "configuration.json").read_text())
    assert facts["file_path_metas"]["init_param"] == "model.pt"
    assert list(saved(folder)) == ["model"]


@pytest.mark.parametrize(
    ("labels", "final_newline", "size_bytes", "num_classes"),
    [(LABELS, False, 119, 9), (LABELS_OF_FIVE_CLASSES, True, 90, 5)],
)
def test_tokens_have_the_sizes_of_the_published_files(
    tmp_path: Path, labels: tuple[str, ...], final_newline: bool, size_bytes: int, num_classes: int
):
    folder = write_random_checkpoint(tmp_path / "model", labels=labels, final_newline=final_newline)
    tokens = folder / "tokens.txt"
    assert tokens.stat().st_size == size_bytes
    lines = tokens.read_text(encoding="utf-8").splitlines()
    assert len(LabelSet.from_tokens(lines)) == num_classes
    assert saved(folder)["model"]["proj.weight"].shape == (9, 64)


def test_the_same_seed_gives_the_same_weights():
    first, again = random_state_dict("tiny", seed=3), random_state_dict("tiny", seed=3)
    other = random_state_dict("tiny", seed=4)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["proj.weight"], other["proj.weight"])


def test_a_prefix_is_put_before_the_encoder_and_not_before_the_head(tmp_path: Path):
    names = saved(write_random_checkpoint(tmp_path / "model", prefix="d2v_model."))["model"]
    bare = random_state_dict("tiny")
    assert set(names) == {
        name if name.startswith("proj.") else f"d2v_model.{name}" for name in bare
    }


def test_the_decoder_is_left_out_unless_asked_for_and_changes_nothing_else():
    without = random_state_dict("tiny")
    with_decoder = random_state_dict("tiny", with_decoder=True)
    assert not [name for name in without if ".decoder." in name]
    assert len([name for name in with_decoder if ".decoder." in name]) == 10
    assert all(torch.equal(without[name], with_decoder[name]) for name in without)


def test_optimiser_state_makes_the_file_three_times_as_large(tmp_path: Path):
    lean = write_random_checkpoint(tmp_path / "lean")
    full = write_random_checkpoint(tmp_path / "full", optimiser_state=True)
    ratio = (full / "model.pt").stat().st_size / (lean / "model.pt").stat().st_size
    assert 2.8 < ratio < 3.4
    assert len(saved(full)["last_optimizer_state"]["state"]) == len(saved(lean)["model"])


def funasr_state_dict(size: str) -> dict[str, torch.Tensor]:
    from funasr.models.emotion2vec.model import Emotion2vec

    module = Emotion2vec(model_conf=model_config(size), vocab_size=len(LABELS))
    return {name: tensor.detach() for name, tensor in module.state_dict().items()}


@pytest.mark.needs("funasr")
@pytest.mark.parametrize("size", ["tiny", "base", "large"])
def test_names_and_shapes_are_those_of_funasr(size: str, funasr: ModuleType):
    with torch.device("meta"):
        reference = funasr_state_dict(size)
    ours = random_state_dict(size, with_decoder=True)
    assert [(name, tensor.shape, tensor.dtype) for name, tensor in ours.items()] == [
        (name, tensor.shape, tensor.dtype) for name, tensor in reference.items()
    ]


@pytest.mark.needs("funasr")
def test_distributions_are_those_of_funasr(funasr: ModuleType):
    torch.manual_seed(0)
    reference = funasr_state_dict("tiny")
    ours = random_state_dict("tiny", with_decoder=True, seed=1)
    for name, tensor in ours.items():
        std, mean = float(reference[name].std()), float(reference[name].mean())
        if std == 0:
            assert torch.equal(tensor, reference[name]), name
        elif tensor.numel() >= 1000:
            # Five standard errors: both are samples of one distribution.
            tolerance = 5 / tensor.numel() ** 0.5
            assert float(tensor.std()) == pytest.approx(std, rel=tolerance), name
            assert float(tensor.mean()) == pytest.approx(mean, abs=1.5 * tolerance * std), name
            largest = float(reference[name].abs().max())
            assert float(tensor.abs().max()) == pytest.approx(largest, rel=0.3), name
    for weights in (ours, reference):
        assert not weights["modality_encoders.AUDIO.extra_tokens"][:, 0].any()
