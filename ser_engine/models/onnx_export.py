"""ONNX files of the network: the whole of it for other programs, or its two stages.

The whole graph takes raw 16 kHz samples (batch, samples) and gives ``embeddings`` (batch, frames,
dim) and ``logits`` (batch, frames, classes); normalisation and head are inside, batch and time
are dynamic. Rows of one call must be of equal length.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim

from ser_engine.errors import RuntimeUnavailableError
from ser_engine.frames import RECEPTIVE_FIELD_SAMPLES, SAMPLE_RATE_HZ
from ser_engine.models.emotion2vec import Emotion2vec
from ser_engine.models.export import ContextGraph, LocalGraph, WholeGraph
from ser_engine.types import ModelInfo

__all__ = ["export_int8_stages", "export_stages", "export_whole"]

_EXAMPLE_SAMPLES = SAMPLE_RATE_HZ
_EXAMPLE_FRAMES = 49


def export_whole(model: Emotion2vec, info: ModelInfo, path: Path) -> None:
    """Write the whole network to ``path``; labels, licence and hash go into its metadata.

    Weights over 2 GB would lie beside it; no published model is that large.

    Raises:
        RuntimeUnavailableError: the packages ``onnx`` and ``onnxscript`` are not installed.
    """
    samples = torch.zeros(2, _EXAMPLE_SAMPLES)
    dynamic = {0: Dim("batch"), 1: Dim("samples", min=RECEPTIVE_FIELD_SAMPLES)}
    metadata = {
        "name": info.name,
        "source": info.source,
        "licence": info.licence,
        "sha256": info.sha256,
        "labels": json.dumps(info.labels.names),
        "sample_rate_hz": str(SAMPLE_RATE_HZ),
    }
    _export(WholeGraph(model), samples, dynamic, "samples", _SCORES, path, metadata)


def export_stages(model: Emotion2vec, folder: Path) -> None:
    """Write ``local.onnx`` and ``context.onnx`` into ``folder``.

    Raises:
        RuntimeUnavailableError: the packages ``onnx`` and ``onnxscript`` are not installed.
    """
    samples = torch.zeros(2, _EXAMPLE_SAMPLES)
    features = torch.zeros(2, _EXAMPLE_FRAMES, model.sizes.embed_dim)
    of_samples = {0: Dim("batch"), 1: Dim("samples", min=RECEPTIVE_FIELD_SAMPLES)}
    _export(
        LocalGraph(model.local), samples, of_samples, "samples", ["features"], folder / "local.onnx"
    )
    of_frames = {0: Dim("batch"), 1: Dim("frames")}
    _export(ContextGraph(model), features, of_frames, "features", _SCORES, folder / "context.onnx")


def export_int8_stages(model: Emotion2vec, folder: Path, *, seven_bits: bool) -> None:
    """Write both stages into ``folder``, the context stage with int8 matrix products.

    Weights are int8 by channel; activations are quantised by the range each product meets, so
    nothing has to be calibrated.

    Args:
        model: the network in float32.
        folder: where to write.
        seven_bits: leave a bit of each weight unused. Processors without int8 instructions add
            pairs of products in 16 bits, which would overflow.

    Raises:
        RuntimeUnavailableError: ``onnx``, ``onnxscript`` or ``onnxruntime`` is not installed.
    """
    export_stages(model, folder)
    from onnxruntime.quantization import QuantType, quantize_dynamic

    plain = folder / "context-fp32.onnx"
    (folder / "context.onnx").rename(plain)
    quantize_dynamic(
        plain,
        folder / "context.onnx",
        op_types_to_quantize=["MatMul", "Gemm"],
        weight_type=QuantType.QInt8,
        per_channel=True,
        reduce_range=seven_bits,
    )
    plain.unlink()


_SCORES = ["embeddings", "logits"]


def _export(
    graph: nn.Module,
    example: Tensor,
    dynamic: dict[int, Any],
    input_name: str,
    output_names: Sequence[str],
    path: Path,
    metadata: dict[str, str] | None = None,
) -> None:
    try:
        import onnx
        import onnxscript  # noqa: F401  (what the exporter builds graphs with)
    except ImportError as error:
        raise RuntimeUnavailableError(
            "ONNX export needs the packages onnx and onnxscript; install them by"
            " pip install 'emotion-monitor[onnx]'"
        ) from error
    with torch.no_grad(), warnings.catch_warnings():
        # The exporter warns of its own use of what is deprecated.
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            graph.eval(),
            (example,),
            dynamo=True,
            input_names=[input_name],
            output_names=list(output_names),
            dynamic_shapes=(dynamic,),
            verbose=False,
        )
    assert program is not None
    proto = program.model_proto
    onnx.helper.set_model_props(proto, metadata or {})
    onnx.save(proto, str(path))
