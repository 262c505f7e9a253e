"""Read a model folder as FunASR publishes it: ``config.yaml``, ``tokens.txt``, ``model.pt``.

::

    emotion2vec_plus_base/
    ├── config.yaml          sizes and options
    ├── tokens.txt           one class a line
    ├── model.pt             weights, with or without training state
    └── configuration.json   optional: what the hubs call it

FunASR reads ``config.yaml`` through OmegaConf without a schema: a key that is not there is None,
which switches an option off, and a number it cannot do without fails inside the network. The rules
here are the same: options that are absent are off, sizes that are absent are an error that names
them. Every option that changes what the network computes at inference is looked at; the rest
(dropout, masking, decoder, losses) is ignored.

Source: ``funasr/models/emotion2vec/{model,audio,base,modules}.py``.
"""

from __future__ import annotations

import ast
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from ser_engine.errors import CheckpointError
from ser_engine.frames import HOP_SAMPLES, RECEPTIVE_FIELD_SAMPLES
from ser_engine.labels import LabelSet
from ser_engine.models.emotion2vec import Emotion2vecSizes
from ser_engine.models.emotion2vec.checkpoint import Emotion2vecCheckpoint, read_weights
from ser_engine.models.emotion2vec.reference import (
    CONFIG_FILE,
    PUBLISHED_FILES,
    TOKENS_FILE,
    WEIGHTS_FILE,
)
from ser_engine.types import ModelInfo

_MAX_CONV_LAYERS = 64
_ADVICE = "fetch the folder again from its publisher"


def read_sizes(path: Path) -> Emotion2vecSizes:
    """Read the sizes of the network a ``config.yaml`` describes.

    Raises:
        CheckpointError: the file is missing, is not YAML, describes another network, or sets an
            option that this package does not compute.
    """
    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(f"got no {path}, expected the model's settings; {_ADVICE}") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise CheckpointError(
            f"got {path} that cannot be read ({error}), expected YAML; {_ADVICE}"
        ) from error
    return sizes_from_config(config, str(path))


def sizes_from_config(config: object, where: str) -> Emotion2vecSizes:
    """Read the sizes from a parsed ``config.yaml``; ``where`` names it in errors.

    Raises:
        CheckpointError: as :func:`read_sizes`.
    """
    top = _Section(config, where, "")
    network = top.get("model")
    if network not in (None, "Emotion2vec"):
        raise CheckpointError(
            f"got model: {network!r} in {where}, expected Emotion2vec; this folder holds another"
            " network"
        )
    conf = top.section("model_conf")
    audio = conf.section("modalities").section("audio")
    conf.expect("layer_norm_first", False, "blocks that normalise after each part (post-norm)")
    conf.expect("norm_affine", True, "LayerNorms with weights")
    audio.expect("extractor_mode", "layer_norm", "an extractor with LayerNorm in every layer")
    audio.expect("use_alibi_encoder", True, "attention biased by distance (ALiBi)")
    audio.expect("learned_alibi", False, "the fixed ALiBi bias")
    audio.expect("learned_alibi_scale_per_layer", False, "one ALiBi scale for all layers")
    audio.expect("conv_pos_pre_ln", False, "a positional encoder without a LayerNorm in front")
    spec = audio.get("feature_encoder_spec")
    if not isinstance(spec, str):
        raise audio.error("feature_encoder_spec", "text such as [(512, 10, 5)] + [(512, 3, 2)] * 4")
    try:
        conv_layers = parse_conv_layers(spec)
    except ValueError as error:
        raise CheckpointError(
            f"got {audio.path('feature_encoder_spec')} {spec!r} in {where}: {error}"
        ) from None
    sizes = Emotion2vecSizes(
        conv_layers=conv_layers,
        embed_dim=conf.integer("embed_dim"),
        num_heads=conf.integer("num_heads"),
        prenet_depth=audio.integer("prenet_depth", low=0),
        depth=conf.integer("depth", low=0),
        mlp_ratio=conf.number("mlp_ratio"),
        norm_eps=conf.number("norm_eps"),
        num_extra_tokens=audio.integer("num_extra_tokens"),
        pos_conv_depth=audio.integer("conv_pos_depth"),
        pos_conv_width=audio.integer("conv_pos_width"),
        pos_conv_groups=audio.integer("conv_pos_groups"),
        normalize=conf.flag("normalize"),
    )
    if audio.integer("num_alibi_heads") != sizes.num_heads:
        raise audio.error("num_alibi_heads", f"{sizes.num_heads}, as model_conf.num_heads")
    _check_sizes(sizes, where)
    return sizes


