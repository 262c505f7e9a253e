"""ONNX Runtime, for machines that already run it, and ONNX files for other programs.

The two stages are exported apart, so that local features can be kept between windows. The whole
network is exported as one graph for programs that have nothing but a file and a runtime: raw
16 kHz samples (batch, samples) in, ``embeddings`` (batch, frames, dim) and ``logits`` (batch,
frames, classes) out. Normalisation and head are inside, batch and time are dynamic, and rows of
one call are of equal length.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.export import Dim

from ser_engine.core.runtimes import group_by_length
from ser_engine.errors import RuntimeUnavailableError, how_to_install
from ser_engine.frames import SAMPLE_RATE_HZ
from ser_engine.models.model import FrameOutputs, Graphs, Network
from ser_engine.models.normalisation import NORM_EPS
from ser_engine.types import ModelInfo

_EXAMPLE_SAMPLES = SAMPLE_RATE_HZ
_EXAMPLE_FRAMES = 49
_SCORES = ["embeddings", "logits"]


class OnnxRuntime:
    """The network in ONNX Runtime on a CPU.

    Args:
        folder: holds ``local.onnx`` and ``context.onnx``, see :func:`export_stages`.
        feature_dim: numbers a frame is described by between the stages.
        threads: CPU threads.
        precision: ``fp32`` or ``int8``, for the name only: the files decide.
    """

    def __init__(self, folder: Path, feature_dim: int, threads: int, precision: str) -> None:
        try:
            import onnxruntime
        except ImportError as error:
            raise RuntimeUnavailableError(
                f"the onnx runtime needs the package onnxruntime; {how_to_install('onnx')}"
            ) from error
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        providers = ["CPUExecutionProvider"]
        self.name = f"onnx {precision} cpu"
        self.device = torch.device("cpu")
        self._feature_dim = feature_dim
        self._local = onnxruntime.InferenceSession(folder / "local.onnx", options, providers)
        self._context = onnxruntime.InferenceSession(folder / "context.onnx", options, providers)

    def local(self, samples: Tensor) -> Tensor:
        """See :meth:`Runtime.local`."""
        return _run(self._local, samples)[0]

    def context(self, rows: Sequence[Tensor]) -> list[FrameOutputs]:
        """See :meth:`Runtime.context`. Rows of equal length share a batch."""
        results: dict[int, FrameOutputs] = {}
        for group in group_by_length(rows):
            outputs = _run(self._context, torch.stack([rows[index] for index in group]))
            for place, index in enumerate(group):
                results[index] = FrameOutputs(outputs[0][place], outputs[1][place])
        return [results[index] for index in range(len(rows))]

    def warm_up(self, num_frames: Sequence[int], max_batch_size: int) -> None:
        """See :meth:`Runtime.warm_up`."""
        for frames in sorted(set(num_frames)):
            self.context([torch.zeros(frames, self._feature_dim)])


def _run(session: Any, batch: Tensor) -> list[Tensor]:
    name = session.get_inputs()[0].name
    return [torch.from_numpy(output) for output in session.run(None, {name: batch.numpy()})]


def export_whole(network: Network, info: ModelInfo, path: Path) -> None:
    """Write the whole network to ``path``; labels, licence and hash go into its metadata.

    Weights over 2 GB would lie beside it; no published model is that large.

    Raises:
        RuntimeUnavailableError: the packages ``onnx`` and ``onnxscript`` are not installed, or
            the network cannot be converted.
    """
    samples = torch.zeros(2, _EXAMPLE_SAMPLES)
    metadata = {
        "name": info.name,
        "source": info.source,
        "licence": info.licence,
        "sha256": info.sha256,
        "labels": json.dumps(info.labels.names),
        "sample_rate_hz": str(SAMPLE_RATE_HZ),
    }
    _export(_WholeGraph(network), samples, "samples", _SCORES, path, metadata)


def export_stages(network: Network, folder: Path) -> None:
    """Write ``local.onnx`` and ``context.onnx`` into ``folder``.

    Raises:
        RuntimeUnavailableError: the packages ``onnx`` and ``onnxscript`` are not installed, or
            the network cannot be converted.
    """
    local, context = _graphs(network)
    samples = torch.zeros(2, _EXAMPLE_SAMPLES)
    features = torch.zeros(2, _EXAMPLE_FRAMES, network.feature_dim)
    _export(local, samples, "samples", ["features"], folder / "local.onnx")
    _export(context, features, "features", _SCORES, folder / "context.onnx")


def export_int8_stages(network: Network, folder: Path, *, seven_bits: bool) -> None:
    """Write both stages into ``folder``, the context stage with int8 matrix products.

    Weights are int8 by channel; activations are quantised by the range each product meets, so
    nothing has to be calibrated.

    Args:
        network: in float32.
        folder: where to write.
        seven_bits: leave a bit of each weight unused. Processors without int8 instructions add
            pairs of products in 16 bits, which would overflow.

    Raises:
        RuntimeUnavailableError: ``onnx``, ``onnxscript`` or ``onnxruntime`` is not installed.
    """
    export_stages(network, folder)
    from onnxruntime.quantization import QuantType, quantize_dynamic

    plain = folder / "context-fp32.onnx"
    (folder / "context.onnx").rename(plain)
    quantize_dynamic(
        plain,
        folder / "context.onnx",
        nodes_to_exclude=products_with_precise(network, plain),
        op_types_to_quantize=["MatMul", "Gemm"],
        weight_type=QuantType.QInt8,
        per_channel=True,
        reduce_range=seven_bits,
    )
    plain.unlink()


def products_with_precise(network: Network, path: Path) -> list[str]:
    """Return the names of the products of a graph whose weights :attr:`Network.precise` names."""
    import onnx
    from onnx import numpy_helper

    graph = onnx.load(path).graph
    weights = {each.name: each for each in graph.initializer}
    found = []
    for node in graph.node:
        for name in node.input if node.op_type in ("MatMul", "Gemm") else ():
            if name not in weights:
                continue
            if network.is_precise(numpy_helper.to_array(weights[name])):
                found.append(node.name)
    return found


def _graphs(network: Network) -> Graphs:
    graphs = network.graphs()
    if graphs is None:
        raise RuntimeUnavailableError(
            f"{type(network).__name__} cannot be converted, only the torch runtimes execute it"
        )
    return graphs


def _export(
    graph: nn.Module,
    example: Tensor,
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
            f"ONNX export needs the packages onnx and onnxscript; {how_to_install('onnx')}"
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
            # Batch and time. A named dimension would have to state its smallest size, which the
            # exporter takes for larger than it is where a network folds frames.
            dynamic_shapes=({0: Dim.AUTO, 1: Dim.AUTO},),
            verbose=False,
        )
    assert program is not None
    proto = program.model_proto
    onnx.helper.set_model_props(proto, metadata or {})
    onnx.save(proto, str(path))


class _WholeGraph(nn.Module):
    """Raw samples to embeddings and logits, normalisation and head included."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.normalise = network.first_layer() is not None
        self.local, self.context = _graphs(network)

    def forward(self, samples: Tensor) -> FrameOutputs:
        if self.normalise:
            mean = samples.mean(dim=1, keepdim=True)
            variance = ((samples - mean) ** 2).mean(dim=1, keepdim=True)
            samples = (samples - mean) / torch.sqrt(variance + NORM_EPS)
        return cast(FrameOutputs, self.context(self.local(samples)))
