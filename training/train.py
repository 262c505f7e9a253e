"""``python -m training.train``: train the compact model on what ``training.prepare`` wrote.

The schedule is fixed in advance; no checkpoint is chosen by looking at results. What is kept is a
moving average of the weights. State is saved every minute: the same command goes on where it was
stopped.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ser_engine.models.compact import Compact, CompactSizes
from training.batches import Batch, WindowSource, load_prepared
from training.clips import CLASSES, CORPORA
from training.muon import Muon, is_matrix

__all__ = ["Plan", "main", "train", "window_loss"]

_SAVE_EVERY_S = 60.0
_SIZES = CompactSizes(num_classes=len(CLASSES))


@dataclass(frozen=True, slots=True)
class Plan:
    """What is trained, on what and for how long.

    Attributes:
        sizes: of the network.
        batch_size: windows a step.
        peak_rate: learning rate after the warm-up; it then falls to 0 along a cosine.
        mixup_share: batches in which windows are mixed in pairs.
        average_decay: of the moving average of the weights.
        revoiced_share: windows moved to other voices and paces.
        corpus_shares: how often each corpus is drawn.
        leave_out: corpora or speakers (``corpus/name``) not to train on.
        seed: of initial weights and batches.
    """

    sizes: CompactSizes = _SIZES
    steps: int = 6000
    batch_size: int = 32
    peak_rate: float = 2e-3
    warm_up_steps: int = 200
    weight_decay: float = 0.05
    label_smoothing: float = 0.05
    mixup_share: float = 0.2
    average_decay: float = 0.998
    revoiced_share: float = 0.5
    corpus_shares: tuple[float, ...] = (0.25, 0.35, 0.4)
    leave_out: tuple[str, ...] = ()
    seed: int = 1


def train(plan: Plan, prepared_dir: Path, out: Path, device: str = "cpu") -> Compact:
    """Train, or go on training; return the averaged network in evaluation mode."""
    torch.manual_seed(plan.seed)
    out.mkdir(parents=True, exist_ok=True)
    (out / "plan.json").write_text(json.dumps(asdict(plan), indent=1))
    prepared = load_prepared(prepared_dir)
    keep = [
        fact["corpus"] not in plan.leave_out and fact["speaker"] not in plan.leave_out
        for fact in prepared.facts
    ]
    shares = dict(zip(CORPORA, plan.corpus_shares, strict=True))
    source = WindowSource(
        prepared, keep, shares, seed=plan.seed, revoiced_share=plan.revoiced_share
    )
    model = Compact(plan.sizes).to(device).train()
    average = Compact(plan.sizes).to(device).requires_grad_(False).eval()
    average.load_state_dict(model.state_dict())
    optimisers = _optimisers(model, plan)
    step = _resume(out / "state.pt", model, average, optimisers)
    saved = said = time.monotonic()
    losses: list[float] = []
    while step < plan.steps:
        torch.manual_seed(plan.seed * 1_000_003 + step)  # dropout: the same after a resumption
        for optimiser in optimisers:
            for group in optimiser.param_groups:
                group["lr"] = plan.peak_rate * _rate(step, plan)
        loss = window_loss(model, source.batch(step, plan.batch_size), plan, device)
        model.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 2.0)
        for optimiser in optimisers:
            optimiser.step()
        step += 1
        _follow(average, model, min(plan.average_decay, step / (step + 20)))
        losses.append(float(loss.detach()))
        now = time.monotonic()
        if now - said > 15:
            said = now
            recent = losses[-100:]
            print(f"step {step}/{plan.steps}: loss {sum(recent) / len(recent):.3f}", flush=True)
        if now - saved >= _SAVE_EVERY_S or step == plan.steps:
            saved = now
            _save(out / "state.pt", step, model, average, optimisers)
    torch.save(average.state_dict(), out / "average.pt")
    return average


def window_loss(model: Compact, batch: Batch, plan: Plan, device: str) -> Tensor:
    """Return the mean cross-entropy of the pooled logits of each part of each window.

    Within a part the logits of its frames are averaged, as users of the model do.
    """
    features = batch.features.to(device)
    first, second, change = (
        value.to(device) for value in (batch.first, batch.second, batch.change)
    )
    frames = features.shape[1]
    share: float | Tensor = 1.0
    order = None
    if torch.rand(()) < plan.mixup_share:
        share = float(torch.distributions.Beta(0.4, 0.4).sample())
        order = torch.randperm(len(features))
        features = share * features + (1 - share) * features[order]
    logits = model.context(features).logits

    def cost(first: Tensor, second: Tensor, change: Tensor) -> Tensor:
        in_first = (torch.arange(frames, device=device) < change[:, None]).float()
        total = torch.zeros((), device=device)
        for inside, label in ((in_first, first), (1 - in_first, second)):
            count = inside.sum(dim=1)
            pooled = (logits * inside[..., None]).sum(dim=1) / count.clamp_min(1)[:, None]
            each = F.cross_entropy(
                pooled, label, reduction="none", label_smoothing=plan.label_smoothing
            )
            total = total + (each * count / frames).mean()
        return total

    loss = cost(first, second, change)
    if order is not None:
        loss = share * loss + (1 - share) * cost(first[order], second[order], change[order])
    return loss


def _optimisers(model: Compact, plan: Plan) -> list[torch.optim.Optimizer]:
    """Return Muon for matrices within the network and AdamW for its head and all else."""
    inner: list[nn.Parameter] = []
    outer: list[nn.Parameter] = []
    vectors: list[nn.Parameter] = []
    for name, value in model.named_parameters():
        if value.ndim <= 1:
            vectors.append(value)
        else:
            (inner if is_matrix(value) and "head" not in name else outer).append(value)
    groups = [
        {"params": outer, "weight_decay": plan.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    return [
        Muon(inner, plan.peak_rate, plan.weight_decay),
        torch.optim.AdamW(groups, lr=plan.peak_rate, betas=(0.9, 0.98)),
    ]


def _rate(step: int, plan: Plan) -> float:
    if step < plan.warm_up_steps:
        return (step + 1) / plan.warm_up_steps
    done = (step - plan.warm_up_steps) / max(1, plan.steps - plan.warm_up_steps)
    return 0.5 * (1 + math.cos(math.pi * done)) + 1e-3


@torch.no_grad()
def _follow(average: Compact, model: Compact, decay: float) -> None:
    for kept, value in zip(average.state_dict().values(), model.state_dict().values(), strict=True):
        if kept.is_floating_point():
            kept.lerp_(value, 1 - decay)
        else:
            kept.copy_(value)


def _save(
    path: Path,
    step: int,
    model: Compact,
    average: Compact,
    optimisers: Sequence[torch.optim.Optimizer],
) -> None:
    state = {
        "step": step,
        "model": model.state_dict(),
        "average": average.state_dict(),
        "optimisers": [optimiser.state_dict() for optimiser in optimisers],
    }
    partial = path.with_suffix(".partial")
    torch.save(state, partial)
    partial.rename(path)


def _resume(
    path: Path, model: Compact, average: Compact, optimisers: Sequence[torch.optim.Optimizer]
) -> int:
    if not path.exists():
        return 0
    state = torch.load(path, weights_only=True)
    model.load_state_dict(state["model"])
    average.load_state_dict(state["average"])
    for optimiser, saved in zip(optimisers, state["optimisers"], strict=True):
        optimiser.load_state_dict(saved)
    return int(state["step"])


def main(argv: Sequence[str] | None = None) -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(prog="python -m training.train", description=__doc__)
    parser.add_argument("--prepared", type=Path, default=Path("results/training/prepared"))
    parser.add_argument("--out", type=Path, default=Path("results/training/compact"))
    parser.add_argument("--steps", type=int, default=Plan().steps)
    parser.add_argument("--batch-size", type=int, default=Plan().batch_size)
    parser.add_argument("--peak-rate", type=float, default=Plan().peak_rate)
    parser.add_argument("--leave-out", nargs="*", default=(), help="corpora, or corpus/speaker")
    parser.add_argument("--seed", type=int, default=Plan().seed)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1, help="of PyTorch on a CPU")
    parser.add_argument("--size", action="append", default=[], metavar="NAME=NUMBER")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=NUMBER")
    given = parser.parse_args(argv)
    torch.set_num_threads(given.threads)
    sizes = replace(Plan().sizes, **{k: json.loads(v) for k, v in _pairs(given.size)})
    plan = Plan(
        sizes=sizes,
        steps=given.steps,
        batch_size=given.batch_size,
        peak_rate=given.peak_rate,
        leave_out=tuple(given.leave_out),
        seed=given.seed,
    )
    plan = replace(plan, **{k: json.loads(v) for k, v in _pairs(given.set)})
    train(plan, given.prepared, given.out, given.device)


def _pairs(settings: Sequence[str]) -> list[tuple[str, str]]:
    return [(name, value) for name, _, value in (text.partition("=") for text in settings)]


if __name__ == "__main__":
    main()
