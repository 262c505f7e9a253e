"""``python -m training.evaluate``: calibrate the trained network and put it into the package.

Reads the validation speakers for the first time: one temperature is fitted to them, nothing is
chosen by them. Writes the weights and a picture of the confusions into the package, and the
figures of the networks that were trained without a corpus to ``training/left_out.json``.
``python -m benchmarks.accuracy`` then measures the shipped file as anybody would.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ser_engine.models.compact import COMPACT_WEIGHTS, Compact
from training.calibrate import fit_temperature
from training.clips import CLASSES, CORPORA, FloatArray, data_dir, read_clip, read_clips
from training.export import Calibration, export, load_run
from training.left_out import evaluate_left_out
from training.picture import draw_confusion
from training.progress import Progress


def main(argv: Sequence[str] | None = None) -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(prog="python -m training.evaluate", description=__doc__)
    parser.add_argument("--data", type=Path, default=data_dir(), help="folder of recordings")
    parser.add_argument("--runs", type=Path, default=Path("results/training"))
    parser.add_argument("--out", type=Path, default=COMPACT_WEIGHTS)
    parser.add_argument("--skip-left-out", action="store_true")
    given = parser.parse_args(argv)
    torch.set_num_threads(1)
    model = load_run(given.runs / "compact")
    clips = read_clips(given.data, "val")
    logits, truth, weights, whole = [], [], [], []
    for clip in Progress(clips, "validation speakers"):
        samples = read_clip(clip)
        # Whole clips and 2 s windows alike; every corpus counts the same.
        for piece in (samples, _middle(samples)):
            logits.append(_pooled(model, piece))
            truth.append(CLASSES.index(clip.emotion))
            weights.append(1 / sum(other.corpus == clip.corpus for other in clips))
        whole.append(int(logits[-2].argmax()))
    temperature = fit_temperature(torch.stack(logits), torch.tensor(truth), torch.tensor(weights))
    print(f"temperature {temperature:.2f}")
    plan = json.loads((given.runs / "compact" / "plan.json").read_text())
    facts = {"plan": json.dumps(plan)}
    export(model, Calibration(temperature), given.out, facts)
    draw_confusion(
        [
            (clip.corpus, clip.emotion, CLASSES[answer])
            for clip, answer in zip(clips, whole, strict=True)
        ],
        given.out.with_name("confusion.png"),
    )
    if not given.skip_left_out:
        runs = {corpus: given.runs / f"without_{corpus}" for corpus in CORPORA}
        steps = {c: json.loads((run / "plan.json").read_text())["steps"] for c, run in runs.items()}
        evaluate_left_out({c: load_run(run) for c, run in runs.items()}, steps, given.data)


def _pooled(model: Compact, samples: FloatArray) -> Tensor:
    with torch.inference_mode():
        pooled: Tensor = model(torch.from_numpy(samples)[None]).logits[0].mean(dim=0)
    return pooled


def _middle(samples: FloatArray, length: int = 32_000) -> FloatArray:
    start = max(0, (len(samples) - length) // 2)
    return np.ascontiguousarray(samples[start : start + length])


if __name__ == "__main__":
    main()
