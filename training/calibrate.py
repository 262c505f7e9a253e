"""``python -m training.calibrate``: fit what a model's doubt rests on, and put it into the package.

Temperature and bias are fitted to held-out training speakers, by a network that was not trained on
them where there is one (``--fitted-on``); the threshold to natural recordings that nothing was
trained on. No validation speaker is read.

The threshold: of the 1.5 s of speech that a live label rests on, at most ``--shown`` of natural
speech may be shown as an emotion, as recorded and over the telephone.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from ser_engine.labels import EMOTION2VEC_TOKENS, LabelSet
from ser_engine.models.compact import COMPACT_WEIGHTS, Compact
from ser_engine.models.standard import STANDARD_WEIGHTS, Standard
from ser_engine.timeline.baseline import LEAST_POSTERIOR
from training.clips import CLASSES
from training.devset import Item, read_devset
from training.export import Calibration, export, load_run
from training.head import load_standard

_SPAN_FRAMES = 75
_SPAN_STEP_FRAMES = 25
_NEUTRAL = CLASSES.index("neutral")
_DOUBT = (_NEUTRAL, CLASSES.index("unknown"))
_LEAST, _MOST = 0.4, 0.9

Posteriors = npt.NDArray[np.float64]


def fit_temperature(
    logits: Tensor, truth: Tensor, weights: Tensor, bias: Tensor | float = 0.0
) -> float:
    """Return what logits (items, classes) are divided by for the least cross-entropy."""
    grid = torch.linspace(0.3, 4.0, 371)
    costs = [
        (F.cross_entropy(logits / t + bias, truth, reduction="none") * weights).sum() for t in grid
    ]
    return float(grid[int(torch.stack(costs).argmin())])


def spans(logits: Tensor, speech: Tensor) -> list[Tensor]:
    """Return the mean logits of each 1.5 s of speech of an item, one every 0.5 s."""
    frames = logits[speech]
    last = max(0, len(frames) - _SPAN_FRAMES)
    return [
        frames[start : start + _SPAN_FRAMES].mean(dim=0)
        for start in range(0, last + 1, _SPAN_STEP_FRAMES)
    ]


def fit(
    items: Sequence[Item],
    fitting: Callable[[Item], Tensor],
    shipped: Callable[[Item], Tensor],
    *,
    neutral_bias: float,
    shown: float,
    temperature: float | None = None,
) -> Calibration:
    """Return temperature and threshold.

    ``fitting`` gives frame logits (frames, classes) of a network that is not trained on the
    speakers of ``items``, ``shipped`` of the one that is shipped. ``shown``: share of natural
    speech that may be shown as an emotion. ``temperature``: where there is no network to fit it
    with.
    """
    logits, truth, weights = [], [], []
    acted = [item for item in items if item.group.split()[0] not in ("natural", "sounds")]
    for item in acted if temperature is None else ():
        logits.append(fitting(item)[item.speech].mean(dim=0))
        truth.append(CLASSES.index(item.emotion))
        weights.append(1 / sum(other.group == item.group for other in acted))
    bias = torch.zeros(len(CLASSES))
    bias[_NEUTRAL] = neutral_bias
    if temperature is None:
        temperature = fit_temperature(
            torch.stack(logits), torch.tensor(truth), torch.tensor(weights), bias
        )
    threshold = 0.0
    for group in ("natural", "natural telephone"):
        rows = [
            span
            for item in items
            if item.group == group
            for span in spans(shipped(item), item.speech)
        ]
        posteriors = (torch.stack(rows) / temperature + bias).softmax(dim=-1).numpy()
        threshold = max(threshold, _threshold(posteriors, shown))
    return Calibration(round(temperature, 2), neutral_bias, round(threshold, 2))


def neutral_logits(
    items: Sequence[Item], score: Callable[[Item], Tensor], calibration: Calibration
) -> tuple[float, ...]:
    """Return :attr:`ser_engine.types.ModelInfo.neutral_logits`: of natural speech called neutral.

    That is what a channel's own mean is made of, so an average voice is left as it is.

    ``score`` gives frame logits (frames, classes), before temperature and bias, of a network that
    was not trained on the speakers of ``items``.
    """
    natural = [item for item in items if item.group in ("natural", "natural telephone")]
    rows = torch.stack([span for item in natural for span in spans(score(item), item.speech)])
    rows = rows / calibration.temperature
    rows[:, _NEUTRAL] += calibration.neutral_bias
    mean = rows[rows.softmax(dim=-1)[:, _NEUTRAL] >= LEAST_POSTERIOR].mean(dim=0)
    logits = dict(zip(CLASSES, mean.tolist(), strict=True))
    names = LabelSet.from_tokens(EMOTION2VEC_TOKENS).names
    return tuple(round(logits.get(name, 0.0), 2) for name in names)


def _threshold(posteriors: Posteriors, shown: float) -> float:
    """Return the confidence that at most a share of rows reaches with an emotion."""
    best = posteriors.argmax(axis=1)
    confidence = np.where(np.isin(best, _DOUBT), 0.0, posteriors.max(axis=1))
    return float(np.clip(np.quantile(confidence, 1 - shown) + 0.01, _LEAST, _MOST))


def scorer(model: Compact | Standard) -> Callable[[Item], Tensor]:
    """Return what gives frame logits (frames, classes) of an item; each is asked for once."""
    cache: dict[int, Tensor] = {}

    def score(item: Item) -> Tensor:
        if id(item) not in cache:
            with torch.inference_mode():
                if isinstance(model, Compact):
                    outputs = model.context(item.compact[None].float())
                else:
                    outputs = model.context.finish(
                        item.frozen[None].float(), item.loudness[None].float()
                    )
            cache[id(item)] = outputs.logits[0].clone()
        return cache[id(item)]

    return score


def main(argv: Sequence[str] | None = None) -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(prog="python -m training.calibrate", description=__doc__)
    parser.add_argument("model", choices=("compact", "standard"))
    parser.add_argument("--run", type=Path, required=True, help="folder of the network to ship")
    parser.add_argument("--fitted-on", type=Path, help="run without the speakers of the dev set")
    parser.add_argument("--devset", type=Path, default=Path("results/training/devset.pt"))
    parser.add_argument("--neutral-bias", type=float, default=0.0)
    parser.add_argument("--temperature", type=float, help="instead of a fitted one")
    parser.add_argument("--shown", type=float, default=0.04)
    parser.add_argument("--abstain-below", type=float, help="instead of one fitted by --shown")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args(argv)
    torch.set_num_threads(1)
    load: Callable[[Path], Compact | Standard]
    load, out = (
        (load_run, COMPACT_WEIGHTS)
        if given.model == "compact"
        else (load_standard, STANDARD_WEIGHTS)
    )
    model = load(given.run)
    shipped = scorer(model)
    fitting = scorer(load(given.fitted_on)) if given.fitted_on else shipped
    calibration = fit(
        read_devset(given.devset),
        fitting,
        shipped,
        neutral_bias=given.neutral_bias,
        shown=given.shown,
        temperature=given.temperature,
    )
    if given.abstain_below is not None:
        calibration = replace(calibration, abstain_below=given.abstain_below)
    print(calibration)
    print("neutral_logits =", neutral_logits(read_devset(given.devset), fitting, calibration))
    plan = json.loads((given.run / "plan.json").read_text())
    export(model, calibration, given.out or out, {"plan": json.dumps(plan)})


if __name__ == "__main__":
    main()
