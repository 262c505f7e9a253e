"""The weights of a published ``model.pt``: read the tensors inference needs, and no others.

A published file holds more than the network: FunASR's trainer saves the optimiser's state, which
is twice the size of the weights, and the decoder of the pre-training. The file is mapped, not
read, so that only the pages of wanted tensors ever become resident, and it is opened with
``weights_only``: an object of any other kind than tensors and plain containers is refused, never
unpickled.

Source of the names: ``funasr/models/emotion2vec``; of the nesting and prefixes:
``funasr/train_utils/load_pretrained_model.py``.
"""

from __future__ import annotations

import pickle
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ser_engine.config import RuntimeName
from ser_engine.errors import CheckpointError
from ser_engine.labels import LabelSet
from ser_engine.models.emotion2vec import Emotion2vecSizes, build
from ser_engine.models.model import Checkpoint, Network
from ser_engine.types import Core


@dataclass(frozen=True, slots=True, eq=False)
class Emotion2vecCheckpoint(Checkpoint):
    """An emotion2vec(+) network in memory, whatever its weights were saved with.

    ``tensors`` bear FunASR's own names without ``d2v_model.`` prefixes. There are only those
    inference needs; rows of ``proj`` for unused classes are already left out.
    """

    sizes: Emotion2vecSizes

    def build(self) -> Network:
        return build(self.sizes, self.tensors)

    def open_engine(self, runtime: RuntimeName, device: str, threads: int) -> Core | None:
        """Return FunASR itself for the runtime ``funasr``."""
        if runtime != "funasr":
            return None
        from ser_engine.models.emotion2vec.reference import FunasrEngine

        return FunasrEngine(self.info, device, threads)


_AUDIO = "modality_encoders.AUDIO."
_ALIBI_SCALE = f"{_AUDIO}alibi_scale"
_NESTS = ("state_dict", "model_state_dict", "model")
_PREFIXES = ("d2v_model.", "module.d2v_model.", "module.", "model.", "")
_LFS_POINTER = b"version https://git-lfs"
_NAMES_CODE = r"(?i)unsupported global|unsupported class|reduce for|new object"
"""What PyTorch's weights-only reader says of a file that names a class or a function."""
_ADVICE = "fetch the folder again from its publisher"


def expected_shapes(sizes: Emotion2vecSizes, num_classes: int) -> dict[str, tuple[int, ...]]:
    """Return the name and shape of every tensor inference uses; ``num_classes`` rows of head."""
    dim = sizes.embed_dim
    shapes: dict[str, tuple[int, ...]] = {
        f"{_AUDIO}extra_tokens": (1, sizes.num_extra_tokens, dim),
        _ALIBI_SCALE: (1, 1, sizes.num_heads, 1, 1),
    }

    def layer(name: str, *weight: int) -> None:
        shapes[f"{name}.weight"] = weight
        shapes[f"{name}.bias"] = weight[:1]

    channels = 1
    for i, (out, kernel, _) in enumerate(sizes.conv_layers):
        conv = f"{_AUDIO}local_encoder.conv_layers.{i}"
        shapes[f"{conv}.0.weight"] = (out, channels, kernel)
        layer(f"{conv}.2.1", out)
        channels = out
    layer(f"{_AUDIO}project_features.1", channels)
    layer(f"{_AUDIO}project_features.2", dim, channels)
    for i in range(1, sizes.pos_conv_depth + 1):
        grouped = dim // sizes.pos_conv_groups
        position = f"{_AUDIO}relative_positional_encoder.{i}.0"
        layer(position, dim, grouped, sizes.pos_conv_kernel)
    layer(f"{_AUDIO}context_encoder.norm", dim)
    blocks = [f"{_AUDIO}context_encoder.blocks.{i}" for i in range(sizes.prenet_depth)]
    blocks += [f"blocks.{i}" for i in range(sizes.depth)]
    for block in blocks:
        layer(f"{block}.norm1", dim)
        layer(f"{block}.attn.qkv", 3 * dim, dim)
        layer(f"{block}.attn.proj", dim, dim)
        layer(f"{block}.norm2", dim)
        layer(f"{block}.mlp.fc1", sizes.hidden_dim, dim)
        layer(f"{block}.mlp.fc2", dim, sizes.hidden_dim)
    layer("proj", num_classes, dim)
    return shapes