def parse_conv_layers(spec: str) -> tuple[tuple[int, int, int], ...]:
    """Read ``(channels, kernel, stride)`` layers from lists joined with ``+`` and ``*``.

    Only lists of three whole numbers, addition and repetition are understood; nothing is run.

    Raises:
        ValueError: there is anything else in ``spec``, or more than 64 layers.
    """
    try:
        tree = ast.parse(spec.strip(), mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise ValueError("expected a Python list of (channels, kernel, stride)") from None
    layers = _layers_of(tree.body)
    if not layers:
        raise ValueError("expected at least one layer")
    return layers


def _layers_of(node: ast.expr) -> tuple[tuple[int, int, int], ...]:
    layers: tuple[tuple[int, int, int], ...]
    if isinstance(node, ast.List):
        layers = tuple(_layer_of(item) for item in node.elts)
    elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        layers = _layers_of(node.left) + _layers_of(node.right)
    elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult):
        left, right = node.left, node.right
        if isinstance(left, ast.Constant):
            left, right = right, left
        once = _layers_of(left)
        times = _integer_of(right)
        if times * len(once) > _MAX_CONV_LAYERS:
            raise ValueError(f"expected at most {_MAX_CONV_LAYERS} layers")
        layers = once * times
    else:
        raise ValueError("expected lists of (channels, kernel, stride) joined with + and * only")
    if len(layers) > _MAX_CONV_LAYERS:
        raise ValueError(f"expected at most {_MAX_CONV_LAYERS} layers")
    return layers


def _layer_of(node: ast.expr) -> tuple[int, int, int]:
    if not isinstance(node, ast.Tuple | ast.List) or len(node.elts) != 3:
        raise ValueError("expected three numbers a layer: (channels, kernel, stride)")
    channels, kernel, stride = (_integer_of(item) for item in node.elts)
    return channels, kernel, stride


def _integer_of(node: ast.expr) -> int:
    if isinstance(node, ast.Constant) and type(node.value) is int and 1 <= node.value <= 65_536:
        return node.value
    raise ValueError("expected whole numbers from 1 to 65536")


def _check_sizes(sizes: Emotion2vecSizes, where: str) -> None:
    hop = 1
    field = 1
    for _, kernel, stride in sizes.conv_layers:
        if not stride <= kernel <= 2 * stride:
            raise CheckpointError(
                f"got an extractor layer with kernel {kernel} and stride {stride} in {where},"
                " expected a kernel of one to two strides"
            )
        field += (kernel - 1) * hop
        hop *= stride
    if (hop, field) != (HOP_SAMPLES, RECEPTIVE_FIELD_SAMPLES):
        raise CheckpointError(
            f"got an extractor with a hop of {hop} and a receptive field of {field} samples in"
            f" {where}, expected {HOP_SAMPLES} and {RECEPTIVE_FIELD_SAMPLES}"
        )
    for name, divisor in (
        ("num_heads", sizes.num_heads),
        ("conv_pos_groups", sizes.pos_conv_groups),
    ):
        if sizes.embed_dim % divisor:
            raise CheckpointError(
                f"got embed_dim {sizes.embed_dim} with {name} {divisor} in {where}, expected a"
                " multiple"
            )


class _Section:
    """One mapping of the file, which knows its own path for messages."""

    def __init__(self, values: object, where: str, prefix: str) -> None:
        if not isinstance(values, Mapping):
            name = prefix.rstrip(".") or "the file"
            raise CheckpointError(
                f"got no settings under {name} in {where}, expected those of an emotion2vec"
                f" network; {_ADVICE}"
            )
        self._values: Mapping[Any, Any] = values
        self._where = where
        self._prefix = prefix

    def path(self, key: str) -> str:
        return self._prefix + key

    def get(self, key: str) -> object:
        value: object = self._values.get(key)
        return value

    def section(self, key: str) -> _Section:
        return _Section(self.get(key), self._where, f"{self.path(key)}.")

    def error(self, key: str, expected: str) -> CheckpointError:
        got = repr(self._values[key]) if key in self._values else "nothing"
        return CheckpointError(
            f"got {got} for {self.path(key)} in {self._where}, expected {expected}"
        )

    def expect(self, key: str, expected: object, meaning: str) -> None:
        """Check an option of which one value is computed; absent counts as off."""
        value = self.get(key)
        if (bool(value) if isinstance(expected, bool) else value) != expected:
            raise self.error(key, f"{expected} ({meaning}), the only kind computed here")

    def flag(self, key: str) -> bool:
        value = self.get(key)
        if value is not None and not isinstance(value, bool):
            raise self.error(key, "true or false")
        return bool(value)

    def integer(self, key: str, *, low: int = 1) -> int:
        value = self.get(key)
        if type(value) is not int or not low <= value <= 1_000_000:
            raise self.error(key, f"a whole number of at least {low}")
        return value

    def number(self, key: str) -> float:
        value = self.get(key)
        # YAML 1.1 as PyYAML reads it takes 1e-05, the way these files spell it, for text.
        try:
            number = float(value) if isinstance(value, int | float | str) else float("nan")
        except ValueError:
            number = float("nan")
        if not 0 < number < 1_000_000:
            raise self.error(key, "a number above 0")
        return number


