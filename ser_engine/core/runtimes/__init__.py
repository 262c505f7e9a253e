"""What the engine asks of a runtime: the two stages of the network, and a name.

A runtime owns the weights and nothing else. It knows neither streams nor windows, keeps no state
between calls and is called from one thread at a time.
"""

from __future__ import annotations

from collections.abc import Sequence, Sized
from typing import Protocol

import torch
from torch import Tensor

from ser_engine.models.model import FrameOutputs


class Runtime(Protocol):
    """A loaded network, ready to run."""

    @property
    def name(self) -> str:
        """What is executed and how, e.g. ``torch fp32 cpu``."""
        ...

    @property
    def device(self) -> torch.device:
        """Where tensors passed in are expected and tensors passed out live."""
        ...

    def local(self, samples: Tensor) -> Tensor:
        """Map normalised float32 samples (batch, samples) to features (batch, frames, dim)."""
        ...

    def context(self, rows: Sequence[Tensor]) -> list[FrameOutputs]:
        """Score local features, each row (frames, dim) of its own length.

        Returns:
            for each row, in order, embeddings (frames, dim) and logits (frames, classes), float32.
            A row's result does not depend on the rows beside it.
        """
        ...

    def warm_up(self, num_frames: Sequence[int], max_batch_size: int) -> None:
        """Prepare for rows of these lengths, so that the first real call costs no more."""
        ...


def group_by_length(rows: Sequence[Sized]) -> list[list[int]]:
    """Return the indices of ``rows`` in groups of equal length, each in order."""
    groups: dict[int, list[int]] = {}
    for index, row in enumerate(rows):
        groups.setdefault(len(row), []).append(index)
    return list(groups.values())
