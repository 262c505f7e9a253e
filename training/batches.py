"""Windows to train on, drawn from the prepared clips.

A window is 1 to 4 s of one speaker acting one emotion: clips of that speaker and emotion, trimmed
to speech, one after another with pauses, from a random point on. All windows of a batch are of
one length and none is padded, so neither the length of a file nor the silence around it can tell
the emotion (in emodb both would). Some windows change to another emotion part of the way; some
hold no speech at all and count as ``unknown``.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ser_engine.models.compact import CompactSizes
from ser_engine.models.compact.front_end import NUM_MELS
from training.clips import CLASSES
from training.voices import paced, revoiced

_UNKNOWN = CLASSES.index("unknown")
_VOICES = (0.12, 0.2, 0.2)
"""Furthest that formants, pitch and pace are moved; natural logarithms of factors."""


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Windows of one length.

    Attributes:
        features: float32 (batch, frames, 112).
        first: class of the first part of each window, (batch,).
        second: class of the rest, (batch,); the same where nothing changes.
        change: frame at which the second part begins, (batch,); ``frames`` where nothing changes.
    """

    features: Tensor
    first: Tensor
    second: Tensor
    change: Tensor


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """What ``training.prepare`` wrote.

    Attributes:
        facts: corpus, speaker and emotion of each clip.
        renderings: features (frames, 112) of each clip, a list a rendering.
        bounds: [first, stop) of speech in each of them.
        noise: features (frames, 112) of recordings without speech.
    """

    facts: list[dict[str, str]]
    renderings: list[list[npt.NDArray[np.float16]]]
    bounds: list[npt.NDArray[np.int64]]
    noise: list[npt.NDArray[np.float16]]


def load_prepared(folder: Path) -> Prepared:
    """Read a folder of ``training.prepare``."""
    facts = json.loads((folder / "clips.json").read_text())
    renderings, bounds = [], []
    for path in sorted(folder.glob("rendering_?.npz")):
        with np.load(path) as file:
            renderings.append(_split(file["features"], file["lengths"]))
            bounds.append(file["bounds"])
    with np.load(folder / "noise.npz") as file:
        noise = _split(file["features"], file["lengths"])
    return Prepared(facts, renderings, bounds, noise)


def _split(
    features: npt.NDArray[np.float16], lengths: npt.NDArray[np.int64]
) -> list[npt.NDArray[np.float16]]:
    return np.split(features, np.cumsum(lengths)[:-1])


