"""Make stand-ins for the recordings that tests need: synthetic voices, in the same files.

    .venv/bin/python -m scripts.make_stand_ins ../shared/data

Tests look into that folder, or the one that ``EMOTION_MONITOR_SHARED_DATA`` names. Nobody speaks in
the stand-ins: the voices are those of ``scripts.make_sample_call``, which have melody, pace, pauses
and effort, and no words. That is enough for tests of time, order, formats and losses. Tests that
depend on real people, such as those of a model's accuracy, say so and are skipped.

The folder gets a file ``STAND-INS.txt``. A folder of recordings without that file is left alone.
"""

from __future__ import annotations

import argparse
import csv
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile

from scripts.make_sample_call import (
    ANGRY,
    CALM,
    FRIENDLY,
    RATE_HZ,
    TIRED,
    Prosody,
    Voice,
    make_sample_call,
    say,
)

STAND_INS = "STAND-INS.txt"
"""The file by which a folder of stand-ins is known."""

Samples = npt.NDArray[np.float32]

CLIPS = (("angry", ANGRY), ("happy", FRIENDLY), ("neutral", CALM), ("sad", TIRED))


@dataclass(frozen=True, slots=True)
class Corpus:
    """A folder of clips, as one of the corpora has them.

    Attributes:
        name: of the folder and of the column ``corpus``.
        language: code, as in the column of that name.
        speakers: name, gender, split and voice of each.
        level_db: louder than the phrases of the sample call; RAVDESS is quiet.
    """

    name: str
    language: str
    speakers: tuple[tuple[str, str, str, Voice], ...]
    level_db: float = 0.0


def _speakers(first: str, second: str) -> tuple[tuple[str, str, str, Voice], ...]:
    return (
        (first, "M", "train", Voice(pitch_hz=112.0, tract=1.0)),
        (second, "F", "val", Voice(pitch_hz=190.0, tract=0.88)),
    )


CORPORA = (
    Corpus("emodb", "de", _speakers("03", "08")),
    Corpus("ravdess", "en", _speakers("01", "02"), level_db=-12.0),
    Corpus("nemo_pl", "pl", _speakers("MK0", "SM0")),
)


def write_clips(folder: Path) -> None:
    """Write ``emotional-speech``: a clip of each emotion of each speaker, and ``manifest.csv``."""
    rows = []
    for number, corpus in enumerate(CORPORA):
        (folder / corpus.name).mkdir(parents=True, exist_ok=True)
        for speaker, gender, split, voice in corpus.speakers:
            for take, (emotion, prosody) in enumerate(CLIPS):
                path = f"{corpus.name}/{speaker}_{emotion}.ogg"
                samples = clip(voice, prosody, corpus.level_db, 100 * number + take)
                soundfile.write(folder / path, samples, RATE_HZ, format="OGG", subtype="VORBIS")
                length = f"{len(samples) / RATE_HZ:.3f}"
                rows.append(
                    (path, corpus.name, speaker, gender, corpus.language, emotion, split, length)
                )
    with (folder / "manifest.csv").open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(
            ("path", "corpus", "speaker", "gender", "language", "emotion", "split", "duration_s")
        )
        table.writerows(rows)


def clip(voice: Voice, prosody: Prosody, level_db: float, take: int) -> Samples:
    """Return 2.6 s of speech with a little silence around it and the noise of a room."""
    rng = np.random.default_rng(take)
    prosody = replace(prosody, level_dbfs=prosody.level_dbfs + level_db)
    speech = say(voice, prosody, 2.6, rng, RATE_HZ)
    samples = rng.normal(0.0, 10 ** ((level_db - 70) / 20), len(speech) + RATE_HZ // 5)
    samples[RATE_HZ // 10 : RATE_HZ // 10 + len(speech)] += speech
    return samples.astype(np.float32)


def write_calls(folder: Path) -> None:
    """Write ``calls``: the sample call, once in two channels, mixed, and as a telephone has it."""
    folder.mkdir(parents=True, exist_ok=True)
    call = make_sample_call()
    mixed = call.mean(axis=1)
    soundfile.write(folder / "two_channel_agent_customer_16k.wav", call, RATE_HZ)
    soundfile.write(folder / "two_people_mono_16k.wav", mixed, RATE_HZ)
    # Long enough to be cut into pieces.
    soundfile.write(
        folder / "phone_call_mono_8k.wav", telephone(np.tile(mixed, 7)), 8_000, subtype="ULAW"
    )


def telephone(samples: Samples) -> Samples:
    """Return the band of a telephone, 300 to 3,400 Hz, at 8 kHz; ``samples`` are at 16 kHz."""
    spectrum = np.fft.rfft(samples)
    frequency_hz = np.fft.rfftfreq(len(samples), 1 / RATE_HZ)
    spectrum[(frequency_hz < 300) | (frequency_hz > 3_400)] = 0
    return np.fft.irfft(spectrum, len(samples))[::2].astype(np.float32)


def make_stand_ins(folder: Path) -> None:
    """Write everything to a folder.

    Raises:
        FileExistsError: there are real recordings in it.
    """
    manifest = folder / "emotional-speech" / "manifest.csv"
    if manifest.exists() and not (folder / STAND_INS).exists():
        raise FileExistsError(
            f"got {folder}, which has recordings, expected an empty folder or one of stand-ins;"
            " name another one"
        )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / STAND_INS).write_text(
        "Synthetic voices, made by `python -m scripts.make_stand_ins`. Delete this folder"
        " before you put real recordings here.\n",
        encoding="utf-8",
    )
    write_clips(folder / "emotional-speech")
    write_calls(folder / "calls")


def main() -> int:
    """Write the stand-ins, or say why not; return the exit status."""
    parser = argparse.ArgumentParser(description="Make stand-ins for the recordings of the tests.")
    parser.add_argument("folder", type=Path, help="made if it is not there")
    folder: Path = parser.parse_args().folder
    try:
        make_stand_ins(folder)
    except FileExistsError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"stand-ins are in {folder}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
