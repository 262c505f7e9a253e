"""``python -m training.head``: train the head of the standard model on kept statistics.

Several seeds are trained and become one head: their hidden units side by side, the last layers
averaged. The result is a run's folder with the whole network in ``average.pt``.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ser_engine.models.standard import Head, Standard, StandardSizes
from training.clips import CLASSES
from training.corpora import DEV_SPEAKERS
from training.schedule import given_values, part_costs, rate_at
from training.shards import frozen_network


@dataclass(frozen=True, slots=True)
class HeadPlan:
    """How a head is trained.

    Attributes:
        hidden: units of each seed's head.
        seeds: how many are trained and averaged.
        input_dropout: share of statistics left out.
        dropout: share of hidden units left out.
        mixup: parameter of the Beta distribution scenes are mixed by; 0: not.
        shares: how often each corpus is drawn.
        natural_weight: of a row of natural speech or prompts in the loss.
        with_dev: whether the speakers that options are chosen on are trained on.
    """

    hidden: int = 192
    seeds: int = 1
    steps: int = 400
    batch_size: int = 128
    rate: float = 1.5e-3
    weight_decay: float = 0.1
    input_dropout: float = 0.3
    dropout: float = 0.5
    label_smoothing: float = 0.1
    mixup: float = 0.3
    shares: tuple[tuple[str, float], ...] = (
        ("emodb", 0.14),
        ("ravdess", 0.18),
        ("nemo_pl", 0.2),
        ("ased", 0.15),
        ("emogator", 0.0),
        ("emospeech", 0.0),
        ("natural", 0.16),
        ("prompts", 0.06),
        ("sounds", 0.11),
    )
    natural_weight: float = 1.0
    leave_out: tuple[str, ...] = ()
    with_dev: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """Scenes of one corpus as their statistics.

    Attributes:
        near: float16 (scenes, frames, 1024).
        whole: float16 (scenes, 1024).
        second: bool (scenes, frames), frames of the second part.
        first_target: float32 (scenes, classes).
        second_target: float32 (scenes, classes).
        speaker: (scenes,).
    """

    near: Tensor
    whole: Tensor
    second: Tensor
    first_target: Tensor
    second_target: Tensor
    speaker: np.ndarray[tuple[int], np.dtype[np.str_]]


def load_rows(shards: Path, corpora: Sequence[str], without: frozenset[str]) -> dict[str, Rows]:
    """Read the statistics of all shards there are, a corpus at a time."""
    found = {}
    for corpus in corpora:
        paths = sorted(shards.glob(f"{corpus}_[0-9][0-9][0-9]/stats.npz"))
        files = [np.load(path) for path in paths]
        if not files:
            continue
        speaker = np.concatenate([file["speaker"] for file in files])
        keep = ~np.isin(speaker, sorted(without))

        def part(
            name: str, files: list[np.lib.npyio.NpzFile] = files, keep: np.ndarray = keep
        ) -> Tensor:
            return torch.from_numpy(np.concatenate([file[name] for file in files])[keep])

        found[corpus] = Rows(
            part("near"),
            part("whole"),
            part("second"),
            part("first_target"),
            part("second_target"),
            speaker[keep],
        )
    return found


class _Trainee(nn.Module):
    """A head of one seed, on normalised statistics."""

    mean: Tensor
    scale: Tensor

    def __init__(self, plan: HeadPlan, mean: Tensor, scale: Tensor) -> None:
        super().__init__()
        size = mean.shape[-1]
        self.register_buffer("mean", mean)
        self.register_buffer("scale", scale)
        self.near = nn.Linear(size, plan.hidden)
        self.whole = nn.Linear(size, plan.hidden, bias=False)
        self.gate = nn.Linear(plan.hidden, 1)
        self.head = nn.Linear(plan.hidden, len(CLASSES))
        self.drop_input = nn.Dropout(plan.input_dropout)
        self.drop = nn.Dropout(plan.dropout)
        nn.init.normal_(self.near.weight, std=size**-0.5)
        nn.init.normal_(self.whole.weight, std=size**-0.5)

    def forward(self, near: Tensor, whole: Tensor) -> Tensor:
        """Return logits (scenes, frames, classes)."""
        near = self.drop_input((near - self.mean) / self.scale)
        whole = self.drop_input((whole - self.mean) / self.scale)
        hidden = F.gelu(self.near(near) + self.whole(whole)[:, None])
        hidden = hidden * torch.sigmoid(self.gate(hidden))
        logits: Tensor = self.head(self.drop(hidden))
        return logits


def train_head(rows: dict[str, Rows], plan: HeadPlan, seed: int) -> _Trainee:
    """Train one seed."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    shares = {k: v for k, v in plan.shares if v > 0 and k in rows and k not in plan.leave_out}
    corpora = sorted(shares)
    weights = np.array([shares[corpus] for corpus in corpora])
    weights /= weights.sum()
    sample = torch.cat([rows[c].near[::4].flatten(0, 1).float() for c in corpora])
    model = _Trainee(plan, sample.mean(dim=0), sample.std(dim=0) + 1e-2).train()
    decayed = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]
    groups: list[dict[str, Any]] = [{"params": decayed}, {"params": others, "weight_decay": 0.0}]
    optimiser = torch.optim.AdamW(
        groups,
        betas=(0.9, 0.98),
        weight_decay=plan.weight_decay,
    )
    average = {k: v.clone() for k, v in model.state_dict().items()}
    natural = [corpus in ("natural", "prompts") for corpus in corpora]
    for step in range(plan.steps):
        for group in optimiser.param_groups:
            group["lr"] = plan.rate * rate_at(step, plan.steps, 30)
        counts = rng.multinomial(plan.batch_size, weights)
        parts = []
        for corpus, count, calm in zip(corpora, counts, natural, strict=True):
            of = rows[corpus]
            pick = torch.from_numpy(rng.integers(len(of.near), size=count))
            frames = slice(int(rng.integers(2)), None, 2)  # every other frame, at half the cost
            weight = torch.full((count,), plan.natural_weight if calm else 1.0)
            parts.append(
                (
                    of.near[pick, frames].float(),
                    of.whole[pick].float(),
                    of.second[pick, frames],
                    of.first_target[pick],
                    of.second_target[pick],
                    weight,
                )
            )
        near, whole, second, first_t, second_t, weight = (
            torch.cat(columns) for columns in zip(*parts, strict=True)
        )
        share, order = 1.0, torch.arange(len(near))
        if plan.mixup:
            share = float(rng.beta(plan.mixup, plan.mixup))
            order = torch.from_numpy(rng.permutation(len(near)))
            near = share * near + (1 - share) * near[order]
            whole = share * whole + (1 - share) * whole[order]
        logits = model(near, whole)
        loss = torch.zeros(())
        for part_share, index in ((share, slice(None)), (1 - share, order)):
            if part_share == 0:
                continue
            for inside, target in (
                (~second[index], first_t[index]),
                (second[index], second_t[index]),
            ):
                each, count = part_costs(logits, inside, target, plan.label_smoothing)
                size = count / logits.shape[1]
                loss = loss + part_share * (each * size * weight[index]).mean()
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        decay = min(0.98, step / (step + 20))
        for name, value in model.state_dict().items():
            average[name].lerp_(value, 1 - decay)
    model.load_state_dict(average)
    return model.eval()


