"""``python -m training.standard``: train the standard model's upper layers and head.

Works on what ``training.shards`` kept of the frozen lower layers, by ``training.schedule``. At its
end it writes ``teacher.npz``, what the network says of every scene, which ``training.distil`` can
learn from.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ser_engine.models.standard import Standard, StandardSizes, statistics
from training.clips import CLASSES
from training.corpora import DEV_SPEAKERS
from training.schedule import Schedule, given_values, part_costs, take_steps
from training.shard_batches import Batch, ShardSource
from training.shards import frozen_network, load_shard


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan(Schedule):
    """What is trained, on what and for how long.

    Attributes:
        layer_rate: learning rate of encoder layers; 0 leaves them as published.
        tuned_layers: how many layers from the top are trained, of those above the frozen ones.
        mixup_share: batches in which scenes are mixed in pairs.
        all_frames: share of the loss on the mean over all frames; the rest pools speech only.
        corpus_shares: how often each corpus is drawn.
        corpus_weights: weight of a row of a corpus in the loss; 1 where not named.
        with_dev: whether the speakers that options are chosen on are trained on.
        head_dropout: share of statistics and of hidden units left out.
        start: a run of ``training.head`` or of this, whose weights this one starts from.
    """

    steps: int = 1200
    batch_size: int = 24
    layer_rate: float = 1e-4
    tuned_layers: int = 2
    head_rate: float = 1e-3
    warm_up_steps: int = 60
    weight_decay: float = 0.05
    label_smoothing: float = 0.08
    mixup_share: float = 0.3
    average_decay: float = 0.99
    all_frames: float = 0.3
    corpus_shares: tuple[tuple[str, float], ...] = (
        ("emodb", 0.12),
        ("ravdess", 0.18),
        ("nemo_pl", 0.2),
        ("ased", 0.15),
        ("emogator", 0.02),
        ("emospeech", 0.03),
        ("natural", 0.14),
        ("prompts", 0.06),
        ("sounds", 0.1),
    )
    corpus_weights: tuple[tuple[str, float], ...] = (("emospeech", 0.3), ("emogator", 0.5))
    leave_out: tuple[str, ...] = ()
    with_dev: bool = False
    dropout: float = 0.1
    head_dropout: float = 0.3
    start: str = ""


def train(plan: Plan, shards: Path, whisper: Path, out: Path) -> Standard:
    """Train, or go on training; return the averaged network in evaluation mode."""
    torch.manual_seed(plan.seed)
    out.mkdir(parents=True, exist_ok=True)
    (out / "plan.json").write_text(json.dumps(asdict(plan), indent=1))
    source = ShardSource(
        shards,
        {name: share for name, share in plan.corpus_shares if name not in plan.leave_out},
        frozenset() if plan.with_dev else DEV_SPEAKERS,
        seed=plan.seed,
    )
    model = _network(whisper, plan).train()
    average = _network(whisper, plan).eval()
    average.load_state_dict(model.state_dict())
    average.requires_grad_(False)

    def loss_of(step: int) -> Tensor:
        return pooled_loss(model, source.batch(step, plan.batch_size), plan)

    take_steps(model, average, [_optimiser(model, plan)], plan, loss_of, out / "state.pt")
    torch.save({"sizes": asdict(average.sizes), "state": average.state_dict()}, out / "average.pt")
    return average


def write_teacher(network: Standard, shards: Path, path: Path) -> None:
    """Write what a network says of the two parts of every scene: posteriors (scenes, 2, classes).

    Logits are pooled over the speech of a part, or over all of it where there is next to none.
    """
    said = {}
    for folder in sorted(shards.glob("*_[0-9][0-9][0-9]")):
        if not (folder / "top.npy").exists():
            continue  # still being drawn
        shard = load_shard(folder)
        starts, upper_starts = shard.starts()
        posteriors = np.zeros((len(shard.frames), 2, len(CLASSES)), dtype=np.float32)
        for scene, change in enumerate(shard.change):
            here = slice(starts[scene], starts[scene + 1])
            frozen = shard.frozen[upper_starts[scene] : upper_starts[scene + 1]]
            with torch.inference_mode():
                frames = network.context.encoder.upper(torch.from_numpy(frozen).float()[None], None)
                loudness = torch.from_numpy(shard.loudness[here]).float()[None]
                logits = _logits(network, frames, loudness, dropout=0.0)[0]
            speech = torch.from_numpy(shard.speech[here])
            is_first = torch.arange(len(speech)) < int(change)
            for part, inside in enumerate((is_first, ~is_first)):
                pooled_over = inside & speech if int((inside & speech).sum()) > 4 else inside
                if pooled_over.any():
                    pooled = logits[pooled_over].mean(dim=0)
                    posteriors[scene, part] = pooled.softmax(dim=-1).numpy()
        said[folder.name] = posteriors
        print(f"asked about {folder.name}", flush=True)
    np.savez(path, allow_pickle=False, **said)


def pooled_loss(model: Standard, batch: Batch, plan: Plan) -> Tensor:
    """Return the cross-entropy of the pooled logits of each part of each scene.

    Mostly of the mean over speech frames, partly of the mean over all: users pool either way.
    """
    # With the layers left alone their outputs are at hand.
    alone = plan.layer_rate == 0
    frozen, loudness = _masked(batch.top if alone else batch.frozen, plan), batch.loudness
    share, order = 1.0, None
    if torch.rand(()) < plan.mixup_share:
        share = float(torch.distributions.Beta(0.4, 0.4).sample())
        order = torch.randperm(len(frozen))
        frozen = share * frozen + (1 - share) * frozen[order]
        loudness = share * loudness + (1 - share) * loudness[order]
    frames = frozen if alone else model.context.encoder.upper(frozen, None)
    logits = _logits(model, frames, loudness, plan.head_dropout)
    weights = torch.tensor([dict(plan.corpus_weights).get(corpus, 1.0) for corpus in batch.corpora])

    def cost(rows: Tensor | slice) -> Tensor:
        inside = torch.arange(batch.frames) < batch.change[rows][:, None]
        total = torch.zeros(())
        for part, target in ((inside, batch.first[rows]), (~inside, batch.second[rows])):
            for speech, weight in (
                (batch.speech[rows], 1 - plan.all_frames),
                (torch.ones_like(inside), plan.all_frames),
            ):
                frames = (part & speech).float()
                each, count = part_costs(logits, frames, target, plan.label_smoothing)
                # A part counts by its length, and not at all where it holds no speech.
                size = part.sum(dim=1) / batch.frames * (count > 4)
                total = total + weight * (each * size * weights[rows]).mean()
        return total

    loss = cost(slice(None))
    if order is not None:
        loss = share * loss + (1 - share) * cost(order)
    return loss


def _logits(model: Standard, frames: Tensor, loudness: Tensor, dropout: float) -> Tensor:
    """Score frames as the head does, some of what it sees put to the batch's mean."""
    head = model.context.head
    near, whole = statistics(frames, loudness, head.span_frames)
    center = whole.detach().mean(dim=0, keepdim=True)
    near, whole = (center + F.dropout(part - center, dropout) for part in (near, whole))
    embeddings = F.dropout(head.embeddings(near, whole), dropout)
    scored: Tensor = head.head(embeddings)
    return scored.repeat_interleave(2, dim=1)[:, : loudness.shape[1]]


