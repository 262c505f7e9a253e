"""The recordings: which there are, who speaks, what was acted, and their samples."""

from __future__ import annotations

import csv
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile

from ser_engine.frames import SAMPLE_RATE_HZ

FloatArray = npt.NDArray[np.float32]

CORPORA = ("emodb", "ravdess", "nemo_pl")

CLASSES = ("angry", "disgusted", "fearful", "happy", "neutral", "sad", "surprised", "unknown")
"""What is learned, in the order of emotion2vec's labels; ``unknown`` is silence and noise."""

_READ_AS = {"calm": "neutral"}
_LEFT_OUT = {"bored"}


@dataclass(frozen=True, slots=True)
class Clip:
    """One acted recording.

    Attributes:
        corpus: ``emodb``, ``ravdess`` or ``nemo_pl``.
        speaker: unique over corpora.
        emotion: one of :data:`CLASSES`; calm counts as neutral.
        split: ``train`` or ``val``, by speaker.
        gender: ``F``, ``M`` or "".
    """

    path: Path
    corpus: str
    speaker: str
    emotion: str
    split: str
    duration_s: float
    gender: str = ""


def data_dir() -> Path:
    """Return the folder of recordings: ``EMOTION_MONITOR_SHARED_DATA``, or beside the checkout."""
    override = os.environ.get("EMOTION_MONITOR_SHARED_DATA")
    beside = Path(__file__).resolve().parent.parent.parent / "shared" / "data"
    return Path(override) if override else beside


def read_clips(
    data: Path, split: str | None = None, folder_name: str = "emotional-speech"
) -> list[Clip]:
    """Return the clips of ``split`` (None: all), in the manifest's order; bored is left out."""
    folder = data / folder_name
    with (folder / "manifest.csv").open(encoding="utf-8", newline="") as manifest:
        return [
            Clip(
                path=folder / row["path"],
                corpus=row["corpus"],
                speaker=f"{row['corpus']}/{row['speaker']}",
                emotion=_READ_AS.get(row["emotion"], row["emotion"]),
                split=row["split"],
                duration_s=float(row["duration_s"]),
                gender=row["gender"].upper()[:1],
            )
            for row in csv.DictReader(manifest)
            if row["emotion"] not in _LEFT_OUT and split in (None, row["split"])
        ]


def read_clip(clip: Clip) -> FloatArray:
    """Return the samples of a clip, float32 (samples,), 16 kHz mono."""
    samples, rate = soundfile.read(clip.path, dtype="float32")
    if rate != SAMPLE_RATE_HZ or samples.ndim != 1:
        raise ValueError(f"got {clip.path} at {rate} Hz, {samples.ndim}-d, expected 16 kHz mono")
    result: FloatArray = samples
    return result
