"""Who speaks in one channel, decided while it goes on.

::

    audio ─▶ detector ─▶ pieces ─▶ (embedded elsewhere) ─▶ voices ─▶ spans, each once and for good
                  └────▶ states, as the detector says them

Pure. :class:`LiveSpeakers` stands in front of a channel's speech detector, as a conversation's
listener does. Who speaks is decided :data:`DECIDED_AFTER_S` later, of all that was heard until then
and of nothing that came after: so it depends neither on how the audio was split nor on how long an
embedding took. A piece whose embedding never comes is nobody's.

A recording's turns (:class:`~ser_engine.speakers.Diariser`) are decided at its end, of everything;
here a voice that is new has no number until it was heard in :data:`NEW_VOICE_PIECES` pieces.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from ser_engine.frames import SAMPLE_RATE_HZ
from ser_engine.speakers.clustering import LiveVoices
from ser_engine.speakers.pieces import ShortRun, VoiceCutter, VoicePiece
from ser_engine.timeline.speech import SpeechDetector
from ser_engine.types import FloatArray

DECIDED_AFTER_S = 2.0
_DECIDED_AFTER_SAMPLES = int(DECIDED_AFTER_S * SAMPLE_RATE_HZ)
NEW_VOICE_PIECES = 4


@dataclass(frozen=True, slots=True)
class Spoken:
    """Speech of one person, between two samples.

    Attributes:
        speaker: 0 for the first who speaks, 1 for the second, …; None: not known.
    """

    start_sample: int
    end_sample: int
    speaker: int | None


@dataclass(slots=True, eq=False)
class _Open:
    """A piece whose speaker is not decided."""

    cut: VoicePiece | ShortRun
    decide_at: int  # sample
    is_answered: bool
    embedding: FloatArray | None = None


class LiveSpeakers:
    """A :class:`~ser_engine.timeline.speech.SpeechDetector`; see the module's text."""

    def __init__(self, detector: SpeechDetector, *, threshold: float, max_speakers: int) -> None:
        self.powers = detector.powers
        self._detector = detector
        self._cutter = VoiceCutter()
        self._voices = LiveVoices(threshold, max_speakers, NEW_VOICE_PIECES)
        self._to_embed: list[VoicePiece] = []
        self._unheard: deque[_Open] = deque()  # whose embedding the voices have not got
        self._undecided: deque[_Open] = deque()
        self._decided: list[Spoken] = []
        self._before: int | None = None  # who spoke last

    @property
    def decided_to(self) -> int:
        """Up to this sample it is decided who speaks, and whether anybody does."""
        if self._undecided:
            return self._undecided[0].cut.counts_from
        open_from = self._cutter.open_from
        return self._cutter.taken_to if open_from is None else open_from

    @property
    def same_as(self) -> dict[int, int]:
        """Speakers that turned out to be another one: their number, and that of the other."""
        return self._voices.same_as

    def push(self, samples: FloatArray) -> Sequence[int]:
        """Take samples ``(samples,)``; return a state for each slot now complete."""
        states = self._detector.push(samples)
        self.powers = self._detector.powers
        self._take(self._cutter.push(samples, states))
        return states

    def skip(self, num_samples: int) -> None:
        """Go on after a gap."""
        self._detector.skip(num_samples)
        self._take(self._cutter.skip(num_samples))

    def flush(self) -> None:
        """Let everything be decided of what was heard until now."""
        self._take(self._cutter.end_run())
        for each in self._undecided:
            each.decide_at = min(each.decide_at, self._cutter.heard_to)
        self._decide()

    def take_pieces(self) -> list[VoicePiece]:
        """Return the pieces to be embedded, once; hand each to :meth:`accept`."""
        pieces, self._to_embed = self._to_embed, []
        return pieces

    def accept(self, piece: VoicePiece, embedding: FloatArray | None) -> None:
        """Take the embedding of a piece, in any order; None: there will be none."""
        for each in self._unheard:
            if each.cut is piece:
                each.is_answered, each.embedding = True, embedding
        self._decide()

    def give_up(self) -> None:
        """Wait for no embedding any more."""
        for each in self._unheard:
            each.is_answered = True
        self._decide()

    def take_spoken(self) -> list[Spoken]:
        """Return what was decided since the last call, in order."""
        decided, self._decided = self._decided, []
        return decided

    def _take(self, cut: list[VoicePiece | ShortRun]) -> None:
        for each in cut:
            is_voice = isinstance(each, VoicePiece)
            opened = _Open(each, each.counts_to + _DECIDED_AFTER_SAMPLES, not is_voice)
            self._undecided.append(opened)
            if isinstance(each, VoicePiece):
                self._unheard.append(opened)
                self._to_embed.append(each)
        self._decide()

    def _decide(self) -> None:
        while self._undecided and self._undecided[0].decide_at <= self._cutter.heard_to:
            first = self._undecided[0]
            while self._unheard and self._unheard[0].cut.cut_at <= first.decide_at:
                if not self._unheard[0].is_answered:
                    return
                heard = self._unheard.popleft()
                if heard.embedding is not None:
                    self._voices.add(heard.embedding)
            self._undecided.popleft()
            # What is too short for a voice goes to who spoke before.
            speaker = self._before
            if isinstance(first.cut, VoicePiece):
                speaker = None if first.embedding is None else self._voices.next_voice()
                self._before = speaker
            self._decided.append(Spoken(first.cut.counts_from, first.cut.counts_to, speaker))
