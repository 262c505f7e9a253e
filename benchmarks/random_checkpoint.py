"""Makes model folders as FunASR publishes emotion2vec(+), with random weights.

No published weight is used or fetched: such a folder is for shapes, loading, latency and memory.
What it says about emotion means nothing. Every tensor has the name, shape and distribution that
FunASR's own module gives it before training.

Run it as a command::

    python -m benchmarks.random_checkpoint FOLDER --size base
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml

LABELS = (
    "生气/angry",
    "厌恶/disgusted",
    "恐惧/fearful",
    "开心/happy",
    "中立/neutral",
    "其他/other",
    "难过/sad",
    "吃惊/surprised",
    "<unk>",
)
"""The published ``tokens.txt``: 119 bytes without a final newline."""

LABELS_OF_FIVE_CLASSES = (
    "生气/angry",
    "unuse_0",
    "unuse_1",
    "开心/happy",
    "中立/neutral",
    "unuse_2",
    "难过/sad",
    "unuse_3",
    "<unk>",
)
"""An older ``tokens.txt`` whose head has four slots without a class: 90 bytes with a newline."""


@dataclass(frozen=True, slots=True)
class NetworkSize:
    """The sizes that tell the published networks apart.

    Attributes:
        prenet_depth: blocks of the audio-specific part.
        depth: blocks of the shared part.
        conv_channels: width of the convolutional extractor.
        decoder_dim: width of the pre-training decoder, which inference never uses.
        clone_batch: a pre-training setting, kept as published.
    """

    embed_dim: int
    num_heads: int
    prenet_depth: int
    depth: int
    conv_channels: int
    decoder_dim: int
    clone_batch: int


SIZES: Mapping[str, NetworkSize] = {
    "tiny": NetworkSize(64, 4, 1, 2, 32, 32, 2),
    "base": NetworkSize(768, 12, 4, 8, 512, 384, 8),
    "large": NetworkSize(1024, 16, 4, 8, 512, 768, 12),
}
"""``base`` is also the size of *seed*. ``tiny`` was never published: it is for unit tests."""

_CONV_KERNELS_STRIDES = ((10, 5), (3, 2), (3, 2), (3, 2), (3, 2), (2, 2), (2, 2))
_MLP_RATIO = 4
_EXTRA_TOKENS = 10
_POS_CONV_DEPTH, _POS_CONV_WIDTH, _POS_CONV_GROUPS = 5, 95, 16
_DECODER_LAYERS, _DECODER_KERNEL, _DECODER_GROUPS = 4, 7, 16


def model_config(size: str) -> dict[str, Any]:
    """Return the ``model_conf`` section of the published ``config.yaml``.

    The decoder section is always there, as published, also where the weights have no decoder.
    """
    sizes = SIZES[size]
    width = sizes.conv_channels
    return {
        "loss_beta": 0.0,
        "loss_scale": None,
        "depth": sizes.depth,
        "start_drop_path_rate": 0.0,
        "end_drop_path_rate": 0.0,
        "num_heads": sizes.num_heads,
        "norm_eps": 1e-05,
        "norm_affine": True,
        "encoder_dropout": 0.1,
        "post_mlp_drop": 0.1,
        "attention_dropout": 0.1,
        "activation_dropout": 0.0,
        "dropout_input": 0.0,
        "layerdrop": 0.05,
        "embed_dim": sizes.embed_dim,
        "mlp_ratio": float(_MLP_RATIO),
        "layer_norm_first": False,
        "average_top_k_layers": sizes.depth * 2 if size == "large" else sizes.depth,
        "end_of_block_targets": False,
        "clone_batch": sizes.clone_batch,
        "normalize": True,
        "supported_modality": "AUDIO",
        "extractor_mode": "layer_norm",
        "modalities": {
            "audio": {
                "type": "AUDIO",
                "prenet_depth": sizes.prenet_depth,
                "prenet_layerdrop": 0.05,
                "prenet_dropout": 0.1,
                "start_drop_path_rate": 0.0,
                "end_drop_path_rate": 0.0,
                "num_extra_tokens": _EXTRA_TOKENS,
                "init_extra_token_zero": True,
                "mask_noise_std": 0.01,
                "mask_prob_min": None,
                "mask_prob": 0.5,
                "inverse_mask": False,
                "mask_prob_adjust": 0.05,
                "keep_masked_pct": 0.0,
                "mask_length": 5,
                "add_masks": False,
                "remove_masks": False,
                "mask_dropout": 0.0,
                "encoder_zero_mask": True,
                "mask_channel_prob": 0.0,
                "mask_channel_length": 64,
                "ema_local_encoder": False,
                "local_grad_mult": 1.0,
                "use_alibi_encoder": True,
                "alibi_scale": 1.0,
                "learned_alibi": False,
                "alibi_max_pos": None,
                "learned_alibi_scale": True,
                "learned_alibi_scale_per_head": True,
                "learned_alibi_scale_per_layer": False,
                "num_alibi_heads": sizes.num_heads,
                "model_depth": sizes.depth,
                "decoder": {
                    "decoder_dim": sizes.decoder_dim,
                    "decoder_groups": _DECODER_GROUPS,
                    "decoder_kernel": _DECODER_KERNEL,
                    "decoder_layers": _DECODER_LAYERS,
                    "input_dropout": 0.1,
                    "add_positions_masked": False,
                    "add_positions_all": False,
                    "decoder_residual": True,
                    "projection_layers": 1,
                    "projection_ratio": 2.0,
                },
                "extractor_mode": "layer_norm",
                "feature_encoder_spec": (
                    f"[({width}, 10, 5)] + [({width}, 3, 2)] * 4"
                    f" + [({width},2,2)] + [({width},2,2)]"
                ),
                "conv_pos_width": _POS_CONV_WIDTH,
                "conv_pos_groups": _POS_CONV_GROUPS,
                "conv_pos_depth": _POS_CONV_DEPTH,
                "conv_pos_pre_ln": False,
            }
        },
    }


def random_state_dict(
    size: str, *, num_tokens: int = len(LABELS), with_decoder: bool = False, seed: int = 0
) -> dict[str, torch.Tensor]:
    """Return float32 weights under FunASR's names and in its order.

    ``size``: a key of :data:`SIZES`. The published files leave the pre-training decoder out.
    """
    return dict(_tensors(SIZES[size], num_tokens, with_decoder, seed))


def write_random_checkpoint(
    folder: Path | str,
    size: str = "tiny",
    *,
    labels: Sequence[str] = LABELS,
    final_newline: bool = False,
    with_decoder: bool = False,
    prefix: str = "",
    optimiser_state: bool = False,
    seed: int = 0,
) -> Path:
    """Write ``config.yaml``, ``configuration.json``, ``tokens.txt`` and ``model.pt``.

    Args:
        folder: where to write; made if missing.
        size: a key of :data:`SIZES`.
        labels: lines of ``tokens.txt``, one for each row of the head.
        final_newline: whether ``tokens.txt`` ends with one; the published file does not.
        with_decoder: also the pre-training decoder, which the published files leave out.
        prefix: put in front of each encoder tensor's name, e.g. ``d2v_model.``. The head's
            ``proj`` keeps its own name.
        optimiser_state: also Adam's two moments of every tensor, which triples ``model.pt``.
        seed: the same seed gives the same weights.

    Returns:
        The folder.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    state = random_state_dict(size, num_tokens=len(labels), with_decoder=with_decoder, seed=seed)
    named = {
        name if name.startswith("proj.") else prefix + name: tensor
        for name, tensor in state.items()
    }
    saved: dict[str, Any] = {"model": named}
    if optimiser_state:
        saved |= {"last_optimizer_state": _adam_state(named), "extra_state": {"epoch": 1}}
    torch.save(saved, folder / "model.pt")

    config = {
        "model": "Emotion2vec",
        "model_conf": model_config(size),
        "tokenizer": "CharTokenizer",
        "tokenizer_conf": {"unk_symbol": "<unk>", "split_with_space": True},
        "scope_map": ["d2v_model.", "none"],
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
    tokens = "\n".join(labels) + ("\n" if final_newline else "")
    (folder / "tokens.txt").write_text(tokens, encoding="utf-8", newline="\n")
    hub_facts = {
        "framework": "pytorch",
        "task": "emotion-recognition",
        "pipeline": {"type": "funasr-pipeline"},
        "model": {"type": "funasr"},
        "file_path_metas": {
            "init_param": "model.pt",
            "tokenizer_conf": {"token_list": "tokens.txt"},
            "config": "config.yaml",
        },
        "model_name_in_hub": {"ms": "", "hf": ""},
    }
    (folder / "configuration.json").write_text(json.dumps(hub_facts, indent=2), encoding="utf-8")
    return folder


def _tensors(
    sizes: NetworkSize, num_tokens: int, with_decoder: bool, seed: int
) -> Iterator[tuple[str, torch.Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    dim, channels = sizes.embed_dim, sizes.conv_channels
    audio = "modality_encoders.AUDIO"

    def affine(name: str, *shape: int) -> Iterator[tuple[str, torch.Tensor]]:
        """Yield a linear or convolutional layer as PyTorch makes it by default."""
        bound = 1 / math.sqrt(math.prod(shape[1:]))
        for part, part_shape in (("weight", shape), ("bias", shape[:1])):
            values = torch.empty(part_shape).uniform_(-bound, bound, generator=generator)
            yield f"{name}.{part}", values

    def norm(name: str, width: int) -> Iterator[tuple[str, torch.Tensor]]:
        yield f"{name}.weight", torch.ones(width)
        yield f"{name}.bias", torch.zeros(width)

    def block(name: str) -> Iterator[tuple[str, torch.Tensor]]:
        yield from norm(f"{name}.norm1", dim)
        yield from affine(f"{name}.attn.qkv", 3 * dim, dim)
        yield from affine(f"{name}.attn.proj", dim, dim)
        yield from norm(f"{name}.norm2", dim)
        yield from affine(f"{name}.mlp.fc1", _MLP_RATIO * dim, dim)
        yield from affine(f"{name}.mlp.fc2", dim, _MLP_RATIO * dim)

    extra_tokens = torch.randn(1, _EXTRA_TOKENS, dim, generator=generator)
    extra_tokens[:, 0] = 0
    yield f"{audio}.extra_tokens", extra_tokens
    yield f"{audio}.alibi_scale", torch.ones(1, 1, sizes.num_heads, 1, 1)

    fan_in = 1
    for layer, (kernel, _) in enumerate(_CONV_KERNELS_STRIDES):
        name = f"{audio}.local_encoder.conv_layers.{layer}"
        std = math.sqrt(2 / (fan_in * kernel))
        yield (
            f"{name}.0.weight",
            std * torch.randn(channels, fan_in, kernel, generator=generator),
        )
        yield from norm(f"{name}.2.1", channels)
        fan_in = channels

    yield from norm(f"{audio}.project_features.1", channels)
    yield from affine(f"{audio}.project_features.2", dim, channels)

    kernel = max(3, _POS_CONV_WIDTH // _POS_CONV_DEPTH)
    for layer in range(1, _POS_CONV_DEPTH + 1):
        name = f"{audio}.relative_positional_encoder.{layer}.0"
        yield from affine(name, dim, dim // _POS_CONV_GROUPS, kernel)

    for index in range(sizes.prenet_depth):
        yield from block(f"{audio}.context_encoder.blocks.{index}")
    yield from norm(f"{audio}.context_encoder.norm", dim)

    if with_decoder:
        # From its own numbers, so that the other weights are the same with it and without it.
        rest, generator = generator, torch.Generator().manual_seed(seed + 1)
        fan_in = dim
        for layer in range(_DECODER_LAYERS):
            name = f"{audio}.decoder.blocks.{layer}.0"
            shape = (sizes.decoder_dim, fan_in // _DECODER_GROUPS, _DECODER_KERNEL)
            yield from affine(name, *shape)
            fan_in = sizes.decoder_dim
        yield from affine(f"{audio}.decoder.proj", dim, sizes.decoder_dim)
        generator = rest

    for index in range(sizes.depth):
        yield from block(f"blocks.{index}")
    yield from affine("proj", num_tokens, dim)


def _adam_state(named: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    moments = {
        index: {
            "step": 1,
            "exp_avg": torch.zeros_like(tensor),
            "exp_avg_sq": torch.zeros_like(tensor),
        }
        for index, tensor in enumerate(named.values())
    }
    return {"state": moments, "param_groups": [{"lr": 1e-5, "params": list(moments)}]}


def _main() -> None:
    parser = argparse.ArgumentParser(description="Write a model folder with random weights.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--size", choices=sorted(SIZES), default="base")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    folder = write_random_checkpoint(arguments.folder, arguments.size, seed=arguments.seed)
    print(f"{folder}: {arguments.size}, random weights; what it says about emotion means nothing")


if __name__ == "__main__":
    _main()
