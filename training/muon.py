"""Muon: steps in which all directions of a weight matrix count alike.

The momentum of each matrix is brought to the nearest one with equal singular values by a few
Newton-Schulz iterations (Keller Jordan et al., 2024; the coefficients of modded-nanogpt) and scaled
to the size of AdamW's steps (arXiv 2502.16982), so that both take the same learning rate.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

_COEFFICIENTS = (
    (4.0848, -6.8946, 2.9270),
    (3.9505, -6.3029, 2.6377),
    (3.7418, -5.5913, 2.3037),
    (2.8769, -3.1427, 1.2046),
    (2.8366, -3.0525, 1.2012),
)
_ADAMW_STEP = 0.2
"""Root mean square of an AdamW step, relative to the learning rate."""


def is_matrix(value: Tensor) -> bool:
    """Whether a parameter mixes enough inputs into enough outputs to be one for Muon."""
    return value.ndim >= 2 and min(value.flatten(1).shape) >= 16


class Muon(torch.optim.Optimizer):
    """Muon with Nesterov momentum and decoupled weight decay, in the parameters' own precision.

    ``matrices`` are (outputs, ...); convolutions count as (outputs, inputs x kernel). In a step
    weights shrink by ``weight_decay`` times the learning rate.
    """

    def __init__(
        self,
        matrices: Iterable[nn.Parameter],
        lr: float,
        weight_decay: float = 0.0,
        momentum: float = 0.95,
    ) -> None:
        super().__init__(matrices, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Take one step with the gradients there are."""
        for group in self.param_groups:
            for matrix in group["params"]:
                self._move(matrix, group)

    def _move(self, matrix: Tensor, group: dict[str, Any]) -> None:
        if matrix.grad is None:
            return
        state = self.state[matrix]
        if not state:
            state["momentum"] = torch.zeros_like(matrix)
        average = state["momentum"].lerp_(matrix.grad, 1 - group["momentum"])
        direction = _levelled(matrix.grad.lerp(average, group["momentum"]).flatten(1))
        size = _ADAMW_STEP * max(direction.shape) ** 0.5
        matrix.mul_(1 - group["lr"] * group["weight_decay"])
        matrix.add_(direction.view_as(matrix), alpha=-group["lr"] * size)


def compact_optimisers(
    model: nn.Module, peak_rate: float, weight_decay: float
) -> list[torch.optim.Optimizer]:
    """Return Muon for matrices within a compact network and AdamW for its head and all else."""
    inner: list[nn.Parameter] = []
    outer: list[nn.Parameter] = []
    vectors: list[nn.Parameter] = []
    for name, value in model.named_parameters():
        if value.ndim <= 1:
            vectors.append(value)
        else:
            (inner if is_matrix(value) and "head" not in name else outer).append(value)
    groups = [
        {"params": outer, "weight_decay": weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    return [
        Muon(inner, peak_rate, weight_decay),
        torch.optim.AdamW(groups, lr=peak_rate, betas=(0.9, 0.98)),
    ]


def _levelled(matrix: Tensor) -> Tensor:
    """Bring all singular values of (rows, columns) close to 1."""
    tall = matrix.shape[0] > matrix.shape[1]
    wide = matrix.T if tall else matrix
    wide = wide / (wide.norm() + 1e-7)
    for first, second, third in _COEFFICIENTS:
        gram = wide @ wide.T
        wide = first * wide + (second * gram + third * (gram @ gram)) @ wide
    levelled: Tensor = (wide.T if tall else wide).contiguous()
    return levelled
