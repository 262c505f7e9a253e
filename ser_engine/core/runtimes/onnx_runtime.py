"""ONNX Runtime, for machines it is already at home on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ser_engine.core.runtimes.base import group_by_length
from ser_engine.errors import RuntimeUnavailableError
from ser_engine.models.emotion2vec.network import FrameOutputs


class OnnxRuntime:
    """The network in ONNX Runtime on a CPU.

    Args:
        folder: holds ``local.onnx`` and ``context.onnx``, see
            :mod:`ser_engine.models.emotion2vec.export`.
        embed_dim: width of a feature.
        threads: CPU threads.
        precision: ``fp32`` or ``int8``, for the name only: the files decide.
    """

    def __init__(self, folder: Path, embed_dim: int, threads: int, precision: str) -> None:
        try:
            import onnxruntime
        except ImportError as error:
            raise RuntimeUnavailableError(
                "the onnx runtime needs the package onnxruntime; install it by"
                " pip install 'emotion-monitor[onnx]'"
            ) from error
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        providers = ["CPUExecutionProvider"]
        self.name = f"onnx {precision} cpu"
        self.device = torch.device("cpu")
        self._embed_dim = embed_dim
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
            self.context([torch.zeros(frames, self._embed_dim)])


def _run(session: Any, batch: Tensor) -> list[Tensor]:
    name = session.get_inputs()[0].name
    return [torch.from_numpy(output) for output in session.run(None, {name: batch.numpy()})]
