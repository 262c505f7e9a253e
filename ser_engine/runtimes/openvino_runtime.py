"""OpenVINO on a CPU, fp32 or int8.

OpenVINO plans memory and fuses the element-wise work around each matrix product, which is where
eager PyTorch loses its time on a CPU. Converted models are kept on disk, so that a later start
only compiles them.

The local stage is compiled for each length it is asked for: known shapes make its convolutions a
quarter faster, and its weights are small. The context stage is compiled once for any length: its
weights are the bulk of the model and each compilation packs them anew.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.jit._trace import TracerWarning

from ser_engine.errors import RuntimeUnavailableError
from ser_engine.models.emotion2vec import Emotion2vec, FrameOutputs
from ser_engine.models.export import ContextGraph, LocalGraph

__all__ = ["OpenvinoRuntime", "convert", "save"]

_EXAMPLE_SAMPLES = 8080
_EXAMPLE_FRAMES = 25


class OpenvinoRuntime:
    """The network in OpenVINO.

    Args:
        folder: holds ``local.xml`` and ``context.xml``, see :func:`save`.
        embed_dim: width of a feature.
        threads: CPU threads.
        precision: ``fp32`` or ``int8``, for the name only: the files decide.
    """

    def __init__(self, folder: Path, embed_dim: int, threads: int, precision: str) -> None:
        openvino = import_openvino()
        self.name = f"openvino {precision} cpu"
        self.device = torch.device("cpu")
        self._embed_dim = embed_dim
        self._core = openvino.Core()
        self._settings = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": threads,
            # bf16 where the CPU has it would leave the bounds the engine promises.
            "INFERENCE_PRECISION_HINT": "f32",
        }
        self._local_model = self._core.read_model(folder / "local.xml")
        self._local_requests: dict[int, Any] = {}
        context = self._core.compile_model(folder / "context.xml", "CPU", self._settings)
        self._context_request = context.create_infer_request()

    def local(self, samples: Tensor) -> Tensor:
        """See :meth:`Runtime.local`."""
        request = self._local_request(samples.shape[1])
        rows = [self._run(request, row[None])[0] for row in samples]
        return torch.cat(rows)

    def context(self, rows: Sequence[Tensor]) -> list[FrameOutputs]:
        """See :meth:`Runtime.context`. A batch brings a CPU nothing, so rows run one by one."""
        results = []
        for row in rows:
            embeddings, logits = self._run(self._context_request, row[None])
            results.append(FrameOutputs(embeddings[0], logits[0]))
        return results

    def warm_up(self, num_frames: Sequence[int], max_batch_size: int) -> None:
        """See :meth:`Runtime.warm_up`."""
        for frames in sorted(set(num_frames)):
            self.context([torch.zeros(frames, self._embed_dim)])

    def _local_request(self, num_samples: int) -> Any:
        if num_samples not in self._local_requests:
            self._local_model.reshape([1, num_samples])
            compiled = self._core.compile_model(self._local_model, "CPU", self._settings)
            self._local_requests[num_samples] = compiled.create_infer_request()
        return self._local_requests[num_samples]

    @staticmethod
    def _run(request: Any, batch: Tensor) -> list[Tensor]:
        outputs = request.infer([batch.contiguous().numpy()], share_inputs=True)
        return [torch.from_numpy(np.array(outputs[i])) for i in range(len(outputs))]


def convert(model: Emotion2vec) -> tuple[Any, Any]:
    """Return the local and the context stage as OpenVINO models of dynamic shape."""
    openvino = import_openvino()
    dim = model.sizes.embed_dim
    with torch.no_grad(), warnings.catch_warnings():
        # OpenVINO reads PyTorch by torch.jit, which warns of its age.
        warnings.simplefilter("ignore", DeprecationWarning)
        # What the trace takes for constant, sizes of the network, is constant.
        warnings.filterwarnings("ignore", category=TracerWarning)
        local = openvino.convert_model(
            LocalGraph(model.local), example_input=torch.zeros(1, _EXAMPLE_SAMPLES)
        )
        context = openvino.convert_model(
            ContextGraph(model), example_input=torch.zeros(1, _EXAMPLE_FRAMES, dim)
        )
    local.reshape([1, -1])
    context.reshape([1, -1, dim])
    return local, context


def save(local: Any, context: Any, folder: Path) -> None:
    """Write both stages into ``folder`` in full precision."""
    openvino = import_openvino()
    for name, model in (("local", local), ("context", context)):
        openvino.save_model(model, folder / f"{name}.xml", compress_to_fp16=False)


def import_openvino() -> Any:
    """Return the ``openvino`` package.

    Raises:
        RuntimeUnavailableError: it is not installed.
    """
    try:
        import openvino
    except ImportError as error:
        raise RuntimeUnavailableError(
            "the openvino runtime needs the package openvino; install it by"
            " pip install 'emotion-monitor[openvino]'"
        ) from error
    return openvino
