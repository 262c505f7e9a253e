"""Two clips of one speaker, joined at a known time and played as a stream."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.accuracy_metrics import diarisation_error, label_delay_s
from ser_engine.config import EngineConfig
from ser_engine.files import analyze_channel
from ser_engine.files.results import StreamResult
from ser_engine.types import Core, FloatArray
from training.clips import Clip, read_clip

_PART_SAMPLES = 4 * 16_000
"""Each emotion is held for about this long: clips of it are joined until it is."""

_LEVEL = 0.05
"""RMS of the joined audio, -26 dBFS. Its parts keep the difference they were recorded with."""

_QUIET_DB = 30.0
"""Below a clip's RMS level: what is quieter at its ends is no speech."""


@dataclass(frozen=True, slots=True)
class Transition:
    """Clips of one speaker: some of one emotion, then some of another."""

    first: tuple[Clip, ...]
    second: tuple[Clip, ...]


@dataclass(frozen=True, slots=True)
class TransitionResult:
    """How a stream followed a transition.

    Attributes:
        wrong: 20 ms cells of speech with a wrong label or none.
        total: 20 ms cells of speech.
        delay_s: from the change to the first point with the new label; None where it never came.
    """

    wrong: int
    total: int
    delay_s: float | None


def draw_transitions(
    clips: Sequence[Clip], first: str, second: str, count: int, seed: int
) -> list[Transition]:
    """Draw ``count`` transitions, speakers in turn."""
    rng = np.random.default_rng(seed)
    by_speaker: dict[str, dict[str, list[Clip]]] = {}
    for clip in clips:
        by_speaker.setdefault(clip.speaker, {}).setdefault(clip.emotion, []).append(clip)
    speakers = [s for s, emotions in sorted(by_speaker.items()) if {first, second} <= set(emotions)]
    drawn = []
    for index in range(count if speakers else 0):
        emotions = by_speaker[speakers[index % len(speakers)]]
        drawn.append(Transition(_part(emotions[first], rng), _part(emotions[second], rng)))
    return drawn


def play(engine: Core, transition: Transition, config: EngineConfig) -> TransitionResult:
    """Stream one transition through the engine, smoothing and hysteresis included."""
    pieces: list[FloatArray] = []
    truth: list[tuple[int, int, str]] = []
    at = change = 0
    for part in (transition.first, transition.second):
        change = at
        for clip in part:
            samples = read_clip(clip)
            start, stop = speech_bounds(samples)
            truth.append((at + start, at + stop, clip.emotion))
            pieces.append(samples)
            at += len(samples)
    audio = np.concatenate(pieces)
    audio = audio * np.float32(_LEVEL / (np.sqrt(np.mean(audio**2)) + 1e-9))
    result = analyze_channel(engine, audio, "stream", config)
    assert isinstance(result, StreamResult)
    wrong, total = diarisation_error(truth, result.segments)
    start_of_new = next(start for start, _, emotion in truth if start >= change)
    delay = label_delay_s(
        result.points, start_of_new, truth[-1][2], config.timeline.look_ahead_samples
    )
    return TransitionResult(wrong, total, delay)


def _part(clips: Sequence[Clip], rng: np.random.Generator) -> tuple[Clip, ...]:
    chosen: list[Clip] = []
    while sum(clip.duration_s for clip in chosen) * 16_000 < _PART_SAMPLES:
        chosen.append(clips[int(rng.integers(len(clips)))])
    return tuple(chosen)


def speech_bounds(samples: FloatArray) -> tuple[int, int]:
    """Return where the loud part of a clip begins and ends, in samples."""
    blocks = samples[: len(samples) // 320 * 320].reshape(-1, 320)
    rms = np.sqrt((blocks**2).mean(axis=1))
    loud = np.flatnonzero(rms > 10 ** (-_QUIET_DB / 20) * np.sqrt(np.mean(samples**2)))
    return int(loud[0]) * 320, int(loud[-1] + 1) * 320
