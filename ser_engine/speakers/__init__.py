"""Who speaks when in one channel.

::

    audio ─▶ speech (detector) ─▶ voice pieces of 1.5 s ─▶ embeddings ─▶ clusters ─▶ turns

The pieces to embed go out, their embeddings come back, and turns at the end. :mod:`.campplus` is a
model that embeds.

Speech is cut into pieces of :data:`PIECE_S`, each :data:`STEP_S` after the one before; a piece's
voice counts for the step around its middle, the first and last of a run of speech for its ends
too::

    speech   [==============================]
    piece 0  [---------------]
    piece 1          [---------------]
    piece 2                  [--------------]
    counts   [----0------][--1---][----2----]

A run shorter than :data:`MIN_PIECE_S` is not embedded: it is given to the speaker before it, or to
the one after it at the start.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ser_engine.frames import HOP_SAMPLES, SAMPLE_RATE_HZ
from ser_engine.schema import Span
from ser_engine.speakers.clustering import Clustering
from ser_engine.timeline.slots import SPEECH
from ser_engine.timeline.speech import SpeechDetector
from ser_engine.types import FloatArray

PIECE_S = 1.5
STEP_S = 0.75
MIN_PIECE_S = 0.5

_PIECE_SAMPLES = int(PIECE_S * SAMPLE_RATE_HZ)
_STEP_SAMPLES = int(STEP_S * SAMPLE_RATE_HZ)
_MIN_SAMPLES = int(MIN_PIECE_S * SAMPLE_RATE_HZ)
# A voice that was heard in fewer pieces, 4 s, is mostly another's in another mood. Fewer, and one
# person is too often two; more, and whoever says little is lost (benchmarks.diarisation).
_MIN_PIECES = 5


class Turn(Span, frozen=True, kw_only=True):
    """Somebody speaks.

    Attributes:
        speaker: 0 for the first who speaks, 1 for the second, …
    """

    speaker: int


@dataclass(frozen=True, slots=True, eq=False)
class VoicePiece:
    """Speech to be embedded.

    Attributes:
        samples: float32 ``(samples,)``.
        counts_from: first sample it speaks for.
        counts_to: end of that, not included.
    """

    samples: FloatArray
    counts_from: int
    counts_to: int


class Diariser:
    """Takes one channel piece by piece; holds back no more than two pieces of it.

    Args:
        detector: says what is speech; not used elsewhere.
        threshold: smallest mean cosine of the pieces of two groups that are one speaker's, −1 to 1.
        max_speakers: of more voices than these, the most alike are taken for one.
    """

    def __init__(self, detector: SpeechDetector, *, threshold: float, max_speakers: int) -> None:
        self._detector = detector
        self._clusters = Clustering(threshold, max_speakers)
        self._held: FloatArray = np.empty(0, dtype=np.float32)
        self._held_from = 0  # sample that _held starts with
        self._heard_to = 0  # end of what the detector has judged
        self._speech_from: int | None = None  # where the run of speech began
        self._cut_to = 0  # up to where pieces of the run speak for it
        self._spans: list[tuple[int, int, bool]] = []  # start, end, has an embedding

    def push(self, samples: FloatArray) -> list[VoicePiece]:
        """Take the next samples; return the pieces to embed. Hand each to :meth:`accept`."""
        self._held = np.concatenate([self._held, samples])
        pieces: list[VoicePiece] = []
        for state in self._detector.push(samples):
            pieces += self._slot(is_speech=state == SPEECH)
        self._forget()
        return pieces

    def finish(self) -> list[VoicePiece]:
        """Return the pieces that are left at the end."""
        return self._end_of_speech(self._heard_to)

    def accept(self, piece: VoicePiece, embedding: FloatArray) -> None:
        """Take the embedding of a piece, in the order the pieces came."""
        self._clusters.add(embedding)
        self._spans.append((piece.counts_from, piece.counts_to, True))

    def turns(self) -> tuple[Turn, ...]:
        """Return who spoke when, in order, after the last :meth:`accept`."""
        # Pieces come in the order of their spans, so a sorted list finds them in order, too.
        embedded = iter(self._clusters.groups(_MIN_PIECES))
        spans = sorted(self._spans)
        groups = [next(embedded) if has_embedding else None for _, _, has_embedding in spans]
        speaker = 0  # whoever speaks first
        turns: list[Turn] = []
        for (start, end, _), group in zip(spans, groups, strict=True):
            speaker = speaker if group is None else group
            if turns and turns[-1].speaker == speaker and turns[-1].end_sample == start:
                start = turns.pop().start_sample
            turns.append(Turn(start_sample=start, end_sample=end, speaker=speaker))
        return tuple(turns)

    def _slot(self, *, is_speech: bool) -> list[VoicePiece]:
        start = self._heard_to
        self._heard_to += HOP_SAMPLES
        if not is_speech:
            return self._end_of_speech(start)
        if self._speech_from is None:
            self._speech_from = self._cut_to = start
        # The piece before last is certain not to be the last: its end is its own.
        middle = self._middle_of(self._cut_to)
        if self._heard_to < middle + _STEP_SAMPLES // 2 + _PIECE_SAMPLES:
            return []
        return [self._piece(middle, middle + _STEP_SAMPLES // 2)]

    def _middle_of(self, cut_to: int) -> int:
        """Return the middle of the piece that speaks from ``cut_to`` on."""
        assert self._speech_from is not None
        if cut_to == self._speech_from:
            return cut_to + _PIECE_SAMPLES // 2
        return cut_to + _STEP_SAMPLES // 2

    def _end_of_speech(self, end: int) -> list[VoicePiece]:
        if self._speech_from is None:
            return []
        pieces: list[VoicePiece] = []
        while end - (middle := self._middle_of(self._cut_to)) > _PIECE_SAMPLES // 2 + _STEP_SAMPLES:
            pieces.append(self._piece(middle, middle + _STEP_SAMPLES // 2))
        start = max(self._speech_from, end - _PIECE_SAMPLES)
        if end - start >= _MIN_SAMPLES:
            pieces.append(VoicePiece(self._samples(start, end), self._cut_to, end))
        else:
            self._spans.append((self._cut_to, end, False))
        self._speech_from = None
        return pieces

    def _piece(self, middle: int, counts_to: int) -> VoicePiece:
        start = middle - _PIECE_SAMPLES // 2
        piece = VoicePiece(self._samples(start, start + _PIECE_SAMPLES), self._cut_to, counts_to)
        self._cut_to = counts_to
        return piece

    def _samples(self, start: int, end: int) -> FloatArray:
        return self._held[start - self._held_from : end - self._held_from].copy()

    def _forget(self) -> None:
        """Drop audio that no later piece reaches back to."""
        needed = self._heard_to if self._speech_from is None else self._cut_to - _PIECE_SAMPLES
        if needed > self._held_from:
            self._held = self._held[needed - self._held_from :].copy()
            self._held_from = needed
