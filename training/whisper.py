"""The published encoder that training of the standard model starts from.

Whisper base (Radford et al. 2022, arXiv 2212.04356; MIT), as CTranslate2 stores it. Its first three
layers are used: for emotion they beat its later ones (see the model card).
"""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ser_engine.models.standard import Encoder, StandardSizes

_TYPES = {0: np.float32, 1: np.int8, 2: np.int16, 3: np.int32, 4: np.float16}


def read_ctranslate2(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a CTranslate2 ``model.bin`` whose types numpy has, as float32.

    Layout, little-endian: u32 version, string name, u32 revision, u32 number of tensors; for each
    a string name, u8 rank, u32 x rank shape, u8 type, u32 bytes, data. A string is a u16 length
    with its closing NUL, then the bytes.

    Raises:
        ValueError: the file ends early.
    """
    tensors = {}
    with path.open("rb") as file:

        def take(layout: str) -> tuple[int, ...]:
            return struct.unpack("<" + layout, file.read(struct.calcsize("<" + layout)))

        def text() -> str:
            return file.read(take("H")[0])[:-1].decode()

        take("I")
        text()
        take("I")
        for _ in range(take("I")[0]):
            name, shape = text(), take(f"{take('B')[0]}I")
            kind, length = take("B")[0], take("I")[0]
            data = file.read(length)
            if len(data) < length:
                raise ValueError(f"got {path} that ends within {name}, expected all its parts")
            if kind in _TYPES:
                array = np.frombuffer(data, _TYPES[kind]).reshape(shape).astype(np.float32)
                tensors[name] = torch.from_numpy(array)
    return tensors


def load_encoder(path: Path, sizes: StandardSizes) -> Encoder:
    """Return the encoder's convolutions and first layers with the published weights."""
    published = read_ctranslate2(path)
    state: dict[str, Tensor] = {}
    for part in ("weight", "bias"):
        for conv in ("conv1", "conv2"):
            state[f"{conv}.{part}"] = published[f"encoder/{conv}/{part}"]
    norm = {"weight": "gamma", "bias": "beta"}
    for index in range(sizes.depth):
        source, target = f"encoder/layer_{index}", f"layers.{index}"
        for part in ("weight", "bias"):
            for ours, theirs in (
                ("norm1", f"self_attention/layer_norm/{norm[part]}"),
                ("norm2", f"ffn/layer_norm/{norm[part]}"),
                ("qkv", f"self_attention/linear_0/{part}"),
                ("out", f"self_attention/linear_1/{part}"),
                ("fc1", f"ffn/linear_0/{part}"),
                ("fc2", f"ffn/linear_1/{part}"),
            ):
                state[f"{target}.{ours}.{part}"] = published[f"{source}/{theirs}"]
    encoder = Encoder(sizes)
    encoder.load_state_dict(state)
    return encoder