def joined_head(heads: Sequence[_Trainee], sizes: StandardSizes) -> Head:
    """Put heads side by side: the logits of the result are the mean of theirs."""
    head = Head(sizes)
    near, bias, whole = [], [], []
    for one in heads:
        near.append(one.near.weight / one.scale)
        whole.append(one.whole.weight / one.scale)
        bias.append(one.near.bias - (near[-1] + whole[-1]) @ one.mean)
    width = heads[0].head.in_features
    state = {
        "near.weight": torch.cat(near),
        "near.bias": torch.cat(bias),
        "whole.weight": torch.cat(whole),
        "gate.weight": torch.block_diag(  # type: ignore[no-untyped-call]
            *[one.gate.weight for one in heads]
        ),
        "gate.bias": torch.cat([one.gate.bias for one in heads]),
        "head.weight": torch.cat([one.head.weight for one in heads], dim=1) / len(heads),
        "head.bias": torch.stack([one.head.bias for one in heads]).mean(dim=0),
    }
    assert width * len(heads) == sizes.embed
    head.load_state_dict(state)
    return head


def side_by_side(heads: Sequence[tuple[Head, int]], sizes: StandardSizes) -> Head:
    """Put joined heads side by side, each with the number of its seeds: every seed counts alike."""
    joined = Head(sizes)
    total = sum(seeds for _, seeds in heads)
    states = [(head.state_dict(), seeds / total) for head, seeds in heads]
    parts = {name: [state[name] for state, _ in states] for name in states[0][0]}
    parts["head.weight"] = [state["head.weight"] * share for state, share in states]
    parts["head.bias"] = [state["head.bias"] * share for state, share in states]
    made = {name: torch.cat(values) for name, values in parts.items()}
    made["gate.weight"] = torch.block_diag(*parts["gate.weight"])  # type: ignore[no-untyped-call]
    made["head.weight"] = torch.cat(parts["head.weight"], dim=1)
    made["head.bias"] = torch.stack(parts["head.bias"]).sum(dim=0)
    joined.load_state_dict(made)
    return joined


