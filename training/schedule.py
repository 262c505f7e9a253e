"""What training runs share: plans from the command line, steps, averaged weights, saved state.

The schedule is fixed in advance; no checkpoint is chosen by looking at results. What is kept is a
moving average of the weights. State is saved every minute: the same command goes on where it was
stopped.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_SAVE_EVERY_S = 60.0
_SAY_EVERY_S = 15.0
_MOST_GRADIENT = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """What every plan says of a run.

    Attributes:
        warm_up_steps: steps of linear growth of the learning rate.
        average_decay: of the moving average of the weights.
        seed: of initial weights and batches.
    """

    steps: int
    warm_up_steps: int
    average_decay: float
    seed: int = 1


def given_values(
    parser: argparse.ArgumentParser, plan: type, texts: Sequence[str]
) -> dict[str, Any]:
    """Return fields of a plan that ``--set NAME=JSON`` names; lists and objects as tuples."""
    known = {field.name for field in fields(plan)}
    values: dict[str, Any] = {}
    for text in texts:
        name, _, value = text.partition("=")
        if name not in known:
            parser.error(f"got {text}, expected one of {sorted(known)}")
        read = json.loads(value)
        read = read.items() if isinstance(read, dict) else read
        values[name] = read if isinstance(read, str | int | float) else tuple(read)
    return values


def take_steps(
    model: nn.Module,
    average: nn.Module,
    optimisers: Sequence[torch.optim.Optimizer],
    plan: Schedule,
    loss_of: Callable[[int], Tensor],
    path: Path,
) -> None:
    """Train a network, or go on from the state kept in ``path``; ``loss_of``: of a step's batch.

    The optimisers' learning rates are those of the peak.
    """
    groups = [group for optimiser in optimisers for group in optimiser.param_groups]
    peaks = [group["lr"] for group in groups]
    step = _load_state(path, model, average, optimisers)
    # Loading a state replaces the groups.
    groups = [group for optimiser in optimisers for group in optimiser.param_groups]
    saved = said = time.monotonic()
    losses: list[float] = []
    while step < plan.steps:
        torch.manual_seed(plan.seed * 1_000_003 + step)  # dropout: the same after a resumption
        for group, peak in zip(groups, peaks, strict=True):
            group["lr"] = peak * rate_at(step, plan.steps, plan.warm_up_steps)
        loss = loss_of(step)
        model.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(model.parameters(), _MOST_GRADIENT)
        for optimiser in optimisers:
            optimiser.step()
        step += 1
        follow(average, model, min(plan.average_decay, step / (step + 20)))
        losses.append(float(loss.detach()))
        now = time.monotonic()
        if now - said > _SAY_EVERY_S:
            said = now
            recent = losses[-100:]
            print(f"step {step}/{plan.steps}: loss {sum(recent) / len(recent):.3f}", flush=True)
        if now - saved >= _SAVE_EVERY_S or step == plan.steps:
            saved = now
            _save_state(path, step, model, average, optimisers)


def part_costs(
    logits: Tensor, frames: Tensor, target: Tensor, label_smoothing: float
) -> tuple[Tensor, Tensor]:
    """Return the cross-entropy of pooled logits and the number of frames pooled, both (batch,).

    ``logits``: (batch, frames, classes); ``frames``: those to pool, 0 or 1 (batch, frames).
    """
    count = frames.sum(dim=1)
    pooled = (logits * frames[..., None]).sum(dim=1) / count.clamp_min(1)[:, None]
    return F.cross_entropy(pooled, target, reduction="none", label_smoothing=label_smoothing), count


def rate_at(step: int, steps: int, warm_up_steps: int) -> float:
    """Return the share of the peak rate: a linear rise, then a cosine to nearly nothing."""
    if step < warm_up_steps:
        return (step + 1) / warm_up_steps
    done = (step - warm_up_steps) / max(1, steps - warm_up_steps)
    return 0.5 * (1 + math.cos(math.pi * done)) + 1e-3


@torch.no_grad()
def follow(average: nn.Module, model: nn.Module, decay: float) -> None:
    """Move the averaged weights towards the present ones."""
    for kept, value in zip(average.state_dict().values(), model.state_dict().values(), strict=True):
        if kept.is_floating_point():
            kept.lerp_(value, 1 - decay)
        else:
            kept.copy_(value)


def _save_state(
    path: Path,
    step: int,
    model: nn.Module,
    average: nn.Module,
    optimisers: Sequence[torch.optim.Optimizer],
) -> None:
    """Write everything a run needs to go on, all or nothing."""
    state = {
        "step": step,
        "model": model.state_dict(),
        "average": average.state_dict(),
        "optimisers": [optimiser.state_dict() for optimiser in optimisers],
    }
    partial = path.with_suffix(".partial")
    torch.save(state, partial)
    partial.rename(path)


def _load_state(
    path: Path,
    model: nn.Module,
    average: nn.Module,
    optimisers: Sequence[torch.optim.Optimizer],
) -> int:
    """Take up a run's state, if there is any; return its step."""
    if not path.exists():
        return 0
    state = torch.load(path, weights_only=True)
    model.load_state_dict(state["model"])
    average.load_state_dict(state["average"])
    for optimiser, saved in zip(optimisers, state["optimisers"], strict=True):
        optimiser.load_state_dict(saved)
    return int(state["step"])
