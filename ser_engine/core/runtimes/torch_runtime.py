"""PyTorch, traced or compiled, on a CPU or a CUDA device.

On a CPU rows of equal length share a batch and nothing is padded: padding would be paid for. Each
stage is traced, so that a call is one call. Eager operations each give Python's lock away and wait
to have it back, which in a busy server takes longer than the operations of a small network: beside
a thread that runs Python, ``compact`` took 14 ms a window instead of 6. On
CUDA rows are padded to the longest of the warmed-up lengths and batches to a power of two, so
that few shapes exist; each shape is captured once as a CUDA graph and replayed, which takes
launch overhead out of small batches.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from ser_engine.core.runtimes import group_by_length
from ser_engine.frames import span_samples
from ser_engine.models.model import FrameOutputs, Network

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
# Batches beyond this fill the card by themselves; a graph would only hold memory.
_LARGEST_GRAPH_BATCH = 64
_TRACED_FRAMES = 60


class TorchRuntime:
    """The network in PyTorch.

    Args:
        network: in float32, in evaluation mode; it is moved to the device.
        device: ``cpu``, ``cuda`` or ``cuda:N``.
        precision: ``fp32``, ``bf16`` or ``fp16``; anything but fp32 is for CUDA.
        compiled: let ``torch.compile`` fuse both stages. Needs a C++ compiler on a CPU and tens of
            seconds at warm-up.
    """

    def __init__(
        self,
        network: Network,
        device: str = "cpu",
        precision: str = "fp32",
        compiled: bool = False,
    ) -> None:
        self.device = torch.device(device)
        self._dtype = _DTYPES[precision]
        self._network = network.to(self.device, self._dtype)
        self._on_cuda = self.device.type == "cuda"
        self.name = f"torch{'-compile' if compiled else ''} {precision} {self.device.type}"
        self._local: Callable[[Tensor], Tensor] = self._network.local
        self._context: Callable[[Tensor, Tensor | None], FrameOutputs] = self._network.context
        if compiled:
            self._local = torch.compile(self._network.local, dynamic=True)
            self._context = torch.compile(self._network.context, dynamic=True)
        elif (device, precision) == ("cpu", "fp32") and (graphs := network.graphs()) is not None:
            self._local, context = _traced(network.local, graphs.context, network.feature_dim)
            # Rows are never padded on a CPU.
            self._context = lambda features, _: FrameOutputs(*context(features))
        self._graphs = _ContextGraphs(self._context) if self._on_cuda else None
        self._padded_frames = 0

    @torch.inference_mode()
    def local(self, samples: Tensor) -> Tensor:
        """See :meth:`Runtime.local`."""
        return self._local(samples.to(self._dtype))

    @torch.inference_mode()
    def context(self, rows: Sequence[Tensor]) -> list[FrameOutputs]:
        """See :meth:`Runtime.context`."""
        results: list[FrameOutputs | None] = [None] * len(rows)
        if self._graphs is not None and max(row.shape[0] for row in rows) <= self._padded_frames:
            return self._context_padded(rows, self._graphs)
        for group in group_by_length(rows):
            batch = torch.stack([rows[index] for index in group]).to(self._dtype)
            outputs = self._context(batch, None)
            embeddings, logits = outputs.embeddings.float(), outputs.logits.float()
            for place, index in enumerate(group):
                results[index] = FrameOutputs(embeddings[place], logits[place])
        return [result for result in results if result is not None]

    def warm_up(self, num_frames: Sequence[int], max_batch_size: int) -> None:
        """See :meth:`Runtime.warm_up`."""
        dim = self._network.feature_dim
        longest = max(num_frames)
        if self._on_cuda:
            self._padded_frames = longest
            sizes = {1 << i for i in range(max_batch_size.bit_length())} | {max_batch_size}
            for batch_size in sorted(sizes):
                row = torch.zeros(longest, dim, device=self.device, dtype=self._dtype)
                self.context([row] * batch_size)
            return
        for frames in sorted(set(num_frames)):
            self.context([torch.zeros(frames, dim)])

    def _context_padded(self, rows: Sequence[Tensor], graphs: _ContextGraphs) -> list[FrameOutputs]:
        lengths = [row.shape[0] for row in rows]
        batch_size = 1 << (len(rows) - 1).bit_length()
        batch = pad_sequence(list(rows), batch_first=True).to(self._dtype)
        missing = self._padded_frames - batch.shape[1], batch_size - len(rows)
        batch = F.pad(batch, (0, 0, 0, missing[0], 0, missing[1]))
        filled = [*lengths, *([self._padded_frames] * (batch_size - len(rows)))]
        real = torch.tensor(filled, device=self.device)
        outputs = graphs(batch, real)
        # Copies: the next replay writes into the same memory.
        embeddings = outputs.embeddings.to(torch.float32, copy=True)
        logits = outputs.logits.to(torch.float32, copy=True)
        return [
            FrameOutputs(embeddings[place, :frames], logits[place, :frames])
            for place, frames in enumerate(lengths)
        ]


@torch.inference_mode()
def _traced(
    local: nn.Module, context: nn.Module, feature_dim: int
) -> tuple[Callable[[Tensor], Tensor], Callable[[Tensor], tuple[Tensor, Tensor]]]:
    """Return both stages as TorchScript, for batches and rows of any length.

    The operations are the same, and so is every bit of what comes out.
    """
    samples = torch.zeros(2, span_samples(_TRACED_FRAMES))
    features = torch.zeros(2, _TRACED_FRAMES, feature_dim)
    with warnings.catch_warnings():
        # That it is deprecated: torch.export makes nothing that runs without Python or a compiler.
        # And that unpacking the parts of a tensor is no loop, which it is not.
        warnings.simplefilter("ignore")
        scripts = [
            torch.jit.freeze(
                torch.jit.trace(  # type: ignore[no-untyped-call]
                    stage.eval(), example, check_trace=False
                ),
                # It would change how results are rounded.
                optimize_numerics=False,
            )
            for stage, example in ((local, samples), (context, features))
        ]
    return scripts[0], scripts[1]


class _ContextGraphs:
    """Replays the context stage from CUDA graphs, one a batch shape."""

    def __init__(self, context: Callable[[Tensor, Tensor | None], FrameOutputs]) -> None:
        self._context = context
        self._captured: dict[
            tuple[int, ...], tuple[torch.cuda.CUDAGraph, Tensor, Tensor, FrameOutputs]
        ] = {}

    def __call__(self, features: Tensor, num_frames: Tensor) -> FrameOutputs:
        """Score (batch, frames, dim); the result is overwritten by the next call of its shape."""
        if features.shape[0] > _LARGEST_GRAPH_BATCH:
            return self._context(features, num_frames)
        shape = tuple(features.shape)
        if shape not in self._captured:
            self._captured[shape] = self._capture(features, num_frames)
        graph, held_features, held_num_frames, outputs = self._captured[shape]
        held_features.copy_(features)
        held_num_frames.copy_(num_frames)
        graph.replay()
        return outputs

    def _capture(
        self, features: Tensor, num_frames: Tensor
    ) -> tuple[torch.cuda.CUDAGraph, Tensor, Tensor, FrameOutputs]:
        held_features, held_num_frames = features.clone(), num_frames.clone()
        # Kernels choose their algorithms and allocate workspaces in their first runs; a capture
        # must not contain that, and must run on a stream of its own.
        side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for _ in range(2):
                self._context(held_features, held_num_frames)
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        # By default the calls of all other threads must be fit for a capture, too, and another
        # engine that scores meanwhile would fail.
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            outputs = self._context(held_features, held_num_frames)
        return graph, held_features, held_num_frames, outputs
