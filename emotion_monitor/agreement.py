"""Recordings that people have labelled: how far the model agrees, and clips to train on.

A recording's labels lie beside it, in a file of the same name that Praat, ELAN or Audacity wrote,
or that the page of a stream exports. One tier is held against the segments that a live stream of
that channel would have.
"""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import soundfile

from ser_engine.errors import AnnotationError
from ser_engine.files import FileAnalysis
from ser_engine.files.annotations import (
    SUFFIXES,
    UNCLEAR,
    Agreement,
    Interval,
    Tier,
    agreement,
    read_tiers,
    tier_of_events,
)
from ser_engine.files.audio import read_audio
from ser_engine.files.results import StreamResult
from ser_engine.files.whole_files import safe_name, whole_file
from ser_engine.frames import SAMPLE_RATE_HZ
from ser_engine.labels import LabelSet
from ser_engine.types import FloatArray

LEAST_CLIP_S = 0.5
"""Shorter ones tell too little of an emotion to be trained on."""

MANIFEST_FIELDS = (
    *("path", "corpus", "speaker", "gender"),
    *("language", "emotion", "split", "duration_s"),
)
"""Columns of a corpus as ``training`` reads it."""


@dataclass(frozen=True, slots=True)
class Labelled:
    """One channel of a recording, with the labels of a person.

    Attributes:
        tier: the labels, each a class of the model or ``unclear``.
        foreign_s: seconds of other labels, by their text; they are left out.
    """

    path: Path
    channel: int
    tier: Tier
    foreign_s: dict[str, float]


def labels_beside(recording: Path) -> Path:
    """Return the file with the labels of a recording: ``call.eaf`` or ``call.wav.eaf``, say.

    Raises:
        AnnotationError: there is no such file, or more than one.
    """
    names = [recording.stem + suffix for suffix in SUFFIXES.values()]
    exported = [recording.name + suffix for suffix in SUFFIXES.values()]
    beside = [recording.with_name(name) for name in names + exported]
    found = [path for path in beside if path.is_file()]
    if len(found) == 1:
        return found[0]
    raise AnnotationError(
        f"{recording}: got {len(found) or 'no'} files of labels beside it, expected one:"
        f" {', '.join(names)}"
    )


def read_labelled(
    recording: Path, labels: LabelSet, *, tier: str | None = None, channel: int | None = None
) -> Labelled:
    """Return a recording's labels.

    A label may be named in English, in any case, or in Chinese. ``tier`` None: the only one with
    labels of the model. ``channel`` None: the number at the end of the tier's name, as exports of
    Emotion Monitor have it, or 0.

    Raises:
        AnnotationError: there are no labels, or none or several tiers that could be meant.
    """
    source = labels_beside(recording)
    known = {UNCLEAR: UNCLEAR}
    for label in labels.labels:
        known |= {label.name: label.name, label.name_zh: label.name}
    tiers = read_tiers(source)
    fitting = [
        each
        for each in tiers
        if (each.name == tier if tier is not None else _is_of_model(each, known))
    ]
    if len(fitting) != 1:
        wanted = "with labels of the model" if tier is None else f"named '{tier}'"
        names = ", ".join(repr(each.name) for each in tiers) or "none"
        raise AnnotationError(
            f"{source}: got {len(fitting) or 'no'} tiers {wanted}, expected one; there are {names}:"
            " name one with --tier"
        )
    (one,) = fitting
    foreign_s: defaultdict[str, float] = defaultdict(float)
    intervals: list[Interval] = []
    for interval in one.intervals:
        name = known.get(interval.text.casefold())
        if name is None:
            foreign_s[interval.text] += interval.end_s - interval.start_s
        else:
            intervals.append(replace(interval, text=name))
    if channel is None:
        last = one.name.rpartition(" ")[2]
        channel = int(last) if last.isascii() and last.isdigit() else 0
    return Labelled(recording, channel, Tier(one.name, tuple(intervals)), dict(foreign_s))


def _is_of_model(tier: Tier, known: dict[str, str]) -> bool:
    return any(interval.text.casefold() in known for interval in tier.intervals)


def held_against(labelled: Labelled, analysis: FileAnalysis) -> Agreement:
    """Return how far the segments of a channel say what the labels say.

    The labels are the rows of the confusion; the analysis is of the granularity ``stream``.

    Raises:
        AnnotationError: the recording has no such channel.
    """
    for index, channel in analysis.numbered:
        if index == labelled.channel and isinstance(channel.result, StreamResult):
            ours = tier_of_events("", [*channel.result.segments, *channel.result.gaps])
            return agreement(labelled.tier, ours)
    raise _no_channel(labelled, len(analysis.channels))


def write_clips(folder: Path, recordings: Sequence[Labelled], corpus: str) -> int:
    """Write what is labelled as a corpus to train on; return the number of clips.

    A clip of each label, from :data:`LEAST_CLIP_S` on: ``clips/NAME_NUMBER.wav``, 16 kHz mono, and
    a ``manifest.csv`` of them. A recording stands for a speaker, for that is what training keeps
    apart; its sex and language are left empty, to be filled in by hand.

    Raises:
        AnnotationError: a recording has no such channel.
        OSError: the folder cannot be written.
    """
    (folder / "clips").mkdir(parents=True, exist_ok=True)
    rows = []
    for number, labelled in enumerate(recordings, 1):
        speaker = f"{number:03}_{safe_name(labelled.path.stem)}"
        for index, (interval, samples) in enumerate(_clips(labelled), 1):
            path = folder / "clips" / f"{speaker}_{index:04}.wav"
            soundfile.write(path, samples, SAMPLE_RATE_HZ, subtype="PCM_16")
            duration_s = f"{len(samples) / SAMPLE_RATE_HZ:.3f}"
            of_clip = (f"clips/{path.name}", corpus, speaker, "", "", interval.text, "train")
            rows.append((*of_clip, duration_s))
    with (
        whole_file(folder / "manifest.csv") as partial,
        partial.open("w", encoding="utf-8", newline="") as file,
    ):
        writer = csv.writer(file)
        writer.writerows([MANIFEST_FIELDS, *rows])
    return len(rows)


def _clips(labelled: Labelled) -> Iterator[tuple[Interval, FloatArray]]:
    audio = read_audio(labelled.path)
    if labelled.channel >= len(audio):
        raise _no_channel(labelled, len(audio))
    samples = audio[labelled.channel]
    for interval in labelled.tier.intervals:
        start, end = (round(at_s * SAMPLE_RATE_HZ) for at_s in (interval.start_s, interval.end_s))
        part = samples[start:end]
        if interval.text != UNCLEAR and len(part) >= LEAST_CLIP_S * SAMPLE_RATE_HZ:
            yield interval, part


def _no_channel(labelled: Labelled, num_channels: int) -> AnnotationError:
    return AnnotationError(
        f"{labelled.path}: got labels for channel {labelled.channel}, expected 0 to"
        f" {num_channels - 1}; say which with --channel"
    )
