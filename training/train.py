"""``python -m training.train``: train the compact model on what ``training.prepare`` wrote."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from ser_engine.models.compact import Compact, CompactSizes
from training.batches import Batch, WindowSource, load_prepared
from training.clips import CLASSES, CORPORA
from training.muon import compact_optimisers
from training.schedule import Schedule, given_values, part_costs, take_steps

_SIZES = CompactSizes(num_classes=len(CLASSES))


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan(Schedule):
    """What is trained, on what and for how long.

    Attributes:
        peak_rate: learning rate after the warm-up; it then falls to 0 along a cosine.
        mixup_share: batches in which windows are mixed in pairs.
        revoiced_share: windows moved to other voices and paces.
        corpus_shares: how often each corpus is drawn.
        leave_out: corpora or speakers (``corpus/name``) not to train on.
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
    optimisers = compact_optimisers(model, plan.peak_rate, plan.weight_decay)

    def loss_of(step: int) -> Tensor:
        return window_loss(model, source.batch(step, plan.batch_size), plan, device)

    take_steps(model, average, optimisers, plan, loss_of, out / "state.pt")
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
            each, count = part_costs(logits, inside, label, plan.label_smoothing)
            total = total + (each * count / frames).mean()
        return total

    loss = cost(first, second, change)
    if order is not None:
        loss = share * loss + (1 - share) * cost(first[order], second[order], change[order])
    return loss


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
    sizes = replace(Plan().sizes, **given_values(parser, CompactSizes, given.size))
    plan = Plan(
        sizes=sizes,
        steps=given.steps,
        batch_size=given.batch_size,
        peak_rate=given.peak_rate,
        leave_out=tuple(given.leave_out),
        seed=given.seed,
    )
    plan = replace(plan, **given_values(parser, Plan, given.set))
    train(plan, given.prepared, given.out, given.device)


if __name__ == "__main__":
    main()