class WindowSource:
    """Draws batches. Which clips: those of ``speakers``.

    ``keep``: whether clip ``i`` may be used. ``seed``: of everything drawn; the same step gives the
    same batch. ``revoiced_share``: windows moved to other voices and paces.
    """

    def __init__(
        self,
        prepared: Prepared,
        keep: Sequence[bool],
        corpus_shares: dict[str, float],
        *,
        seed: int,
        change_share: float = 0.3,
        unknown_share: float = 0.06,
        clean_share: float = 0.2,
        revoiced_share: float = 0.5,
    ) -> None:
        self._prepared = prepared
        self._seed = seed
        self._change_share = change_share
        self._unknown_share = unknown_share
        self._clean_share = clean_share
        self._revoiced_share = revoiced_share
        self._clips: dict[str, dict[str, list[int]]] = {}
        self._same: dict[tuple[str, str], list[int]] = {}
        for index, fact in enumerate(prepared.facts):
            if keep[index]:
                of_corpus = self._clips.setdefault(fact["corpus"], {})
                of_corpus.setdefault(fact["emotion"], []).append(index)
                self._same.setdefault((fact["speaker"], fact["emotion"]), []).append(index)
        self._corpora = sorted(self._clips)
        shares = np.array([corpus_shares[corpus] for corpus in self._corpora])
        self._shares = shares / shares.sum()

    def batch(self, step: int, size: int) -> Batch:
        """Return the batch of a step."""
        rng = np.random.default_rng([self._seed, step])
        frames = int(rng.choice([rng.integers(49, 100), rng.integers(100, 200)], p=[0.4, 0.6]))
        features = np.empty((size, frames, CompactSizes().feature_dim), np.float32)
        first, second = np.empty(size, np.int64), np.empty(size, np.int64)
        change = np.full(size, frames, np.int64)
        for row in range(size):
            if rng.random() < self._unknown_share:
                features[row], first[row] = self._without_speech(frames, rng), _UNKNOWN
                second[row] = _UNKNOWN
                continue
            clip = self._draw(rng)
            features[row] = self._window(clip, frames, rng)
            first[row] = second[row] = CLASSES.index(self._prepared.facts[clip]["emotion"])
            if rng.random() < self._change_share:
                other = self._draw(rng)
                at = int(rng.integers(frames // 4, frames - frames // 4))
                tail = self._window(other, frames - at, rng)
                tail[:, :NUM_MELS] += _level(features[row, :at]) - _level(tail) + rng.normal(0, 1.2)
                features[row, at:], change[row] = tail, at
                second[row] = CLASSES.index(self._prepared.facts[other]["emotion"])
        tensors = (torch.from_numpy(array) for array in (first, second, change))
        return Batch(_masked(torch.from_numpy(features), rng), *tensors)

    def _draw(self, rng: np.random.Generator) -> int:
        of_corpus = self._clips[self._corpora[rng.choice(len(self._corpora), p=self._shares)]]
        emotions = sorted(of_corpus)
        clips = of_corpus[emotions[rng.integers(len(emotions))]]
        return clips[rng.integers(len(clips))]

    def _window(self, clip: int, frames: int, rng: np.random.Generator) -> npt.NDArray[np.float32]:
        """Return ``frames`` frames as through a random microphone, at times of another voice."""
        if rng.random() >= self._revoiced_share:
            return _tilted(self._joined(clip, frames, rng), rng)
        formants, pitch, pace = np.exp(rng.uniform(-1, 1, 3) * _VOICES)
        window = self._joined(clip, round(frames * pace), rng)
        return _tilted(paced(revoiced(window, formants, pitch), frames), rng)

    def _joined(self, clip: int, frames: int, rng: np.random.Generator) -> npt.NDArray[np.float32]:
        """Return ``frames`` frames of a clip and of others of its speaker and emotion."""
        fact = self._prepared.facts[clip]
        versions = len(self._prepared.renderings)
        clean = versions == 1 or rng.random() < self._clean_share
        version = 0 if clean else int(rng.integers(1, versions))
        pieces: list[npt.NDArray[np.float32]] = []
        total, wanted = 0, frames
        while total < wanted:
            features = self._prepared.renderings[version][clip]
            start, stop = self._prepared.bounds[version][clip]
            lead, trail = (rng.exponential(8, 2) * (rng.random(2) < 0.7)).astype(int)
            speech = features[max(0, start - lead) : stop + trail].astype(np.float32)
            gap = self._pause(features, start, stop, int(rng.exponential(8)), rng)
            if total == 0:
                # A random point of the clip, such that mostly what follows is still of it.
                slack = max(0, len(speech) - wanted)
                cut = int(rng.integers(0, slack + 1)) if slack else 0
                if rng.random() < 0.3:
                    cut = int(rng.integers(0, max(1, len(speech) - wanted // 3)))
                pause_first = rng.random() < 0.2
                speech = np.concatenate([gap, speech]) if pause_first else speech[cut:]
            else:
                speech[:, :NUM_MELS] += _level(pieces[0]) - _level(speech)
            pieces += [speech, gap]
            total += len(speech) + len(gap)
            same = self._same[fact["speaker"], fact["emotion"]]
            clip = same[rng.integers(len(same))]
        return np.concatenate(pieces)[:wanted]

    def _pause(
        self,
        features: npt.NDArray[np.float16],
        start: int,
        stop: int,
        frames: int,
        rng: np.random.Generator,
    ) -> npt.NDArray[np.float32]:
        quiet = np.concatenate([features[: max(0, start)], features[stop:]])
        if len(quiet) < 5:
            quiet = features[np.argsort(features[:, :NUM_MELS].mean(axis=1))[:5]]
        chosen: npt.NDArray[np.float32] = quiet[rng.integers(len(quiet), size=frames)].astype(
            np.float32
        )
        return chosen

    def _without_speech(self, frames: int, rng: np.random.Generator) -> npt.NDArray[np.float32]:
        noise = self._prepared.noise[rng.integers(len(self._prepared.noise))]
        start = int(rng.integers(0, len(noise) - frames + 1))
        chosen: npt.NDArray[np.float32] = noise[start : start + frames].astype(np.float32)
        return _tilted(chosen, rng)


def _level(features: npt.NDArray[np.float32]) -> np.float32:
    level: np.float32 = np.log(np.exp(features[:, :NUM_MELS]).sum(axis=1).mean())
    return level


def _tilted(features: npt.NDArray[np.float32], rng: np.random.Generator) -> npt.NDArray[np.float32]:
    """Pass through a random microphone: a smooth curve over frequency, with a slope.

    The corpora differ by 10 dB from low to high, with nobody's emotion in it.
    """
    if rng.random() < 0.7:
        knots = rng.normal(0, 0.8, 6) + rng.normal(0, 1.0) * np.linspace(-1, 1, 6)
        curve = np.interp(np.linspace(0, 5, NUM_MELS), np.arange(6), knots)
        features[:, :NUM_MELS] += curve.astype(np.float32)
    return features


def _masked(features: Tensor, rng: np.random.Generator) -> Tensor:
    """SpecAugment (arXiv 1904.08779): bands and stretches of time put to the window's mean."""
    batch, frames, _ = features.shape
    mean = features[..., :NUM_MELS].mean(dim=(1, 2))
    for row in range(batch):
        for _ in range(2):
            if rng.random() < 0.5:
                width = int(rng.integers(1, 10))
                low = int(rng.integers(0, NUM_MELS - width))
                features[row, :, low : low + width] = mean[row]
            if rng.random() < 0.5:
                width = int(rng.integers(1, max(2, frames // 8)))
                begin = int(rng.integers(0, frames - width))
                features[row, begin : begin + width, :NUM_MELS] = mean[row] - 4
                features[row, begin : begin + width, NUM_MELS:] = 0
    return features
