"""Windows of audio to train on: what is heard in them, and when.

A scene is 1.5 to 4 s of one speaker: recordings of one emotion, trimmed to speech, one after
another with pauses, from a random point on, through a random room, line and level. Some change to
another emotion of the same speaker, some to a sound without speech, some begin in silence. All is
drawn from a seed, so that a scene can be made again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ser_engine.frames import HOP_SAMPLES, RECEPTIVE_FIELD_SAMPLES, SAMPLE_RATE_HZ, span_samples
from training.augment import Augmenter, change_speed
from training.clips import CLASSES, FloatArray
from training.tones import KINDS, tone

LENGTHS = (199, 149, 99, 74)
"""Frames of a scene: 4, 3, 2 and 1.5 s."""
_LENGTH_SHARES = (0.55, 0.15, 0.2, 0.1)

_QUIET_DB = 30.0
"""What is quieter than the loud frames by this much is a pause."""

_NEUTRAL, _UNKNOWN = CLASSES.index("neutral"), CLASSES.index("unknown")

Target = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Material:
    """One recording to draw from.

    Attributes:
        samples: float32, at RMS 0.05 over its speech.
        speaker: unique over corpora.
        emotion: as :func:`target_of` reads it.
    """

    samples: FloatArray
    speaker: str
    emotion: str


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """A window.

    Attributes:
        samples: float32, ``span_samples`` of one of :data:`LENGTHS`.
        speech: bool (frames,), where something is heard that the targets are about.
        first: what is right up to ``change``, a distribution over ``CLASSES``.
        second: what is right from there on.
        change: frame; the number of frames where nothing changes.
        speaker: of all speech in it.
    """

    samples: FloatArray
    speech: npt.NDArray[np.bool_]
    first: Target
    second: Target
    change: int
    speaker: str


def target_of(emotion: str) -> Target:
    """Return what is aimed at: one class, or for natural speech (``""``) mostly neutral."""
    target = np.zeros(len(CLASSES), np.float32)
    if emotion == "":
        target[_NEUTRAL], target[_UNKNOWN] = 0.85, 0.15
    elif emotion == "calm":
        target[_NEUTRAL] = 1.0
    else:
        target[CLASSES.index(emotion)] = 1.0
    return target


def trimmed(samples: FloatArray) -> FloatArray:
    """Return a recording without the quiet at its ends, at RMS 0.05."""
    loud = np.flatnonzero(_loud(samples))
    if not len(loud):
        return np.zeros(0, np.float32)
    start = max(0, int(loud[0]) * HOP_SAMPLES - HOP_SAMPLES)
    stop = int(loud[-1]) * HOP_SAMPLES + RECEPTIVE_FIELD_SAMPLES + HOP_SAMPLES
    speech = samples[start:stop]
    made: FloatArray = speech * np.float32(0.05 / (np.sqrt(np.mean(speech**2)) + 1e-6))
    return made


class SceneSource:
    """Draws scenes of one corpus.

    ``continuous``: recordings are long and of one state; a scene is a stretch of one of them.
    ``clean_share``: scenes that pass through nothing but a level.
    """

    def __init__(
        self,
        material: Sequence[Material],
        augmenter: Augmenter,
        *,
        continuous: bool,
        clean_share: float = 0.25,
    ) -> None:
        self._material = material
        self._augmenter = augmenter
        self._continuous = continuous
        self._clean_share = clean_share
        self._by_emotion: dict[str, dict[str, list[int]]] = {}
        for index, one in enumerate(material):
            of_emotion = self._by_emotion.setdefault(one.emotion, {})
            of_emotion.setdefault(one.speaker, []).append(index)

    def draw(self, rng: np.random.Generator) -> Scene:
        """Return a scene."""
        frames = int(rng.choice(LENGTHS, p=_LENGTH_SHARES))
        if self._continuous:
            return self._stretch(frames, rng)
        emotions = sorted(self._by_emotion)
        emotion = emotions[rng.integers(len(emotions))]
        speakers = sorted(self._by_emotion[emotion])
        speaker = speakers[rng.integers(len(speakers))]
        pace = float(np.exp(rng.uniform(-0.14, 0.14))) if rng.random() < 0.6 else 1.0
        change, second = frames, emotion
        length = span_samples(frames)
        samples, speech = self._joined(emotion, speaker, length, pace, rng)
        kind = rng.random()
        if kind < 0.25:
            others = [e for e in emotions if e != emotion and speaker in self._by_emotion[e]]
            if others:
                second = others[rng.integers(len(others))]
                change = int(rng.integers(frames // 4, frames - frames // 4))
                tail, of_tail = self._joined(second, speaker, length, pace, rng)
                # Acted emotions differ in level; half of that stays.
                tail = tail * np.float32(np.exp(rng.normal(0, 0.3)))
                samples, speech = _spliced(samples, speech, tail, of_tail, change)
        elif kind < 0.32:
            second = "unknown"
            change = int(rng.integers(frames // 4, frames - frames // 4))
            tail = tone(str(rng.choice(KINDS)), length, rng) * np.float32(rng.uniform(0.02, 0.2))
            samples, speech = _spliced(samples, speech, tail, _loud(tail), change)
        elif kind < 0.45:
            # A stream that has just begun, or a pause that has just ended.
            silent = int(rng.integers(frames // 6, frames * 2 // 3)) * HOP_SAMPLES
            samples = np.concatenate([np.zeros(silent, np.float32), samples])[:length]
            speech = np.concatenate([np.zeros(silent // HOP_SAMPLES, bool), speech])[:frames]
        return Scene(
            self._rendered(samples, rng),
            speech,
            target_of(emotion),
            target_of(second),
            change,
            speaker,
        )

    def _stretch(self, frames: int, rng: np.random.Generator) -> Scene:
        length = span_samples(frames)
        sizes = np.array([len(one.samples) for one in self._material], float).clip(16_000)
        one = self._material[rng.choice(len(sizes), p=sizes / sizes.sum())]
        pace = float(np.exp(rng.uniform(-0.1, 0.1))) if rng.random() < 0.4 else 1.0
        long = int(length * 1.2)
        start = int(rng.integers(0, max(1, len(one.samples) - long)))
        piece = one.samples[start : start + long]
        if len(piece) < long:
            piece = np.resize(np.concatenate([piece, np.zeros(4000, np.float32)]), long)
        samples = change_speed(piece, pace)[:length] if pace != 1.0 else piece[:length]
        if len(samples) < length:
            samples = np.pad(samples, (0, length - len(samples)))
        target = target_of(one.emotion)
        speech = _loud(samples)
        return Scene(self._rendered(samples, rng), speech, target, target, frames, one.speaker)

    def _joined(
        self, emotion: str, speaker: str, length: int, pace: float, rng: np.random.Generator
    ) -> tuple[FloatArray, npt.NDArray[np.bool_]]:
        """Return ``length`` samples of recordings of a speaker and emotion, and where speech is."""
        clips = self._by_emotion[emotion][speaker]
        pieces: list[FloatArray] = []
        total = 0
        while total < length:
            samples = self._material[clips[rng.integers(len(clips))]].samples
            if pace != 1.0:
                samples = change_speed(samples, pace)
            if not pieces:
                slack = max(0, len(samples) - length)
                cut = int(rng.integers(0, slack + 1)) if slack else 0
                if rng.random() < 0.3:
                    cut = int(rng.integers(0, max(1, len(samples) - length // 3)))
                samples = samples[cut:]
            pause = int(rng.exponential(0.15) * SAMPLE_RATE_HZ)
            pieces += [samples, np.zeros(pause, np.float32)]
            total += len(samples) + pause
        joined = np.concatenate(pieces)[:length]
        return joined, _loud(joined)

    def _rendered(self, samples: FloatArray, rng: np.random.Generator) -> FloatArray:
        # Nothing is digitally silent: breath and room go on in a pause.
        floor = 10 ** rng.uniform(-5.0, -3.3)
        samples = samples + (rng.standard_normal(len(samples)) * floor).astype(np.float32)
        if rng.random() < self._clean_share:
            return (samples * 10 ** (-rng.uniform(-6, 20) / 20)).clip(-1, 1).astype(np.float32)
        return self._augmenter.render(samples, rng, speed=False)


def sound_source(augmenter: Augmenter) -> Callable[[np.random.Generator], Scene]:
    """Return what draws scenes without speech: tones, music, noise, silence."""

    def draw(rng: np.random.Generator) -> Scene:
        frames = int(rng.choice(LENGTHS, p=_LENGTH_SHARES))
        length = span_samples(frames)
        if rng.random() < 0.3:
            samples = augmenter.background(length, rng)
        else:
            kind = str(rng.choice(KINDS, p=(0.28, 0.12, 0.08, 0.04, 0.1, 0.26, 0.06, 0.06)))
            samples = tone(kind, length, rng)
            if rng.random() < 0.6:
                samples = augmenter.render(samples, rng, speed=False)
            else:
                samples = samples * np.float32(10 ** (-rng.uniform(3, 40) / 20))
        target = target_of("unknown")
        return Scene(samples, np.ones(frames, bool), target, target, frames, "none")

    return draw


def _spliced(
    samples: FloatArray,
    speech: npt.NDArray[np.bool_],
    tail: FloatArray,
    of_tail: npt.NDArray[np.bool_],
    change: int,
) -> tuple[FloatArray, npt.NDArray[np.bool_]]:
    """Go on with another sound from a frame on."""
    at, frames = change * HOP_SAMPLES, len(speech)
    joined = np.concatenate([samples[:at], tail[: len(samples) - at]])
    return joined, np.concatenate([speech[:change], of_tail[: frames - change]])


def _loud(samples: FloatArray) -> npt.NDArray[np.bool_]:
    """Return which frames (frames,) are within 30 dB of the loud ones."""
    if len(samples) < RECEPTIVE_FIELD_SAMPLES:
        return np.zeros(0, bool)
    frames = np.lib.stride_tricks.sliding_window_view(samples, RECEPTIVE_FIELD_SAMPLES)
    power = np.square(frames[::HOP_SAMPLES]).mean(axis=1)
    loud: npt.NDArray[np.bool_] = power > np.quantile(power, 0.95) * 10 ** (-_QUIET_DB / 10) + 1e-9
    return loud
