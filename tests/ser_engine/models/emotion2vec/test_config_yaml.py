from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.random_checkpoint import model_config
from ser_engine.errors import CheckpointError
from ser_engine.models.emotion2vec.folder import (
    parse_conv_layers,
    read_sizes,
    sizes_from_config,
)

PUBLISHED_LAYERS = ((512, 10, 5), *[(512, 3, 2)] * 4, *[(512, 2, 2)] * 2)


def config(changes: Mapping[str, object] | None = None, size: str = "base") -> dict[str, Any]:
    """A config.yaml with options changed, by dotted path below model_conf; ... removes one."""
    conf = copy.deepcopy(model_config(size=size))
    for path, value in (changes or {}).items():
        *parents, key = path.split("__")
        section: Any = conf
        for parent in parents:
            section = section[parent]
        if value is ...:
            del section[key]
        else:
            section[key] = value
    return {"model": "Emotion2vec", "model_conf": conf}


AUDIO = "modalities__audio__"


@pytest.mark.parametrize(("size", "dim", "heads"), [("base", 768, 12), ("large", 1024, 16)])
def test_published_sizes_are_read(size: str, dim: int, heads: int) -> None:
    sizes = sizes_from_config(config(size=size), "here")
    assert sizes.conv_layers == PUBLISHED_LAYERS
    assert (sizes.embed_dim, sizes.num_heads) == (dim, heads)
    assert (sizes.prenet_depth, sizes.depth) == (4, 8)
    assert (sizes.mlp_ratio, sizes.hidden_dim) == (4.0, 4 * dim)
    assert sizes.norm_eps == 1e-5
    assert sizes.num_extra_tokens == 10
    assert (sizes.pos_conv_depth, sizes.pos_conv_width, sizes.pos_conv_groups) == (5, 95, 16)
    assert sizes.pos_conv_kernel == 19
    assert sizes.normalize


def test_a_small_number_spelt_as_in_the_published_file_is_a_number(tmp_path: Path) -> None:
    text = yaml.safe_dump(config()).replace("norm_eps: 1.0e-05", "norm_eps: 1e-06")
    assert "1e-06" in text
    (tmp_path / "config.yaml").write_text(text)
    assert read_sizes(tmp_path / "config.yaml").norm_eps == 1e-6


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("layer_norm_first", True),
        ("norm_affine", False),
        ("norm_affine", ...),
        (AUDIO + "extractor_mode", "default"),
        (AUDIO + "extractor_mode", ...),
        (AUDIO + "use_alibi_encoder", False),
        (AUDIO + "use_alibi_encoder", ...),
        (AUDIO + "learned_alibi", True),
        (AUDIO + "learned_alibi_scale_per_layer", True),
        (AUDIO + "conv_pos_pre_ln", True),
        (AUDIO + "num_alibi_heads", 6),
        (AUDIO + "num_extra_tokens", 0),
    ],
)
def test_an_option_that_is_not_computed_is_refused(path: str, value: object) -> None:
    with pytest.raises(CheckpointError, match=rf"got .*{path.split('__')[-1]} in here, expected"):
        sizes_from_config(config({path: value}), "here")


@pytest.mark.parametrize(
    "path", ["layer_norm_first", AUDIO + "learned_alibi", AUDIO + "conv_pos_pre_ln"]
)
def test_an_absent_option_is_off_as_in_funasr(path: str) -> None:
    assert sizes_from_config(config({path: ...}), "here") == sizes_from_config(config(), "here")


def test_an_absent_normalize_is_off_as_in_funasr() -> None:
    assert not sizes_from_config(config({"normalize": ...}), "here").normalize


@pytest.mark.parametrize(
    "path",
    [
        "embed_dim",
        "num_heads",
        "depth",
        "mlp_ratio",
        "norm_eps",
        AUDIO + "prenet_depth",
        AUDIO + "num_extra_tokens",
        AUDIO + "feature_encoder_spec",
        AUDIO + "conv_pos_depth",
        AUDIO + "conv_pos_width",
        AUDIO + "conv_pos_groups",
    ],
)
@pytest.mark.parametrize("value", [..., "many", None, -1, [1]])
def test_a_size_that_is_absent_or_no_number_is_named(path: str, value: object) -> None:
    with pytest.raises(CheckpointError, match=path.replace("__", r"\.")):
        sizes_from_config(config({path: value}), "here")


