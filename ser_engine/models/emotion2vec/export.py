"""ONNX files of the network: the whole of it for other programs, or its two stages.

The whole graph takes raw 16 kHz samples (batch, samples) and gives ``embeddings`` (batch, frames,
dim) and ``logits`` (batch, frames, classes); normalisation and head are inside, batch and time
are dynamic. Rows of one call must be of equal length.

The network as other runtimes want it: plain operators, nothing done in place, any shape.

The two stages export apart, so that local features can be kept between windows; the whole
network exports as one graph for programs that have nothing but a file and a runtime.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.export import Dim

from ser_engine.errors import RuntimeUnavailableError
from ser_engine.frames import RECEPTIVE_FIELD_SAMPLES, SAMPLE_RATE_HZ
from ser_engine.models.emotion2vec.network import (
    NORM_EPS,
    Emotion2vec,
    FrameOutputs,
    LocalEncoder,
    StridedConv,
)
from ser_engine.types import ModelInfo


class LocalGraph(nn.Module):
    """The local stage with ordinary convolutions.

    Runtimes with a convolution of their own beat matrix products on views, and a graph has no
    views.
    """

    def __init__(self, local: LocalEncoder) -> None:
        super().__init__()
        self.local = local
        self.weights = nn.ParameterList(
            _conv_weight(cast(StridedConv, conv)) for conv in local.convs
        )

    def forward(self, samples: Tensor) -> Tensor:
        """Map normalised samples (batch, samples) to features (batch, frames, dim)."""
        hidden = samples[:, None]
        for conv, weight in zip(self.local.convs, self.weights, strict=True):
            mixed = F.conv1d(hidden, weight, stride=cast(StridedConv, conv).stride)
            normed = cast(StridedConv, conv).norm(mixed.transpose(1, 2))
            hidden = F.gelu(normed).transpose(1, 2)
        features: Tensor = self.local.project(self.local.norm(hidden.transpose(1, 2)))
        return features


class ContextGraph(nn.Module):
    """The context stage for rows of equal length, without padding."""

    def __init__(self, model: Emotion2vec) -> None:
        super().__init__()
        self.context = model.context

    def forward(self, features: Tensor) -> FrameOutputs:
        """Map features (batch, frames, dim) to embeddings and logits."""
        return cast(FrameOutputs, self.context(features))


class WholeGraph(nn.Module):
    """Raw samples to embeddings and logits, normalisation and head included."""

    def __init__(self, model: Emotion2vec) -> None:
        super().__init__()
        self.normalize = model.sizes.normalize
        self.local = LocalGraph(model.local)
        self.context = ContextGraph(model)

    def forward(self, samples: Tensor) -> FrameOutputs:
        """Score raw samples (batch, samples), each row normalised by itself."""
        if self.normalize:
            mean = samples.mean(dim=1, keepdim=True)
            variance = ((samples - mean) ** 2).mean(dim=1, keepdim=True)
            samples = (samples - mean) / torch.sqrt(variance + NORM_EPS)
        return cast(FrameOutputs, self.context(self.local(samples)))


def _conv_weight(conv: StridedConv) -> Tensor:
    """Return the Conv1d weight (out_channels, in_channels, kernel) of a layer."""
    taps = torch.cat([conv.inner, conv.outer])
    in_channels = conv.inner.shape[0] // conv.stride
    return taps.view(-1, in_channels, taps.shape[1]).permute(2, 1, 0).contiguous()


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
