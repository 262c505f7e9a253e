"""How well the people in one channel are told apart.

    python -m benchmarks.diarisation --weights campplus_cn_en_common.pt --json diarisation.json
    python -m benchmarks.diarisation --weights ... --quick           one scene a corpus and number

Talks of one to four people are made from recordings of speakers on whom nothing was trained or
chosen: turns of one to three clips, 0.1 to 0.7 s apart, in a little noise, each as recorded and
over the telephone. Readers of LibriSpeech sound like themselves; of acted clips, which are counted
apart, a voice changes with each emotion. Every talk goes through
:class:`ser_engine.speakers.Diariser` as a file does, and through
:class:`ser_engine.speakers.live.LiveSpeakers` as a stream does (``live_``); of real calls, of which
nobody wrote down who speaks, the share of speech is given that the two tell differently. Speech of
nobody who is known counts as confused, and is given beside it (``unknown``).

The figures are the diarisation error (missed, falsely found and confused time, over the time of
clips; a quarter of a second about each change is not counted, nobody speaks at once), what of it is
confused, and the share of talks in which the number of people is right. Pauses within clips count
as missed, above all those of readers. Needs the extra ``train``.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import scipy

from benchmarks.report import Report, argument_parser
from benchmarks.transitions import speech_bounds
from ser_engine.config import EngineConfig, SpeakersConfig
from ser_engine.files.audio import AudioFile
from ser_engine.frames import HOP_SAMPLES, SAMPLE_RATE_HZ
from ser_engine.speakers import Diariser, Turn
from ser_engine.speakers.campplus import SpeakerEmbedder, embedder_for
from ser_engine.speakers.live import LiveSpeakers
from ser_engine.timeline import make_detector
from ser_engine.types import FloatArray
from training.augment import landline
from training.clips import Clip, data_dir, read_clip, read_clips
from training.corpora import read_more_clips

_TALK_S = 75.0
_LEVEL = 0.05
_LONGEST_CLIP_SAMPLES = 5 * SAMPLE_RATE_HZ
_READ = "natural"
_NOISE = 10 ** (-62 / 20)
_COLLAR_SLOTS = round(0.25 * SAMPLE_RATE_HZ / HOP_SAMPLES)
_NUMBERS_OF_PEOPLE = (1, 2, 3, 4)


@dataclass(frozen=True, slots=True, eq=False)
class Talk:
    """Audio (samples,) and who speaks when: start and end sample, and the number of the person."""

    audio: FloatArray
    truth: tuple[tuple[int, int, int], ...]


def draw_talk(
    clips: dict[str, list[Clip]], people: int, rng: np.random.Generator, talk_s: float = _TALK_S
) -> Talk:
    """Let people, drawn from the speakers there are, take turns."""
    speakers = rng.choice(sorted(clips), people, replace=False)
    levels = (_LEVEL * 10 ** (rng.uniform(-3, 3, people) / 20)).astype(np.float32)
    parts: list[FloatArray] = []
    truth: list[tuple[int, int, int]] = []
    at, person = 0, people - 1
    while at < talk_s * SAMPLE_RATE_HZ:
        others = [each for each in range(people) if each != person] or [person]
        person = int(rng.choice(others))
        for _ in range(int(rng.integers(1, 4))):
            of = clips[speakers[person]]
            samples = read_clip(of[int(rng.integers(len(of)))])
            first, stop = speech_bounds(samples)
            spoken = samples[first:stop]
            if (more := len(spoken) - _LONGEST_CLIP_SAMPLES) > 0:
                cut = int(rng.integers(more))
                spoken = spoken[cut : cut + _LONGEST_CLIP_SAMPLES]
            spoken = spoken * (levels[person] / np.sqrt(np.mean(spoken**2)))
            pause = np.zeros(int(rng.uniform(0.1, 0.7) * SAMPLE_RATE_HZ), np.float32)
            truth.append((at, at + len(spoken), person))
            parts += [spoken, pause]
            at += len(spoken) + len(pause)
    audio = np.concatenate(parts)
    audio += rng.normal(0, _NOISE, len(audio)).astype(np.float32)
    return Talk(audio, tuple(truth))


_UNKNOWN = 63
"""The number of nobody."""


def live_turns_of(
    audio: FloatArray, model: SpeakerEmbedder, config: SpeakersConfig
) -> tuple[Turn, ...]:
    """Return who speaks when, as it is decided while a stream goes on."""
    live = LiveSpeakers(
        make_detector(EngineConfig().vad),
        threshold=config.threshold,
        max_speakers=config.max_speakers,
    )
    step = SAMPLE_RATE_HZ // 2
    for start in range(0, len(audio), step):
        live.push(audio[start : start + step])
        if start + step >= len(audio):
            live.flush()
        for piece in live.take_pieces():
            live.accept(piece, *model.embed([piece.samples]))
    return tuple(
        Turn(
            start_sample=each.start_sample,
            end_sample=each.end_sample,
            speaker=_UNKNOWN if each.speaker is None else each.speaker,
        )
        for each in live.take_spoken()
    )


class _Remembering:
    """Embeds each piece once: stream and file are cut into the same ones."""

    def __init__(self, model: SpeakerEmbedder) -> None:
        self.name = model.name
        self._model = model
        self._known: dict[bytes, FloatArray] = {}

    def embed(self, pieces: Sequence[FloatArray]) -> list[FloatArray]:
        for piece in pieces:
            if (key := piece.tobytes()) not in self._known:
                (self._known[key],) = self._model.embed([piece])
        return [self._known[piece.tobytes()] for piece in pieces]


def turns_of(audio: FloatArray, model: SpeakerEmbedder, config: SpeakersConfig) -> tuple[Turn, ...]:
    """Return who speaks when, as it is found in a file."""
    diariser = Diariser(
        make_detector(EngineConfig().vad),
        threshold=config.threshold,
        max_speakers=config.max_speakers,
    )
    pieces = [
        piece
        for start in range(0, len(audio), SAMPLE_RATE_HZ)
        for piece in diariser.push(audio[start : start + SAMPLE_RATE_HZ])
    ]
    pieces += diariser.finish()
    for piece, vector in zip(pieces, model.embed([each.samples for each in pieces]), strict=True):
        diariser.accept(piece, vector)
    return diariser.turns()


def diarisation_error(talk: Talk, turns: Sequence[Turn]) -> tuple[int, int, int]:
    """Return slots that are missed, falsely found or another's, those of another, and all."""
    count = len(talk.audio) // HOP_SAMPLES
    truth: npt.NDArray[np.int64] = np.full(count, -1)
    found = truth.copy()
    counts = np.ones(count, dtype=bool)
    for start, end, person in talk.truth:
        truth[start // HOP_SAMPLES : end // HOP_SAMPLES] = person
        for edge in (start // HOP_SAMPLES, end // HOP_SAMPLES):
            counts[max(0, edge - _COLLAR_SLOTS) : edge + _COLLAR_SLOTS] = False
    for turn in turns:
        found[turn.start_sample // HOP_SAMPLES : turn.end_sample // HOP_SAMPLES] = turn.speaker
    truth, found = truth[counts], found[counts]
    both = (truth >= 0) & (found >= 0)
    shared = np.zeros((truth.max() + 1, found.max(initial=0) + 1))
    np.add.at(shared, (truth[both], found[both]), 1)
    confused = both.sum() - shared[scipy.optimize.linear_sum_assignment(-shared)].sum()
    wrong = ((truth >= 0) != (found >= 0)).sum() + confused
    return int(wrong), int(confused), int((truth >= 0).sum())


def _share_of_nobody(turns: Sequence[Turn]) -> float:
    lengths = [(turn.speaker, turn.end_sample - turn.start_sample) for turn in turns]
    total = sum(length for _, length in lengths)
    return sum(length for speaker, length in lengths if speaker == _UNKNOWN) / max(total, 1)


def main() -> None:
    """Run from the command line."""
    parser = argument_parser(__doc__ or "")
    parser.add_argument("--weights", type=Path, required=True, help="of CAM++")
    parser.add_argument("--data", type=Path, default=data_dir(), help="folder of recordings")
    parser.add_argument("--talks", type=int, default=2, help="a corpus and number of people")
    given = parser.parse_args()
    talks = 1 if given.quick else given.talks
    config = SpeakersConfig()
    model = embedder_for(EngineConfig(speakers=SpeakersConfig(model=str(given.weights))))
    corpora: dict[str, dict[str, list[Clip]]] = defaultdict(lambda: defaultdict(list))
    more = read_more_clips(given.data, ["ased", "emovo", _READ], ["val", "unseen"])
    for clip in [*more, *read_clips(given.data, "val")]:
        if clip.corpus != _READ or clip.path.name.startswith("librispeech"):
            corpora[clip.corpus][clip.speaker].append(clip)
    report = Report({"talks": talks, "threshold": config.threshold, "talk_s": _TALK_S})
    rng = np.random.default_rng(0)
    errors: dict[str, list[tuple[int, int, int]]] = defaultdict(list)
    right: dict[str, list[bool]] = defaultdict(list)
    nobody: dict[str, list[float]] = defaultdict(list)
    for path in sorted((given.data / "calls").glob("*.wav")):
        both = _Remembering(model)
        with AudioFile(path) as file:
            audio = np.concatenate(list(file.blocks()), axis=1).mean(axis=0)
        recorded, live = turns_of(audio, both, config), live_turns_of(audio, both, config)
        told = tuple((turn.start_sample, turn.end_sample, turn.speaker) for turn in recorded)
        wrong, _, total = diarisation_error(Talk(audio, told), live)
        report.summary[f"live_differs_{path.stem}"] = round(wrong / max(total, 1), 3)
        report.summary[f"live_unknown_{path.stem}"] = round(_share_of_nobody(live), 3)
        report.summary[f"found_{path.stem}"] = len({turn.speaker for turn in recorded})
        report.summary[f"live_found_{path.stem}"] = len(
            {turn.speaker for turn in live} - {_UNKNOWN}
        )
    for corpus, clips in corpora.items():
        for people in (each for each in _NUMBERS_OF_PEOPLE if each <= len(clips)):
            for _ in range(talks):
                talk = draw_talk(clips, people, rng)
                for line, audio in (("wide", talk.audio), ("telephone", landline(talk.audio))):
                    both = _Remembering(model)
                    for way, of in (("", turns_of), ("live_", live_turns_of)):
                        turns = of(audio, both, config)
                        wrong, confused, total = diarisation_error(talk, turns)
                        found = len({turn.speaker for turn in turns} - {_UNKNOWN})
                        unknown = _share_of_nobody(turns)
                        report.add(
                            way=way or "file",
                            corpus=corpus,
                            people=people,
                            line=line,
                            error=wrong / total,
                            confused=confused / total,
                            unknown=unknown,
                            found=found,
                        )
                        kind = way + ("read" if corpus == _READ else "acted")
                        for key in (kind, f"{kind}_{line}", f"{kind}_{people}_people"):
                            errors[key].append((wrong, confused, total))
                            right[key].append(found == people)
                            nobody[key].append(unknown)
    for key, values in errors.items():
        wrong, confused, total = np.sum(values, axis=0)
        report.summary[f"diarisation_error_{key}"] = round(float(wrong / total), 3)
        report.summary[f"confused_{key}"] = round(float(confused / total), 3)
        report.summary[f"right_number_{key}"] = round(float(np.mean(right[key])), 3)
        if key.startswith("live_"):
            report.summary[f"unknown_{key}"] = round(float(np.mean(nobody[key])), 3)
    report.finish(given.json)


if __name__ == "__main__":
    main()