@pytest.mark.parametrize("key", ["num_heads", AUDIO + "conv_pos_groups"])
def test_sizes_that_do_not_divide_are_refused(key: str) -> None:
    changes: dict[str, Any] = {key: 7}
    if key == "num_heads":
        changes[AUDIO + "num_alibi_heads"] = 7
    with pytest.raises(CheckpointError, match="expected a multiple"):
        sizes_from_config(config(changes), "here")


@pytest.mark.parametrize(
    "spec",
    ["[(512, 10, 5)]", "[(512, 10, 5)] + [(512, 3, 2)] * 5 + [(512, 2, 2)]", "[(8, 400, 320)] * 2"],
)
def test_another_frame_grid_is_refused(spec: str) -> None:
    with pytest.raises(CheckpointError, match="hop of"):
        sizes_from_config(config({AUDIO + "feature_encoder_spec": spec}), "here")


def test_a_kernel_beyond_two_strides_is_refused() -> None:
    spec = "[(512, 16, 5)]"
    with pytest.raises(CheckpointError, match="kernel 16 and stride 5"):
        sizes_from_config(config({AUDIO + "feature_encoder_spec": spec}), "here")


def test_another_network_is_refused() -> None:
    with pytest.raises(CheckpointError, match=r"'Paraformer'.*expected Emotion2vec"):
        sizes_from_config({"model": "Paraformer", "model_conf": {}}, "here")


@pytest.mark.parametrize("values", [None, [], "text", {}, {"model_conf": {"modalities": None}}])
def test_a_file_of_another_shape_is_refused(values: object) -> None:
    with pytest.raises(CheckpointError, match="got"):
        sizes_from_config(values, "here")


def test_a_file_that_is_no_yaml_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_bytes(b"\xff\xfe: [")
    with pytest.raises(CheckpointError, match="cannot be read"):
        read_sizes(tmp_path / "config.yaml")
    with pytest.raises(CheckpointError, match="got no "):
        read_sizes(tmp_path / "other.yaml")


def test_conv_layers_in_the_spellings_seen() -> None:
    assert parse_conv_layers("[(512, 10, 5)] + [(512, 3, 2)] * 4 + [(512,2,2)] * 2")
    assert (
        parse_conv_layers("[(512, 10, 5)] + [(512, 3, 2)] * 4 + [(512,2,2)] + [(512,2,2)]")
        == PUBLISHED_LAYERS
    )
    assert parse_conv_layers("2 * [(1, 2, 3)]") == ((1, 2, 3), (1, 2, 3))


layers = st.lists(
    st.tuples(st.integers(1, 999), st.integers(1, 99), st.integers(1, 9)), min_size=1, max_size=4
)


@given(st.lists(st.tuples(layers, st.integers(1, 4)), min_size=1, max_size=4))
def test_conv_layers_mean_what_python_means(parts: list[tuple[list[Any], int]]) -> None:
    spec = " + ".join(f"{part} * {times}" for part, times in parts)
    expected = tuple(layer for part, times in parts for layer in part * times)
    assert parse_conv_layers(spec) == expected


@pytest.mark.parametrize(
    "spec",
    [
        "__import__('os').getcwd()",
        "[(512, 10, 5)] * 10 ** 9",
        "[(1, 2, 3)] * 65",
        "[(1, 2, 3)] * 64 + [(1, 2, 3)]",
        "[(1, 2, 3)] * -1",
        "[(1, 2, 3)] * True",
        "[(x, 2, 3)]",
        "[(1, 2)]",
        "[(1, 2, 3.5)]",
        "[i for i in ()]",
        "[]",
        "5",
        "",
        "(" * 500,
        "[(1, 2, 3)] * 0",
    ],
)
def test_conv_layers_of_any_other_kind_are_refused(spec: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        parse_conv_layers(spec)
    with pytest.raises(CheckpointError, match="feature_encoder_spec"):
        sizes_from_config(config({AUDIO + "feature_encoder_spec": spec}), "here")
