"""Speech for benchmarks: streams of real recordings, or a stand-in where there are none."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import numpy as np

from ser_engine.frames import SAMPLE_RATE_HZ
from ser_engine.types import FloatArray

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


def some_speech(duration_s: float) -> FloatArray:
    """Return one speaker of EmoDB where the recordings are there, else the stand-in."""
    folder = shared_speech_dir()
    if folder is None:
        return stand_in_speech(duration_s)
    return corpus_stream(folder, "emodb", duration_s)


def stand_in_speech(duration_s: float, seed: int = 0) -> FloatArray:
    """Return a made-up voice, vowel after vowel: detectors take most of it for speech."""
    rng = np.random.default_rng(seed)
    count = round(duration_s * SAMPLE_RATE_HZ)
    at = np.arange(count) / SAMPLE_RATE_HZ
    # Pitch, formants and loudness are made every 10 ms and drawn out.
    control = np.arange(count // 160 + 2) / 100
    vowels = _FORMANTS_HZ[rng.integers(0, len(_FORMANTS_HZ), len(control) // _VOWEL_STEPS + 1)]
    blur = np.hanning(11) / np.hanning(11).sum()
    formants = np.stack(
        [
            np.convolve(np.pad(np.repeat(each, _VOWEL_STEPS), 5, mode="edge"), blur, "valid")
            for each in vowels.T
        ],
        axis=1,
    )[: len(control)]
    pitch = _PITCH_HZ * (1 + 0.15 * np.sin(4.4 * control) + 0.05 * np.sin(14.5 * control))
    loudness = 0.25 + 0.75 * np.sin(np.pi * (control * 100 / _VOWEL_STEPS % 1)) ** 0.7
    phase = 2 * np.pi * np.cumsum(np.interp(at, control, pitch)) / SAMPLE_RATE_HZ
    voice = np.zeros(count)
    for harmonic in range(1, 4000 // _PITCH_HZ):
        distance = (harmonic * pitch[:, None] - formants) / _WIDTHS_HZ
        level = (_SHARES / (1 + distance**2)).sum(axis=1) * loudness / harmonic**0.5
        voice += np.interp(at, control, level) * np.sin(harmonic * phase)
    speech: FloatArray = (0.05 * voice / max(float(voice.std()), 1e-9)).astype(np.float32)
    return speech


_PITCH_HZ = 100
_VOWEL_STEPS = 18
_FORMANTS_HZ = np.array(
    [[730, 1090, 2440], [270, 2290, 3010], [300, 870, 2240], [530, 1840, 2480], [570, 840, 2410]]
)
"""Of five vowels: Peterson and Barney (1952)."""
_WIDTHS_HZ = np.array([80, 100, 140])
_SHARES = np.array([1, 0.6, 0.3])