def read_weights(path: Path, sizes: Emotion2vecSizes, labels: LabelSet) -> dict[str, torch.Tensor]:
    """Return the float32 weights of a ``model.pt``, under FunASR's names without prefixes.

    ``proj`` keeps the rows of usable classes only. Tensors that were stored as float32 still
    refer to the mapped file: it must not be overwritten in place while they are in use.

    Raises:
        CheckpointError: the file is missing, damaged or holds another network.
    """
    state = _open(path)
    weights: dict[str, torch.Tensor] = {}
    shapes = expected_shapes(sizes, labels.num_tokens)
    missing = [key for key in shapes if _stored_name(state, key) is None]
    if len(missing) == len(shapes):
        found = ", ".join(sorted(map(str, state))[:3]) or "nothing"
        raise CheckpointError(
            f"got none of the weights of an emotion2vec network in {path} (it holds {found} ...);"
            " this file holds another network"
        )
    if "proj.weight" in missing:
        raise CheckpointError(
            f"got no proj.weight in {path}, expected a head with {labels.num_tokens} classes; this"
            " is a feature extractor without classes, use an emotion2vec_plus model"
        )
    if missing:
        raise CheckpointError(
            f"got no {missing[0]} in {path} ({len(missing)} of {len(shapes)} weights are missing),"
            f" expected shape {shapes[missing[0]]}; {_ADVICE}"
        )
    for key, shape in shapes.items():
        stored = state[str(_stored_name(state, key))]
        if not isinstance(stored, torch.Tensor) or not stored.is_floating_point():
            raise CheckpointError(
                f"got {_kind(stored)} for {key} in {path}, expected a tensor of floats; {_ADVICE}"
            )
        if key == _ALIBI_SCALE and tuple(stored.shape) == (1, 1, 1, 1, 1):
            # One scale for all heads: learned_alibi_scale_per_head is off.
            stored = stored.expand(shape)
        weights[key] = stored.detach().to(torch.float32).contiguous()
    _check_head(weights, labels, path)
    check_tensors(weights, shapes, str(path))
    _check_finite(weights, path)
    rows = list(labels.head_rows)
    if len(rows) != labels.num_tokens:
        weights["proj.weight"] = weights["proj.weight"][rows].clone()
        weights["proj.bias"] = weights["proj.bias"][rows].clone()
    return weights


def check_tensors(
    tensors: Mapping[str, torch.Tensor], shapes: Mapping[str, tuple[int, ...]], where: str
) -> None:
    """Check that every tensor of ``shapes`` is there and has its shape.

    Raises:
        CheckpointError: one is not or has not; the message names it and ``where``.
    """
    for key, shape in shapes.items():
        if key not in tensors:
            raise CheckpointError(f"got no {key} in {where}, expected shape {shape}; {_ADVICE}")
        got = tuple(tensors[key].shape)
        if got != shape:
            raise CheckpointError(
                f"got shape {got} for {key} in {where}, expected {shape} by its config.yaml;"
                f" {_ADVICE}"
            )


def _check_finite(tensors: Mapping[str, torch.Tensor], path: Path) -> None:
    for key, tensor in tensors.items():
        if not bool(torch.isfinite(tensor).all()):
            raise CheckpointError(f"got numbers that are not finite for {key} in {path}; {_ADVICE}")


def _open(path: Path) -> Mapping[str, Any]:
    try:
        with path.open("rb") as file:
            start = file.read(len(_LFS_POINTER))
        size = path.stat().st_size
    except FileNotFoundError:
        raise CheckpointError(f"got no {path}, expected the model's weights; {_ADVICE}") from None
    except OSError as error:
        raise CheckpointError(f"got {path} that cannot be read ({error}); {_ADVICE}") from error
    if start == _LFS_POINTER:
        raise CheckpointError(
            f"got a Git LFS pointer of {size} bytes in {path}, expected the weights; run `git lfs"
            " pull` in the folder or download the file itself"
        )
    try:
        # Files older than PyTorch 1.6 are no zip archives and cannot be mapped.
        state = torch.load(
            path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path)
        )
    except pickle.UnpicklingError as error:
        if re.search(_NAMES_CODE, str(error)):
            raise CheckpointError(
                f"got objects other than tensors in {path}, expected weights only; the file was"
                " not opened further because such objects can run code. Use the published one"
            ) from error
        raise _damaged(path, size, error) from error
    except Exception as error:  # Whatever a parser says of bytes that mean nothing.
        raise _damaged(path, size, error) from error
    for nest in _NESTS:
        if isinstance(state, Mapping) and isinstance(state.get(nest), Mapping):
            state = state[nest]
    if not isinstance(state, Mapping):
        raise CheckpointError(
            f"got {_kind(state)} in {path}, expected a dictionary of weights; {_ADVICE}"
        )
    return state


def _damaged(path: Path, size: int, error: Exception) -> CheckpointError:
    said = str(error).split("WeightsUnpickler error:")[-1].strip()
    reason = (said.splitlines() or [type(error).__name__])[0][:200]
    return CheckpointError(
        f"got {size} bytes in {path} that cannot be read as PyTorch weights ({reason}); the file is"
        f" cut short or is something else, {_ADVICE}"
    )


def _stored_name(state: Mapping[str, Any], key: str) -> str | None:
    return next((prefix + key for prefix in _PREFIXES if prefix + key in state), None)


def _check_head(weights: Mapping[str, torch.Tensor], labels: LabelSet, path: Path) -> None:
    rows = weights["proj.weight"].shape[0]
    if rows != labels.num_tokens:
        raise CheckpointError(
            f"got {labels.num_tokens} lines in {path.parent / 'tokens.txt'}, expected {rows}, one"
            f" for each row of proj.weight in {path.name}; the two files are not of one model"
        )


def _kind(value: object) -> str:
    if isinstance(value, torch.Tensor):
        return f"a tensor of {str(value.dtype).removeprefix('torch.')}"
    return f"a value of type {type(value).__name__}"