HUB_FILE = "configuration.json"

FUNASR_LICENCE = (
    "FunASR Model License 1.1, https://github.com/modelscope/FunASR/blob/main/MODEL_LICENSE"
    " (attribution; keep the model's name; for reference and learning)"
)
"""Licence the publisher names for the weights. The folder's files do not repeat it."""

_UNSTATED_LICENCE = "not stated in the model's folder; ask its publisher"


ABSTAIN_BELOW = 0.5
"""Its publisher measured no such threshold. Below one half the model itself says that the label is
likelier wrong than right."""


def load_folder(folder: Path, *, name: str | None = None) -> Emotion2vecCheckpoint:
    """Read a published folder. Nothing is written.

    Args:
        name: name of the model; None: as its files or its folder call it.

    Raises:
        CheckpointError: the folder or a file is missing, damaged, or of another network.
    """
    check_folder(folder)
    sizes = read_sizes(folder / CONFIG_FILE)
    labels = read_labels(folder / TOKENS_FILE)
    weights = folder / WEIGHTS_FILE
    tensors = read_weights(weights, sizes, labels)
    named = name or model_name(folder)
    with weights.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    info = ModelInfo(
        name=named,
        source=str(folder.resolve()),
        licence=FUNASR_LICENCE if named.startswith("emotion2vec") else _UNSTATED_LICENCE,
        sha256=sha256,
        labels=labels,
        embedding_dim=sizes.embed_dim,
        abstain_below=ABSTAIN_BELOW,
    )
    return Emotion2vecCheckpoint(info, tensors, sizes)


def check_folder(folder: Path) -> None:
    """Raise :class:`CheckpointError` unless ``folder`` has all files of a published model."""
    if not folder.is_dir():
        got = "a file" if folder.exists() else "nothing"
        raise CheckpointError(
            f"got {got} at {folder}, expected a folder with {CONFIG_FILE}, {TOKENS_FILE} and"
            f" {WEIGHTS_FILE}; check model.name"
        )
    missing = [name for name in PUBLISHED_FILES if not (folder / name).is_file()]
    if missing:
        raise CheckpointError(
            f"got {folder} without {' and '.join(missing)}, expected {', '.join(PUBLISHED_FILES)};"
            " fetch the folder again from its publisher"
        )


def read_labels(path: Path) -> LabelSet:
    """Read a ``tokens.txt``; blank lines at its end do not count.

    Raises:
        CheckpointError: the file is missing, is no text, or names no or repeated classes.
    """
    try:
        tokens = path.read_text(encoding="utf-8-sig").rstrip().split("\n")
        return LabelSet.from_tokens([token.strip() for token in tokens])
    except FileNotFoundError:
        raise CheckpointError(f"got no {path}, expected one class name a line") from None
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"got {path} that cannot be read: {error}; fetch the folder again from its publisher"
        ) from error


def model_name(folder: Path) -> str:
    """Return what ``configuration.json``, the hub's cache or the folder's name calls a model."""
    try:
        facts = json.loads((folder / HUB_FILE).read_text(encoding="utf-8"))
        hubs = facts["model_name_in_hub"]
        named = next((str(hub) for hub in (hubs["ms"], hubs["hf"]) if hub), "")
    except (OSError, ValueError, KeyError, TypeError):
        named = ""
    folder = folder.resolve()
    if not named and folder.parent.name == "snapshots":
        # Hub caches: <organisation>--<name>/snapshots/<revision>.
        named = folder.parent.parent.name.split("--")[-1]
    return named.split("/")[-1] or folder.name
