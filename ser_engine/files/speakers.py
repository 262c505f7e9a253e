"""The speakers of a recording's channel, and the emotion of each of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ser_engine.config import EngineConfig
from ser_engine.files.results import SpeakerResult
from ser_engine.frames import HOP_SAMPLES, samples_to_s
from ser_engine.labels import least_posterior
from ser_engine.speakers import Diariser, Turn, VoicePiece
from ser_engine.speakers.campplus import SpeakerEmbedder
from ser_engine.timeline import make_detector
from ser_engine.timeline.smoothing import softmax
from ser_engine.types import FloatArray, ModelInfo


class ChannelSpeakers:
    """Tells the speakers of one channel apart and averages the logits of their turns.

    Logits are kept until the end, when it is known whose they are: 36 bytes a frame with nine
    classes, 6 MiB an hour.

    Args:
        config: detector, threshold, number of speakers.
    """

    def __init__(self, info: ModelInfo, config: EngineConfig, embedder: SpeakerEmbedder) -> None:
        self._labels = info.labels.names
        self._abstain_below = config.smoothing.abstain_threshold(info.abstain_below)
        self._embedder = embedder
        self._diariser = Diariser(
            make_detector(config.vad),
            threshold=config.speakers.threshold,
            max_speakers=config.speakers.max_speakers,
        )
        self._scored: list[tuple[int, FloatArray]] = []  # (first slot, logits of the slots on)
        self._turns: tuple[Turn, ...] = ()

    def push(self, samples: FloatArray) -> None:
        """Take the next samples ``(samples,)``."""
        self._embed(self._diariser.push(samples))

    def finish(self) -> None:
        """Decide on the turns; no more samples may come, but logits may."""
        self._embed(self._diariser.finish())
        self._turns = self._diariser.turns()

    def add_logits(self, start_sample: int, logits: FloatArray) -> None:
        """Take a copy of logits ``(frames, classes)``, 20 ms apart, in any order of calls.

        Args:
            start_sample: where the first frame starts, a multiple of 320.
            logits: of frames that no other call gives.
        """
        self._scored.append((start_sample // HOP_SAMPLES, logits.copy()))

    def speaker_of(self, start_sample: int, end_sample: int) -> str | None:
        """Return who speaks most between two samples; None: silence."""
        shares: dict[int, int] = {}
        for turn in self._turns:
            shared = min(turn.end_sample, end_sample) - max(turn.start_sample, start_sample)
            if shared > 0:
                shares[turn.speaker] = shares.get(turn.speaker, 0) + shared
        return _name(max(shares, key=lambda each: shares[each])) if shares else None

    def results(self) -> tuple[SpeakerResult, ...]:
        """Return the speakers in the order they first speak, without those no frame was scored of.

        That happens where all turns of a speaker are shorter than a frame, or lie in pieces that
        were taken for silence.
        """
        # The diariser numbers speakers in the order they first speak.
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
        best, confidence = self._labels[int(posteriors.argmax())], float(posteriors.max())
        return SpeakerResult(
            name=_name(speaker),
            turns=turns,
            speech_s=sum(samples_to_s(turn.end_sample - turn.start_sample) for turn in turns),
            label=best if confidence >= least_posterior(best, self._abstain_below) else None,
            best=best,
            confidence=confidence,
            posteriors=posteriors,
        )

    def _frames_of(self, turn: Turn) -> list[FloatArray]:
        start, end = turn.start_sample // HOP_SAMPLES, turn.end_sample // HOP_SAMPLES
        # Clipped at 0: a negative bound would count from the end of the array.
        return [
            logits[max(0, start - first) : max(0, end - first)] for first, logits in self._scored
        ]

    def _embed(self, pieces: Sequence[VoicePiece]) -> None:
        embeddings = self._embedder.embed([piece.samples for piece in pieces]) if pieces else []
        for piece, embedding in zip(pieces, embeddings, strict=True):
            self._diariser.accept(piece, embedding)


def _name(speaker: int) -> str:
    return f"speaker {speaker + 1}"
