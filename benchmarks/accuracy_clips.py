"""Acted clips: recall, calibration and robustness of a model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy
import soundfile
import soxr

from benchmarks.accuracy_metrics import (
    area_under_curve,
    binary_recall,
    confusion_matrix,
    expected_calibration_error,
    recalls,
    risk_coverage,
    unweighted_average_recall,
)
from ser_engine.files import UtteranceResult, analyze_channel
from ser_engine.frames import SAMPLE_RATE_HZ
from ser_engine.types import Core, FloatArray
from training.augment import car, noise, telephone
from training.clips import CORPORA, Clip, read_clip
from training.left_out import FOUR
from training.tones import hold_music

Array = npt.NDArray[np.float64]


class ClipScores:
    """What a model says of some clips.

    Attributes:
        posteriors: (clips, classes).
    """

    def __init__(self, clips: Sequence[Clip], posteriors: Array, names: Sequence[str]) -> None:
        self.clips = clips
        self.posteriors = posteriors
        self.names = tuple(names)
        self.truth = [clip.emotion for clip in clips]
        self.answers = [self.names[best] for best in posteriors.argmax(axis=1)]

    def of(self, keep: Callable[[Clip], bool]) -> ClipScores:
        """Return those of some clips."""
        rows = [index for index, clip in enumerate(self.clips) if keep(clip)]
        return ClipScores([self.clips[i] for i in rows], self.posteriors[rows], self.names)

    @property
    def uar(self) -> float:
        """Unweighted average recall, free to answer any class."""
        return unweighted_average_recall(self.truth, self.answers)

    @property
    def uar_of_four(self) -> float:
        """Recall of the strongest of angry, happy, neutral and sad."""
        four = self.posteriors[:, [self.names.index(name) for name in FOUR]].argmax(axis=1)
        rows = [i for i, is_ in enumerate(self.truth) if is_ in FOUR]
        return unweighted_average_recall(
            [self.truth[i] for i in rows], [FOUR[four[i]] for i in rows]
        )

    @property
    def anger_recall(self) -> float:
        """Angry clips called angry."""
        return recalls(self.truth, self.answers).get("angry", float("nan"))

    @property
    def emotion_called_neutral(self) -> float:
        """Clips of an emotion called neutral."""
        found = [
            a == "neutral" for t, a in zip(self.truth, self.answers, strict=True) if t != "neutral"
        ]
        return float(sum(found)) / max(1, len(found))

    def row(self, name: str) -> dict[str, Any]:
        """Return everything a report holds of them."""
        return {
            "name": name,
            "items": len(self.clips),
            "uar": self.uar,
            "recalls": recalls(self.truth, self.answers),
            "classes": list(self.names),
            "confusion": confusion_matrix(self.truth, self.answers, self.names).tolist(),
        }


def score_clips(
    engine: Core,
    clips: Sequence[Clip],
    render: Callable[[FloatArray, int], FloatArray] | None = None,
) -> ClipScores:
    """Analyse whole clips as users do; ``render`` gets the samples and the clip's number."""
    found = []
    for index, clip in enumerate(clips):
        samples = read_clip(clip)
        if render is not None:
            samples = render(samples, index)
        result = analyze_channel(engine, samples, "utterance")
        assert isinstance(result, UtteranceResult)
        found.append(result.posteriors)
    return ClipScores(clips, np.array(found, np.float64), engine.info.labels.names)


def renderings(data: Path) -> dict[str, Callable[[FloatArray, int], FloatArray]]:
    """Return what may happen to a clip on its way: each a function of samples and a number."""

    def mixed(samples: FloatArray, other: npt.NDArray[np.floating], ratio_db: float) -> FloatArray:
        level = np.sqrt(np.mean(samples**2)) / (np.sqrt(np.mean(np.square(other))) + 1e-9)
        made: FloatArray = (samples + other * level * 10 ** (-ratio_db / 20)).astype(np.float32)
        return made

    responses = []
    for path in sorted((data / "impulse-responses").glob("*.wav")):
        samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
        response = soxr.resample(samples[:, 0], rate, SAMPLE_RATE_HZ)[: 2 * SAMPLE_RATE_HZ]
        responses.append(response / np.sqrt(np.sum(response**2)))

    def rng(number: int) -> np.random.Generator:
        return np.random.default_rng([2026, number])

    def reverb(samples: FloatArray, number: int) -> FloatArray:
        wet = scipy.signal.fftconvolve(samples, responses[number % len(responses)])[: len(samples)]
        result: FloatArray = wet.astype(np.float32)
        return result

    return {
        "mulaw8k": lambda samples, _: telephone(samples),
        "noise_10db": lambda samples, n: mixed(samples, noise(len(samples), rng(n)), 10),
        "reverb": reverb,
        "music_10db": lambda samples, n: mixed(samples, hold_music(len(samples), rng(n)), 10),
        "car_5db": lambda samples, n: mixed(samples, car(len(samples), rng(n)), 5),
    }


