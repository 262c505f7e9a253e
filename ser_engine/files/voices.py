"""Who speaks in a channel of a recording, and what is heard in each of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ser_engine.config import EngineConfig
from ser_engine.files.results import SpeakerResult
from ser_engine.frames import HOP_SAMPLES, samples_to_s
from ser_engine.speakers.campplus import SpeakerEmbedder
from ser_engine.speakers.diariser import Diariser, Turn, VoicePiece
from ser_engine.timeline import make_detector
from ser_engine.timeline.smoothing import softmax
from ser_engine.types import FloatArray, ModelInfo


class Voices:
    """One channel.

    Frames are kept until the end, when it is known whose they are: 36 bytes each with nine classes,
    6 MiB an hour.

    Args:
        info: the model that scores.
        config: detector, threshold.
        embedder: tells voices apart.
    """

    def __init__(self, info: ModelInfo, config: EngineConfig, embedder: SpeakerEmbedder) -> None:
        self._labels = info.labels.names
        self._embedder = embedder
        self._diariser = Diariser(
            make_detector(config.vad),
            threshold=config.speakers.threshold,
            max_speakers=config.speakers.max_speakers,
        )
        self._scored: list[tuple[int, FloatArray]] = []
        self._turns: tuple[Turn, ...] = ()

    def hear(self, samples: FloatArray) -> None:
        """Take the next samples ``(samples,)``."""
        self._embed(self._diariser.push(samples))

    def end(self) -> None:
        """Note that there is no more audio."""
        self._embed(self._diariser.finish())
        self._turns = self._diariser.turns()

    def score(self, start_sample: int, logits: FloatArray) -> None:
        """Take logits ``(frames, classes)``, 20 ms apart, the first at ``start_sample``."""
        self._scored.append((start_sample // HOP_SAMPLES, logits.copy()))

    def speaker_of(self, start_sample: int, end_sample: int) -> str | None:
        """Return who speaks most between two samples; None: nobody does."""
        shares: dict[int, int] = {}
        for turn in self._turns:
            shared = min(turn.end_sample, end_sample) - max(turn.start_sample, start_sample)
            if shared > 0:
                shares[turn.speaker] = shares.get(turn.speaker, 0) + shared
        return _name(max(shares, key=lambda each: shares[each])) if shares else None

    def results(self) -> tuple[SpeakerResult, ...]:
        """Return everybody, in the order they first speak; whoever has no scored frame is left out.

        Turns of less than a frame that was scored say nothing.
        """
        speakers = sorted({turn.speaker for turn in self._turns})
        return tuple(
            result for speaker in speakers if (result := self._result(speaker)) is not None
        )

    def _result(self, speaker: int) -> SpeakerResult | None:
        turns = tuple(turn for turn in self._turns if turn.speaker == speaker)
        rows = [frames for turn in turns for frames in self._frames_of(turn) if len(frames)]
        if not rows:
            return None
        logits = np.concatenate(rows).mean(axis=0, dtype=np.float64)
        posteriors: npt.NDArray[np.float64] = softmax(logits)
        return SpeakerResult(
            name=_name(speaker),
            turns=turns,
            speech_s=sum(samples_to_s(turn.end_sample - turn.start_sample) for turn in turns),
            label=self._labels[int(posteriors.argmax())],
            confidence=float(posteriors.max()),
            posteriors=posteriors,
        )

    def _frames_of(self, turn: Turn) -> list[FloatArray]:
        start, end = turn.start_sample // HOP_SAMPLES, turn.end_sample // HOP_SAMPLES
        return [
            logits[max(0, start - first) : max(0, end - first)] for first, logits in self._scored
        ]

    def _embed(self, pieces: Sequence[VoicePiece]) -> None:
        embeddings = self._embedder.embed([piece.samples for piece in pieces]) if pieces else []
        for piece, embedding in zip(pieces, embeddings, strict=True):
            self._diariser.accept(piece, embedding)


def _name(speaker: int) -> str:
    return f"speaker {speaker + 1}"
