"""Voices that need no model: a constant level is a person, zero is silence."""

from __future__ import annotations

import numpy as np

from ser_engine.frames import SAMPLE_RATE_HZ
from ser_engine.speakers.pieces import VoicePiece
from ser_engine.timeline.speech import NO_POWERS, SlotCutter
from ser_engine.types import FloatArray


class LoudIsSpeech:
    """A detector without hangover: a slot that is not zero is speech."""

    powers = NO_POWERS  # who speaks is asked for none

    def __init__(self) -> None:
        self._cutter = SlotCutter()

    def push(self, samples: FloatArray) -> list[bool]:
        return [bool(slot.any()) for slot in self._cutter.push(samples)]

    def skip(self, num_samples: int) -> None:
        self._cutter.clear()


def talk(*parts: tuple[int, float]) -> FloatArray:
    """Return people, 1, 2, …, or 0 for silence, each for so many seconds."""
    return np.concatenate(
        [np.full(round(s * SAMPLE_RATE_HZ), voice / 10, dtype=np.float32) for voice, s in parts]
    )


def embedding(piece: VoicePiece) -> FloatArray:
    """Return a direction for each level; a mixed piece points in between."""
    level = np.rint(piece.samples * 10).astype(int)
    vector = np.bincount(level, minlength=10).astype(np.float32)
    normal: FloatArray = vector / np.linalg.norm(vector)
    return normal