def clip_rows(
    engine: Core,
    clips: Sequence[Clip],
    data: Path,
    summary: dict[str, float],
    *,
    thin: int = 1,
) -> tuple[list[dict[str, Any]], ClipScores]:
    """Score validation clips whole, as they are and rendered; return rows and the plain scores.

    Figures are added to ``summary``. Rendered rows but the telephone's are measured on every
    ``thin``-th clip.
    """
    rows = []
    plain = score_clips(engine, clips)
    for corpus in CORPORA:
        scores = plain.of(lambda clip, corpus=corpus: clip.corpus == corpus)  # type: ignore[misc]
        rows.append(scores.row(f"uar_{corpus}") | dict(_by_voice(scores)))
        summary[f"uar_{corpus}"] = scores.uar
        summary[f"worst_speaker_{corpus}"] = min(
            scores.of(lambda clip, s=s: clip.speaker == s).uar  # type: ignore[misc]
            for s in {clip.speaker for clip in scores.clips}
        )
    for gender in ("F", "M"):
        of_gender = plain.of(lambda clip, g=gender: clip.gender.upper().startswith(g))  # type: ignore[misc]
        if of_gender.clips:
            summary[f"uar_{gender}"] = float(np.mean(list(_per_corpus(of_gender).values())))
    if {"uar_F", "uar_M"} <= set(summary):
        summary["men_women_apart"] = abs(summary["uar_F"] - summary["uar_M"])
    for name, render in renderings(data).items():
        some = clips if name == "mulaw8k" else clips[::thin]
        scores = score_clips(engine, some, render)
        kept = {id(clip) for clip in some}
        before = plain.of(lambda clip, kept=kept: id(clip) in kept)  # type: ignore[misc]
        rows.append(scores.row(f"all_{name}"))
        for corpus, uar in _per_corpus(scores).items():
            summary[f"uar_{corpus}_{name}"] = uar
            summary[f"cost_{name}_{corpus}"] = _per_corpus(before)[corpus] - uar
        summary[f"cost_{name}"] = float(
            np.mean([summary[f"cost_{name}_{corpus}"] for corpus in CORPORA])
        )
        if name == "mulaw8k":
            summary |= anger_figures(scores)
    costs = [summary[f"cost_{name}"] for name in ("noise_10db", "reverb")]
    summary["cost_noise_and_rooms"] = float(np.mean(costs))
    return rows, plain


def anger_figures(scores: ClipScores) -> dict[str, float]:
    """Return how well angry is told from all else, each corpus counting the same."""
    column = scores.names.index("angry")
    found: dict[str, list[float]] = {"uar": [], "auc": []}
    for corpus in CORPORA:
        part = scores.of(lambda clip, corpus=corpus: clip.corpus == corpus)  # type: ignore[misc]
        truth = np.array([is_ == "angry" for is_ in part.truth])
        answers = np.array([answer == "angry" for answer in part.answers])
        found["uar"].append(binary_recall(truth, answers))
        found["auc"].append(area_under_curve(truth, part.posteriors[:, column]))
    return {f"angry_{name}_mulaw8k": float(np.mean(values)) for name, values in found.items()}


def calibration_rows(scores: ClipScores, summary: dict[str, float]) -> list[dict[str, Any]]:
    """Add the calibration error of each corpus, and errors over what is answered."""
    index = np.array([scores.names.index(is_) for is_ in scores.truth])
    errors = []
    for corpus in CORPORA:
        rows = np.array([clip.corpus == corpus for clip in scores.clips])
        errors.append(expected_calibration_error(scores.posteriors[rows], index[rows]))
        summary[f"ece_{corpus}"] = errors[-1]
    summary["ece"], summary["ece_worst"] = float(np.mean(errors)), max(errors)
    right = scores.posteriors.argmax(axis=1) == index
    curve = risk_coverage(scores.posteriors.max(axis=1), right)
    return [{"name": "risk_coverage", "of": "validation clips", "curve": curve}]


def unseen_row(engine: Core, clips: Sequence[Clip], summary: dict[str, float]) -> dict[str, Any]:
    """Score a corpus in a language that nothing was trained on."""
    scores = score_clips(engine, clips)
    corpus = clips[0].corpus
    summary[f"unseen_{corpus}_uar"] = scores.uar
    summary[f"unseen_{corpus}_uar4"] = scores.uar_of_four
    summary[f"unseen_{corpus}_anger_recall"] = scores.anger_recall
    summary[f"unseen_{corpus}_emotion_called_neutral"] = scores.emotion_called_neutral
    return scores.row(f"unseen_{corpus}")


def _per_corpus(scores: ClipScores) -> Mapping[str, float]:
    return {
        corpus: scores.of(lambda clip, corpus=corpus: clip.corpus == corpus).uar  # type: ignore[misc]
        for corpus in CORPORA
        if any(clip.corpus == corpus for clip in scores.clips)
    }


def _by_voice(scores: ClipScores) -> Iterator[tuple[str, dict[str, float]]]:
    speakers = sorted({clip.speaker for clip in scores.clips})
    yield (
        "uar_by_speaker",
        {s: scores.of(lambda clip, s=s: clip.speaker == s).uar for s in speakers},  # type: ignore[misc]
    )
    genders = sorted({clip.gender for clip in scores.clips})
    yield (
        "uar_by_gender",
        {g: scores.of(lambda clip, g=g: clip.gender == g).uar for g in genders},  # type: ignore[misc]
    )
