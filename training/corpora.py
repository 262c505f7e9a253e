"""All recordings that training draws from, corpus by corpus, and who is kept apart.

Acted clips have an emotion. Natural speech has none; it is mostly neutral, and the rest is not
known. Nothing of the manifests' ``val`` and ``unseen`` speakers is returned here.
"""

from __future__ import annotations

import csv
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import soundfile
import soxr

from ser_engine.frames import SAMPLE_RATE_HZ
from training.clips import Clip, FloatArray, read_clips

ACTED = ("emodb", "ravdess", "nemo_pl", "ased", "emogator", "emospeech")
NATURAL, PROMPTS = "natural", "prompts"

_ASED_DEV = ("07", "15", "23", "31", "39", "47", "55", "63")
DEV_SPEAKERS = frozenset(
    {f"emodb/{name}" for name in ("08", "11")}
    | {f"ravdess/{name}" for name in ("15", "16", "17", "18")}
    | {f"nemo_pl/{name}" for name in ("EB0", "SM0")}
    | {f"ased/{name}" for name in _ASED_DEV}
)
"""Training speakers that options are chosen on, where a run leaves them out."""

HELD_OUT_NATURAL = frozenset(
    {
        "ami_meeting-trn03",
        "ami_meeting-trn06",
        "ami_meeting-trn09",
        "azure_read-enrollment_audio_steve",
        "librispeech_read-533",
        "librispeech_read-3331",
        "other-recording2",
    }
)
"""Natural recordings of the training split to fit thresholds on: nothing is trained on them."""

_MORE = "more-speech"
_PROMPT_ROOTS = (Path("/usr/share/asterisk/sounds"),)
_PROMPT_SUFFIXES = (".wav", ".gsm")
_SYNTHETIC_VOICES = ("en", "de", "fr", "es", "it", "pl", "hi", "cmn", "ru", "pt", "am", "nl")
_SENTENCES = (
    "The next train to the city leaves from platform four at half past nine.",
    "Please enter your account number, followed by the hash key.",
    "I moved the meeting to Thursday, because the room was not free.",
    "The parcel was sent yesterday and should be with you in three days.",
)


def read_more_clips(data: Path, corpora: Iterable[str], splits: Iterable[str]) -> list[Clip]:
    """Return clips of ``more-speech``; the corpus ``natural`` stands for all natural ones.

    The speaker of a natural clip is its recording, for that is what splits go by.
    """
    folder = data / _MORE
    wanted, of_split = set(corpora), set(splits)
    clips = []
    with (folder / "manifest.csv").open(encoding="utf-8", newline="") as manifest:
        for row in csv.DictReader(manifest):
            corpus = row["corpus"].partition("-")[0]
            if corpus in wanted and row["split"] in of_split:
                path = folder / row["path"]
                natural = corpus == NATURAL
                clips.append(
                    Clip(
                        path=path,
                        corpus=corpus,
                        speaker=f"{corpus}/{path.stem if natural else row['speaker']}",
                        emotion=row["emotion"],
                        split=row["split"],
                        duration_s=float(row["duration_s"]),
                        gender=row["gender"].upper()[:1],
                    )
                )
    return clips


def read_corpus(data: Path, corpus: str) -> list[Clip]:
    """Return the training clips of a corpus, natural recordings held out left in.

    One that is not known by name is a folder of ``data`` with a ``manifest.csv``, as
    ``emotion-monitor agreement --clips`` writes it.
    """
    if (data / corpus / "manifest.csv").is_file():
        return read_clips(data, "train", corpus)
    if corpus in ("emodb", "ravdess", "nemo_pl"):
        return [clip for clip in read_clips(data, "train") if clip.corpus == corpus]
    return read_more_clips(data, [corpus], ["train"])


def read_prompts(limit_s: float, rng: np.random.Generator) -> Iterator[FloatArray]:
    """Yield spoken prompts of telephone systems, then sentences of a synthesiser, if there are any.

    Neutral by profession. From Debian's ``asterisk-core-sounds-*``, ``asterisk-prompt-*`` and
    ``espeak-ng``; without these packages nothing is yielded.
    """
    paths = [
        path
        for root in _PROMPT_ROOTS
        for path in sorted(root.rglob("*"))
        if path.suffix in _PROMPT_SUFFIXES and path.is_file() and not path.is_symlink()
    ]
    voices: dict[str, list[Path]] = {}
    for path in paths:
        voices.setdefault(path.relative_to(_PROMPT_ROOTS[0]).parts[0], []).append(path)
    for _, of_voice in sorted(voices.items()):
        left = limit_s
        for index in rng.permutation(len(of_voice)):
            samples = _read_any(of_voice[index])
            if samples is None or len(samples) < SAMPLE_RATE_HZ or np.abs(samples).max() < 0.02:
                continue
            left -= len(samples) / SAMPLE_RATE_HZ
            yield samples
            if left < 0:
                break
    yield from _synthesised()


def _read_any(path: Path) -> FloatArray | None:
    try:
        samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
    except (soundfile.LibsndfileError, RuntimeError):
        return None
    made: FloatArray = soxr.resample(samples[:, 0], rate, SAMPLE_RATE_HZ).astype(np.float32)
    return made


def _synthesised() -> Iterator[FloatArray]:
    """Yield sentences of espeak-ng in several voices, at several paces and pitches."""
    for index, voice in enumerate(_SYNTHETIC_VOICES):
        for number, sentence in enumerate(_SENTENCES):
            with tempfile.NamedTemporaryFile(suffix=".wav") as file:
                command = ["espeak-ng", "-v", f"{voice}+{'mf'[number % 2]}{1 + index % 4}"]
                command += ["-s", str(130 + 15 * number), "-p", str(30 + 12 * number)]
                try:
                    subprocess.run([*command, "-w", file.name, sentence], check=True)
                except (OSError, subprocess.CalledProcessError):
                    return
                samples = _read_any(Path(file.name))
            if samples is not None:
                yield samples
