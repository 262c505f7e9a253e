"""How networks fare on a corpus they were not trained on: four classes that all corpora have."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch

from ser_engine.models.compact.network import Compact
from training.clips import CLASSES, CORPORA, read_clip, read_clips
from training.progress import Progress

__all__ = ["FOUR", "LEFT_OUT_FILE", "evaluate_left_out"]

FOUR = ("angry", "happy", "neutral", "sad")

LEFT_OUT_FILE = Path(__file__).resolve().parent / "left_out.json"
"""The figures of the networks trained for this, which are not shipped."""


def evaluate_left_out(models: dict[str, Compact], steps: dict[str, int], data: Path) -> None:
    """Write :data:`LEFT_OUT_FILE`.

    Args:
        models: a network for each corpus, trained without it.
        steps: optimiser steps each was trained for.
        data: folder of recordings.
    """
    uar4 = {}
    recalls = {}
    for corpus in CORPORA:
        clips = [c for c in read_clips(data) if c.corpus == corpus and c.emotion in FOUR]
        rows = [CLASSES.index(emotion) for emotion in FOUR]
        answers = []
        for clip in Progress(clips, f"without {corpus}"):
            with torch.inference_mode():
                logits = models[corpus](torch.from_numpy(read_clip(clip))[None]).logits[0].mean(0)
            answers.append(FOUR[int(logits[rows].argmax())])
        recalls[corpus] = {
            emotion: round(
                float(
                    np.mean(
                        [
                            a == emotion
                            for a, c in zip(answers, clips, strict=True)
                            if c.emotion == emotion
                        ]
                    )
                ),
                4,
            )
            for emotion in FOUR
        }
        uar4[corpus] = round(sum(recalls[corpus].values()) / len(FOUR), 4)
    body = {"uar4": uar4, "recalls": recalls, "steps": steps, "clips": "all speakers, whole clips"}
    LEFT_OUT_FILE.write_text(json.dumps(body, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(body))
