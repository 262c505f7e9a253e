from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.random_checkpoint import (
    LABELS,
    LABELS_OF_FIVE_CLASSES,
    model_config,
    random_state_dict,
)
from ser_engine.errors import CheckpointError
from ser_engine.labels import LabelSet
from ser_engine.models.emotion2vec import Emotion2vecSizes
from ser_engine.models.emotion2vec.checkpoint import expected_shapes, read_weights
from ser_engine.models.emotion2vec.folder import sizes_from_config

NINE = LabelSet.from_tokens(LABELS)
ALIBI = "modality_encoders.AUDIO.alibi_scale"


@pytest.fixture
def sizes() -> Emotion2vecSizes:
    return sizes_from_config({"model_conf": model_config("tiny")}, "here")


@pytest.fixture
def state() -> dict[str, torch.Tensor]:
    return random_state_dict("tiny", with_decoder=True)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "model.pt"


def without_decoder(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {key: value for key, value in state.items() if ".decoder." not in key}


def assert_same(got: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert got.keys() == expected.keys()
    for key, value in expected.items():
        assert got[key].dtype == torch.float32
        assert got[key].is_contiguous()
        assert torch.equal(got[key], value), key


def test_expected_shapes_are_those_of_the_network(sizes, state) -> None:
    shapes = {key: tuple(value.shape) for key, value in without_decoder(state).items()}
    assert expected_shapes(sizes, 9) == shapes


@pytest.mark.parametrize("prefix", ["", "d2v_model.", "module.", "module.d2v_model.", "model."])
@pytest.mark.parametrize("nest", [(), ("model",), ("state_dict",), ("model_state_dict",)])
def test_every_published_form_is_read(sizes, state, path, prefix, nest) -> None:
    saved: Any = {prefix + key: value for key, value in state.items()}
    for name in nest:
        saved = {name: saved, "optimizer": {"state": {0: torch.ones(3)}}, "epoch": 3}
    torch.save(saved, path)
    assert_same(read_weights(path, sizes, NINE), without_decoder(state))


def test_a_head_without_the_prefix_is_read(sizes, state, path) -> None:
    saved = {
        key if key.startswith("proj.") else "d2v_model." + key: value
        for key, value in state.items()
    }
    torch.save({"model": saved}, path)
    assert_same(read_weights(path, sizes, NINE), without_decoder(state))


def test_a_file_in_the_format_before_zip_is_read(sizes, state, path) -> None:
    torch.save({"model": state}, path, _use_new_zipfile_serialization=False)
    assert_same(read_weights(path, sizes, NINE), without_decoder(state))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_become_float32(sizes, state, path, dtype) -> None:
    stored = {key: value.to(dtype) for key, value in state.items()}
    torch.save({"model": stored}, path)
    expected = {key: value.float() for key, value in without_decoder(stored).items()}
    assert_same(read_weights(path, sizes, NINE), expected)


def test_rows_of_unused_classes_are_left_out(sizes, path) -> None:
    labels = LabelSet.from_tokens(LABELS_OF_FIVE_CLASSES)
    state = random_state_dict("tiny")
    torch.save({"model": state}, path)
    weights = read_weights(path, sizes, labels)
    rows = [0, 3, 4, 6, 8]
    assert torch.equal(weights["proj.weight"], state["proj.weight"][rows])
    assert torch.equal(weights["proj.bias"], state["proj.bias"][rows])


def test_one_alibi_scale_stands_for_all_heads(sizes, state, path) -> None:
    state[ALIBI] = torch.full((1, 1, 1, 1, 1), 0.7)
    torch.save({"model": state}, path)
    scale = read_weights(path, sizes, NINE)[ALIBI]
    assert torch.equal(scale, torch.full((1, 1, sizes.num_heads, 1, 1), 0.7))


def test_a_missing_weight_is_named(sizes, state, path) -> None:
    del state["blocks.1.norm1.bias"]
    torch.save({"model": state}, path)
    with pytest.raises(CheckpointError, match=r"no blocks\.1\.norm1\.bias in .*1 of 77.*\(64,\)"):
        read_weights(path, sizes, NINE)


def test_a_weight_of_another_shape_is_named(sizes, state, path) -> None:
    state["blocks.0.mlp.fc1.weight"] = torch.zeros(3, 64)
    torch.save({"model": state}, path)
    with pytest.raises(
        CheckpointError, match=r"\(3, 64\) for blocks\.0\.mlp\.fc1\.weight .* expected \(256, 64\)"
    ):
        read_weights(path, sizes, NINE)


@pytest.mark.parametrize("value", [torch.zeros(64, dtype=torch.int64), 3.0, "text"])
def test_a_weight_that_is_no_tensor_of_floats_is_named(sizes, state, path, value) -> None:
    torch.save({"model": {**state, "blocks.0.norm1.bias": value}}, path)
    with pytest.raises(CheckpointError, match=r"for blocks\.0\.norm1\.bias .* tensor of floats"):
        read_weights(path, sizes, NINE)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_weight_that_is_not_finite_is_named(sizes, state, path, value) -> None:
    state["proj.bias"][0] = value
    torch.save({"model": state}, path)
    with pytest.raises(CheckpointError, match=r"not finite for proj\.bias"):
        read_weights(path, sizes, NINE)


def test_tokens_and_head_that_do_not_fit_are_refused(sizes, state, path) -> None:
    torch.save({"model": state}, path)
    with pytest.raises(CheckpointError, match=r"got 5 lines in .*tokens\.txt, expected 9"):
        read_weights(path, sizes, LabelSet.from_tokens(["a", "b", "c", "d", "e"]))


def test_a_feature_extractor_without_head_is_refused(sizes, state, path) -> None:
    del state["proj.weight"], state["proj.bias"]
    torch.save({"model": state}, path)
    with pytest.raises(CheckpointError, match="feature extractor without classes"):
        read_weights(path, sizes, NINE)


def test_another_network_is_refused(sizes, path) -> None:
    torch.save(torch.nn.Linear(2, 2).state_dict(), path)
    with pytest.raises(CheckpointError, match=r"it holds bias, weight.*another network"):
        read_weights(path, sizes, NINE)


@pytest.mark.parametrize("saved", [torch.ones(2), [torch.ones(2)], 3])
def test_a_file_without_a_dictionary_is_refused(sizes, path, saved) -> None:
    torch.save(saved, path)
    with pytest.raises(CheckpointError, match="expected a dictionary of weights"):
        read_weights(path, sizes, NINE)


class _RunsCode:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("ran",)


@pytest.mark.parametrize("zipped", [True, False])
def test_code_in_a_file_is_never_run(sizes, state, path, tmp_path, monkeypatch, zipped) -> None:
    monkeypatch.chdir(tmp_path)
    saved = {"model": state, "extra": _RunsCode()}
    torch.save(saved, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(CheckpointError, match=r"objects other than tensors .* can run code"):
        read_weights(path, sizes, NINE)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("kept", [0.0, 0.001, 0.5, 0.999])
def test_a_truncated_file_is_refused(sizes, state, path, kept, zipped) -> None:
    torch.save({"model": state}, path, _use_new_zipfile_serialization=zipped)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * kept)])
    with pytest.raises(CheckpointError, match=r"bytes in .*model\.pt that cannot be read"):
        read_weights(path, sizes, NINE)


@pytest.mark.parametrize("data", [b"<html>404</html>", b"\x80\x02.", b"PK\x03\x04", bytes(5000)])
def test_a_file_of_another_kind_is_refused(sizes, path, data) -> None:
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match="got"):
        read_weights(path, sizes, NINE)


def test_a_git_lfs_pointer_is_told_apart(sizes, path) -> None:
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1118000000\n")
    with pytest.raises(CheckpointError, match=r"Git LFS pointer of \d+ bytes.*git lfs pull"):
        read_weights(path, sizes, NINE)


def test_a_missing_file_is_named(sizes, path) -> None:
    with pytest.raises(CheckpointError, match=r"got no .*model\.pt"):
        read_weights(path, sizes, NINE)
