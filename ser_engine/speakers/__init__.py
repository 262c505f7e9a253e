"""Who speaks when in one channel.

::

    audio ─▶ speech (detector) ─▶ voice pieces of 1.5 s ─▶ embeddings ─▶ clusters ─▶ turns

The pieces to embed go out, their embeddings come back, and turns at the end. :mod:`.campplus` is a
model that embeds, :mod:`.pieces` cuts; :mod:`.live` decides while somebody speaks.

A run of speech that is too short to be embedded is given to the speaker before it, or to the one
after it at the start.
"""

from __future__ import annotations

from ser_engine.schema import Span
from ser_engine.speakers.clustering import Clustering
from ser_engine.speakers.pieces import ShortRun, VoiceCutter, VoicePiece
from ser_engine.timeline.speech import SpeechDetector
from ser_engine.types import FloatArray

__all__ = ["Diariser", "Turn", "VoicePiece"]

# A voice that was heard in fewer pieces, 4 s, is mostly another's in another mood. Fewer, and one
# person is too often two; more, and whoever says little is lost (benchmarks.diarisation).
_MIN_PIECES = 5


class Turn(Span, frozen=True, kw_only=True):
    """Somebody speaks.

    Attributes:
        speaker: 0 for the first who speaks, 1 for the second, …
    """

    speaker: int


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
        self._cutter = VoiceCutter()
        self._spans: list[tuple[int, int, bool]] = []  # start, end, has an embedding

    def push(self, samples: FloatArray) -> list[VoicePiece]:
        """Take the next samples; return the pieces to embed. Hand each to :meth:`accept`."""
        return self._to_embed(self._cutter.push(samples, self._detector.push(samples)))

    def finish(self) -> list[VoicePiece]:
        """Return the pieces that are left at the end."""
        return self._to_embed(self._cutter.end_run())

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

    def _to_embed(self, cut: list[VoicePiece | ShortRun]) -> list[VoicePiece]:
        pieces: list[VoicePiece] = []
        for each in cut:
            if isinstance(each, VoicePiece):
                pieces.append(each)
            else:
                self._spans.append((each.counts_from, each.counts_to, False))
        return pieces
