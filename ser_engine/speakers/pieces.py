"""Speech of one channel, cut into the pieces whose voice is heard.

Speech is cut into pieces of :data:`PIECE_S`, each :data:`STEP_S` after the one before; a piece's
voice counts for the step around its middle, the first and last of a run of speech for its ends
too::

    speech   [==============================]
    piece 0  [---------------]
    piece 1          [---------------]
    piece 2                  [--------------]
    counts   [----0------][--1---][----2----]

A run shorter than :data:`MIN_PIECE_S` has no voice of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ser_engine.frames import HOP_SAMPLES, SAMPLE_RATE_HZ
from ser_engine.timeline.slots import SPEECH
from ser_engine.types import FloatArray

PIECE_S = 1.5
STEP_S = 0.75
MIN_PIECE_S = 0.5

_PIECE_SAMPLES = int(PIECE_S * SAMPLE_RATE_HZ)
_STEP_SAMPLES = int(STEP_S * SAMPLE_RATE_HZ)
_MIN_SAMPLES = int(MIN_PIECE_S * SAMPLE_RATE_HZ)


@dataclass(frozen=True, slots=True, eq=False)
class VoicePiece:
    """Speech to be embedded.

    Attributes:
        samples: float32 ``(samples,)``.
        counts_from: first sample it speaks for.
        counts_to: end of that, not included.
        cut_at: up to where the detector had judged when it was cut.
    """

    samples: FloatArray
    counts_from: int
    counts_to: int
    cut_at: int


@dataclass(frozen=True, slots=True)
class ShortRun:
    """Speech that is too short for a voice; fields as of :class:`VoicePiece`."""

    counts_from: int
    counts_to: int
    cut_at: int


class VoiceCutter:
    """Takes the audio of one channel and what its detector says of it; holds back two pieces.

    Attributes:
        heard_to: up to where the detector has judged, on the channel's clock.
    """

    def __init__(self) -> None:
        self.heard_to = 0
        self._held: FloatArray = np.empty(0, dtype=np.float32)
        self._held_from = 0  # sample that _held starts with
        self._speech_from: int | None = None  # where the run of speech began
        self._cut_to = 0  # up to where pieces of the run speak for it

    @property
    def open_from(self) -> int | None:
        """Where speech begins that no piece speaks for yet; None: there is none."""
        return None if self._speech_from is None else self._cut_to

    @property
    def taken_to(self) -> int:
        """End of the audio that was taken, judged or not."""
        return self._held_from + len(self._held)

    def push(self, samples: FloatArray, states: Sequence[int]) -> list[VoicePiece | ShortRun]:
        """Take the next samples ``(samples,)`` and the states of the slots they complete."""
        self._held = np.concatenate([self._held, samples])
        pieces: list[VoicePiece | ShortRun] = []
        for state in states:
            pieces += self._slot(is_speech=state == SPEECH)
        self._forget()
        return pieces

    def skip(self, num_samples: int) -> list[VoicePiece | ShortRun]:
        """Go on after a gap; what the detector has not judged is forgotten, as it does."""
        pieces = self.end_run()
        self.heard_to = self._held_from = self.taken_to + num_samples
        self._held = self._held[:0]
        return pieces

    def end_run(self) -> list[VoicePiece | ShortRun]:
        """Cut what is left of the run of speech, as if it ended here."""
        return self._end_of_speech(self.heard_to)

    def _slot(self, *, is_speech: bool) -> list[VoicePiece | ShortRun]:
        start = self.heard_to
        self.heard_to += HOP_SAMPLES
        if not is_speech:
            return self._end_of_speech(start)
        if self._speech_from is None:
            self._speech_from = self._cut_to = start
        # The piece before last is certain not to be the last: its end is its own.
        middle = self._middle_of(self._cut_to)
        if self.heard_to < middle + _STEP_SAMPLES // 2 + _PIECE_SAMPLES:
            return []
        return [self._piece(middle, middle + _STEP_SAMPLES // 2)]

    def _middle_of(self, cut_to: int) -> int:
        """Return the middle of the piece that speaks from ``cut_to`` on."""
        assert self._speech_from is not None
        if cut_to == self._speech_from:
            return cut_to + _PIECE_SAMPLES // 2
        return cut_to + _STEP_SAMPLES // 2

    def _end_of_speech(self, end: int) -> list[VoicePiece | ShortRun]:
        if self._speech_from is None:
            return []
        pieces: list[VoicePiece | ShortRun] = []
        while end - (middle := self._middle_of(self._cut_to)) > _PIECE_SAMPLES // 2 + _STEP_SAMPLES:
            pieces.append(self._piece(middle, middle + _STEP_SAMPLES // 2))
        # The last piece ends with the speech and may overlap the one before by more than a step.
        start = max(self._speech_from, end - _PIECE_SAMPLES)
        if end - start >= _MIN_SAMPLES:
            samples = self._samples(start, end)
            pieces.append(VoicePiece(samples, self._cut_to, end, self.heard_to))
        else:
            pieces.append(ShortRun(self._cut_to, end, self.heard_to))
        self._speech_from = None
        return pieces

    def _piece(self, middle: int, counts_to: int) -> VoicePiece:
        start = middle - _PIECE_SAMPLES // 2
        samples = self._samples(start, start + _PIECE_SAMPLES)
        piece = VoicePiece(samples, self._cut_to, counts_to, self.heard_to)
        # The piece speaks for its middle only; the next one goes on from there.
        self._cut_to = counts_to
        return piece

    def _samples(self, start: int, end: int) -> FloatArray:
        return self._held[start - self._held_from : end - self._held_from].copy()

    def _forget(self) -> None:
        """Drop audio that no later piece reaches back to."""
        # The last piece of a run may end right after _cut_to, and reaches back by a whole piece.
        needed = self.heard_to if self._speech_from is None else self._cut_to - _PIECE_SAMPLES
        if needed > self._held_from:
            self._held = self._held[needed - self._held_from :].copy()
            self._held_from = needed
