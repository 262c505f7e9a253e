"""How networks fare on a corpus they were not trained on: four classes that all corpora have."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from ser_engine.models.compact import Compact
from training.clips import CLASSES, CORPORA, Clip, read_clip, read_clips
from training.progress import Progress

FOUR = ("angry", "happy", "neutral", "sad")

LEFT_OUT_FILE = Path(__file__).resolve().parent / "left_out.json"
"""The figures of the networks trained for this, which are not shipped."""


def evaluate_left_out(
    models: Mapping[str, Compact],
    steps: Mapping[str, int],
    data: Path,
    path: Path = LEFT_OUT_FILE,
) -> None:
    """Score whole clips; write ``path``.

    ``uar4`` and ``recalls`` are of the validation speakers, as all figures of the benchmark;
    ``uar4_all_speakers`` is of everybody in the corpus.

    ``models``: a network for each corpus, trained without it for ``steps``.
    """
    uar4, everybody, of_class = {}, {}, {}
    for corpus in CORPORA:
        clips = [c for c in read_clips(data) if c.corpus == corpus and c.emotion in FOUR]
        answers = [_answer(models[corpus], clip) for clip in Progress(clips, f"without {corpus}")]
        pairs = list(zip(clips, answers, strict=True))
        of_class[corpus] = _recalls([pair for pair in pairs if pair[0].split == "val"])
        uar4[corpus] = _mean(of_class[corpus])
        everybody[corpus] = _mean(_recalls(pairs))
    body = {
        "uar4": uar4,
        "recalls": of_class,
        "uar4_all_speakers": everybody,
        "steps": dict(steps),
    }
    path.write_text(json.dumps(body, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(body))


def _answer(model: Compact, clip: Clip) -> str:
    rows = [CLASSES.index(emotion) for emotion in FOUR]
    with torch.inference_mode():
        logits = model(torch.from_numpy(read_clip(clip))[None]).logits[0].mean(dim=0)
    return FOUR[int(logits[rows].argmax())]


def _recalls(pairs: Sequence[tuple[Clip, str]]) -> dict[str, float]:
    found = {}
    for emotion in FOUR:
        of_class = [answer == emotion for clip, answer in pairs if clip.emotion == emotion]
        found[emotion] = round(sum(of_class) / max(1, len(of_class)), 4)
    return found


def _mean(recalls: Mapping[str, float]) -> float:
    return round(sum(recalls.values()) / len(recalls), 4)