def write_teacher(heads: Sequence[_Trainee], shards: Path, path: Path) -> None:
    """Write what heads say of the two parts of every scene: posteriors (scenes, 2, classes)."""
    said = {}
    with torch.inference_mode():
        for stats in sorted(shards.glob("*_[0-9][0-9][0-9]/stats.npz")):
            file = np.load(stats)
            near = torch.from_numpy(file["near"]).float()
            whole = torch.from_numpy(file["whole"]).float()
            logits = torch.stack([head(near, whole) for head in heads]).mean(dim=0)
            second = torch.from_numpy(file["second"])
            parts = []
            for inside in (~second, second):
                count = inside.sum(dim=1, keepdim=True)
                parts.append((logits * inside[..., None]).sum(dim=1) / count.clamp_min(1))
            said[stats.parent.name] = torch.stack(parts, dim=1).softmax(dim=-1).numpy()
    np.savez(path, allow_pickle=False, **said)


def network_with(heads: Sequence[_Trainee], whisper: Path) -> Standard:
    """Return the whole network, layers as published."""
    embed = heads[0].head.in_features * len(heads)
    sizes = replace(StandardSizes(), embed=embed, num_gates=len(heads), num_classes=len(CLASSES))
    model = Standard(sizes)
    published = frozen_network(whisper)
    model.context.encoder.load_state_dict(published.context.encoder.state_dict())
    model.context.head = joined_head(heads, sizes)
    return model.eval().requires_grad_(False)


def _joined(*models: Standard) -> Standard:
    """Return the first network with the heads of all."""
    sizes = models[0].sizes
    sizes = replace(
        sizes,
        embed=sum(model.sizes.embed for model in models),
        num_gates=sum(model.sizes.num_gates for model in models),
    )
    joined = Standard(sizes)
    joined.context.encoder.load_state_dict(models[0].context.encoder.state_dict())
    heads = [(model.context.head, model.sizes.num_gates) for model in models]
    joined.context.head = side_by_side(heads, sizes)
    return joined.eval().requires_grad_(False)


def load_standard(run: Path) -> Standard:
    """Return the network of a run, in evaluation mode, with the classes it learned."""
    kept = torch.load(run / "average.pt", weights_only=True)
    model = Standard(StandardSizes(**kept["sizes"]))
    model.load_state_dict(kept["state"])
    return model.eval().requires_grad_(False)


def main(argv: Sequence[str] | None = None) -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(prog="python -m training.head", description=__doc__)
    parser.add_argument("--shards", type=Path, default=Path("results/training/shards"))
    parser.add_argument("--whisper", type=Path, required=True, help="CTranslate2 model.bin")
    parser.add_argument("--out", type=Path, default=Path("results/training/standard"))
    parser.add_argument("--beside", type=Path, help="a run whose seeds are joined to these")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=JSON")
    given = parser.parse_args(argv)
    torch.set_num_threads(1)
    plan = HeadPlan(**given_values(parser, HeadPlan, given.set))
    without = frozenset() if plan.with_dev else DEV_SPEAKERS
    rows = load_rows(given.shards, [name for name, _ in plan.shares], without)
    print({corpus: len(of.near) for corpus, of in rows.items()}, flush=True)
    heads = [train_head(rows, plan, seed) for seed in range(plan.seeds)]
    model = network_with(heads, given.whisper)
    if given.beside:
        other = load_standard(given.beside)
        model = _joined(other, model)
    given.out.mkdir(parents=True, exist_ok=True)
    (given.out / "plan.json").write_text(json.dumps(asdict(plan), indent=1))
    write_teacher(heads, given.shards, given.out / "teacher.npz")
    torch.save(
        {"sizes": asdict(model.sizes), "state": model.state_dict()}, given.out / "average.pt"
    )


if __name__ == "__main__":
    main()
