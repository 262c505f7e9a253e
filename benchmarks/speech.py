"""Speech for benchmarks: streams of real recordings, or a stand-in where there are none."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import numpy as np

from ser_engine.frames import SAMPLE_RATE_HZ
from ser_engine.types import FloatArray

__all__ = ["CORPORA", "corpus_stream", "shared_speech_dir", "stand_in_speech"]

CORPORA = ("emodb", "ravdess", "nemo_pl")


def shared_speech_dir() -> Path | None:
    """Return the folder of acted speech beside the checkout, or None.

    The environment variable ``EMOTION_MONITOR_SHARED_DATA`` names another place for it.
    """
    override = os.environ.get("EMOTION_MONITOR_SHARED_DATA")
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = (Path(override) if override else beside) / "emotional-speech"
    return folder if (folder / "manifest.csv").exists() else None


def corpus_stream(folder: Path, corpus: str, duration_s: float, seed: int = 0) -> FloatArray:
    """Return one speaker's clips of a corpus, end to end: float32 (samples,) at 16 kHz."""
    import soundfile

    with (folder / "manifest.csv").open(encoding="utf-8", newline="") as manifest:
        rows = [row for row in csv.DictReader(manifest) if row["corpus"] == corpus]
    speakers = sorted({row["speaker"] for row in rows})
    speaker = speakers[seed % len(speakers)]
    paths = sorted(row["path"] for row in rows if row["speaker"] == speaker)
    wanted = round(duration_s * SAMPLE_RATE_HZ)
    clips: list[FloatArray] = []
    for index in np.random.default_rng(seed).permutation(len(paths)):
        samples, _ = soundfile.read(folder / paths[index], dtype="float32")
        clips.append(samples)
        if sum(map(len, clips)) >= wanted:
            break
    return np.concatenate(clips)[:wanted]


def stand_in_speech(duration_s: float, seed: int = 0) -> FloatArray:
    """Return noise that comes and goes four times a second, as syllables do."""
    rng = np.random.default_rng(seed)
    count = round(duration_s * SAMPLE_RATE_HZ)
    loudness = 0.05 * (1 + np.sin(2 * np.pi * 4 * np.arange(count) / SAMPLE_RATE_HZ))
    speech: FloatArray = (loudness * rng.standard_normal(count)).astype(np.float32)
    return speech
