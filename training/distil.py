"""``python -m training.distil``: train the compact model, with the standard one as teacher.

Starts from a compact network that is there. What a part of a scene is aimed at is the mean of what
it was recorded as and of what the teacher says of it; the teacher is not asked where it is plainly
wrong about an acted emotion.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ser_engine.models.compact import COMPACT, COMPACT_WEIGHTS, Compact
from training.batches import _masked, _tilted
from training.clips import CLASSES
from training.muon import compact_optimisers
from training.schedule import Schedule, follow, given_values, part_costs, take_steps
from training.shard_batches import Batch, ShardSource
from training.voices import revoiced

_VOICES = (0.1, 0.15)


@dataclass(frozen=True, slots=True, kw_only=True)
class DistilPlan(Schedule):
    """What is trained, on what and for how long.

    Attributes:
        teacher_share: weight of what the teacher says, against what was recorded.
        all_frames: share of the loss on the mean over all frames; the rest pools speech only.
        start_share: of the weights it starts from in those it ends with: the mean of both keeps
            more of what the first network did than its training does (Wortsman et al. 2022,
            "Robust fine-tuning of zero-shot models").
        revoiced_share: scenes moved to other voices.
        corpus_shares: how often each corpus is drawn.
    """

    steps: int = 1500
    batch_size: int = 32
    peak_rate: float = 1e-3
    warm_up_steps: int = 60
    weight_decay: float = 0.05
    teacher_share: float = 0.5
    all_frames: float = 0.3
    average_decay: float = 0.99
    start_share: float = 0.0
    revoiced_share: float = 0.4
    corpus_shares: tuple[tuple[str, float], ...] = (
        ("emodb", 0.12),
        ("ravdess", 0.18),
        ("nemo_pl", 0.2),
        ("ased", 0.12),
        ("natural", 0.2),
        ("prompts", 0.07),
        ("sounds", 0.11),
    )
    dropout: float = 0.1


class Teacher:
    """What the standard model says of the parts of each scene, once for all.

    Args:
        path: ``teacher.npz`` with a (scenes, 2, classes) array of posteriors for each shard.
    """

    def __init__(self, path: Path) -> None:
        file = np.load(path)
        self._said = {name: file[name] for name in file.files}

    @property
    def shards(self) -> frozenset[str]:
        """Names of the shards it was asked about."""
        return frozenset(self._said)

    def targets(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return posteriors (batch, classes) of the first and the second parts."""
        rows = np.stack([self._said[shard][scene] for shard, scene in batch.keys])
        both = torch.from_numpy(rows)
        return both[:, 0], both[:, 1]


def train(plan: DistilPlan, shards: Path, teacher: Teacher, start: Path, out: Path) -> Compact:
    """Train, or go on training; return the averaged network in evaluation mode."""
    out.mkdir(parents=True, exist_ok=True)
    source = ShardSource(
        shards, dict(plan.corpus_shares), frozenset(), seed=plan.seed, only=teacher.shards
    )
    model = starting_network(start, plan).train()
    facts = asdict(plan) | {"sizes": asdict(model.sizes)}
    (out / "plan.json").write_text(json.dumps(facts, indent=1))
    average = starting_network(start, plan).eval().requires_grad_(False)
    optimisers = compact_optimisers(model, plan.peak_rate, plan.weight_decay)

    def loss_of(step: int) -> Tensor:
        rng = np.random.default_rng([plan.seed, step, 7])
        return scene_loss(model, source.batch(step, plan.batch_size), teacher, plan, rng)

    take_steps(model, average, optimisers, plan, loss_of, out / "state.pt")
    follow(average, starting_network(start, plan), 1 - plan.start_share)
    torch.save(average.state_dict(), out / "average.pt")
    return average


def scene_loss(
    model: Compact,
    batch: Batch,
    teacher: Teacher,
    plan: DistilPlan,
    rng: np.random.Generator,
) -> Tensor:
    """Return the cross-entropy of the pooled logits of each part with its target."""
    features = batch.compact.numpy()
    for row in range(len(features)):
        if rng.random() < plan.revoiced_share:
            formants, pitch = np.exp(rng.uniform(-1, 1, 2) * _VOICES)
            features[row] = revoiced(features[row], formants, pitch)
        features[row] = _tilted(features[row], rng)
    logits = model.context(_masked(torch.from_numpy(features), rng)).logits
    inside = torch.arange(batch.frames) < batch.change[:, None]
    total = torch.zeros(())
    for part, recorded, said in zip(
        (inside, ~inside), (batch.first, batch.second), teacher.targets(batch), strict=True
    ):
        # A teacher that gives what was acted less than a tenth is not followed.
        agrees = ((said * recorded).sum(dim=1, keepdim=True) > 0.1).float() * plan.teacher_share
        target = (1 - agrees) * recorded + agrees * said
        for speech, weight in (
            (batch.speech, 1 - plan.all_frames),
            (torch.ones_like(inside), plan.all_frames),
        ):
            each, count = part_costs(logits, (part & speech).float(), target, 0.03)
            total = total + weight * (each * part.sum(dim=1) / batch.frames * (count > 4)).mean()
    return total


def starting_network(start: Path, plan: DistilPlan) -> Compact:
    """Return a shipped network, unfused, with the classes that are learned."""
    checkpoint = COMPACT.read(start)
    names = checkpoint.info.labels.names
    rows = [names.index(name) for name in CLASSES]
    sizes = replace(checkpoint.sizes, num_classes=len(CLASSES), dropout=plan.dropout)
    model = Compact(sizes)
    state = dict(checkpoint.tensors)
    for part in ("weight", "bias"):
        state[f"context.head.{part}"] = state[f"context.head.{part}"][rows]
    model.load_state_dict(state)
    return model


def main(argv: Sequence[str] | None = None) -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(prog="python -m training.distil", description=__doc__)
    parser.add_argument("--shards", type=Path, default=Path("results/training/shards"))
    parser.add_argument("--teacher", type=Path, required=True, help="teacher.npz")
    parser.add_argument("--start", type=Path, default=COMPACT_WEIGHTS, help="a compact file")
    parser.add_argument("--out", type=Path, default=Path("results/training/compact"))
    parser.add_argument("--threads", type=int, default=1, help="of PyTorch")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=JSON")
    given = parser.parse_args(argv)
    torch.set_num_threads(given.threads)
    values = given_values(parser, DistilPlan, given.set)
    train(DistilPlan(**values), given.shards, Teacher(given.teacher), given.start, given.out)


if __name__ == "__main__":
    main()