def _masked(frozen: Tensor, plan: Plan) -> Tensor:
    """Put stretches of time, and some channels of a scene, to the scene's mean."""
    batch, frames, dim = frozen.shape
    mean = frozen.mean(dim=1, keepdim=True)
    keep = torch.ones(batch, frames, 1)
    for row in range(batch):
        for _ in range(2):
            if torch.rand(()) < 0.5:
                width = int(torch.randint(1, max(2, frames // 8), ()))
                start = int(torch.randint(0, frames - width, ()))
                keep[row, start : start + width] = 0
    channels = (torch.rand(batch, 1, dim) > plan.dropout / 2).float()
    keep = keep * channels
    return frozen * keep + mean * (1 - keep)


def _network(whisper: Path, plan: Plan) -> Standard:
    published = frozen_network(whisper)
    if plan.start:
        kept = torch.load(Path(plan.start) / "average.pt", weights_only=True)
        sizes = replace(StandardSizes(**kept["sizes"]), dropout=plan.dropout)
        model = Standard(sizes)
        model.load_state_dict(kept["state"])
    else:
        sizes = replace(StandardSizes(), num_classes=len(CLASSES), dropout=plan.dropout)
        model = Standard(sizes)
        model.context.encoder.load_state_dict(published.context.encoder.state_dict())
    model.requires_grad_(False)
    if plan.layer_rate > 0:
        for layer in model.context.encoder.layers[sizes.depth - plan.tuned_layers :]:
            layer.requires_grad_(True)
    model.context.head.requires_grad_(True)
    return model


def _optimiser(model: Standard, plan: Plan) -> torch.optim.Optimizer:
    layers = [p for p in model.context.encoder.parameters() if p.requires_grad]
    head = list(model.context.head.parameters())
    groups = [
        {"params": layers, "lr": plan.layer_rate, "weight_decay": 0.01},
        {"params": [p for p in head if p.ndim > 1], "lr": plan.head_rate},
        {"params": [p for p in head if p.ndim <= 1], "lr": plan.head_rate, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, betas=(0.9, 0.98), weight_decay=plan.weight_decay)


def main(argv: Sequence[str] | None = None) -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(prog="python -m training.standard", description=__doc__)
    parser.add_argument("--shards", type=Path, default=Path("results/training/shards"))
    parser.add_argument("--whisper", type=Path, required=True, help="CTranslate2 model.bin")
    parser.add_argument("--out", type=Path, default=Path("results/training/standard"))
    parser.add_argument("--threads", type=int, default=1, help="of PyTorch")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=JSON")
    given = parser.parse_args(argv)
    torch.set_num_threads(given.threads)
    values = given_values(parser, Plan, given.set)
    network = train(Plan(**values), given.shards, given.whisper, given.out)
    write_teacher(network, given.shards, given.out / "teacher.npz")


if __name__ == "__main__":
    main()
