"""Which 20 ms cells of a stream hold speech.

The encoder normalises every window, so it hears a quiet room as clearly as a voice and finds an
emotion in it. What is silence has to be known before.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from ser_engine.config import VadConfig
from ser_engine.frames import HOP_SAMPLES, SAMPLE_RATE_HZ
from ser_engine.streaming.speech_hold import SpeechHold
from ser_engine.types import FloatArray

__all__ = ["EverythingIsSpeech", "SpeechDetector", "WebRtcDetector", "make_detector"]

_FULL_SCALE = 32_767
_CELL_BYTES = 2 * HOP_SAMPLES


class SpeechDetector(Protocol):
    """Says of every 320-sample cell of one stream whether it holds speech."""

    def push(self, samples: FloatArray) -> list[bool]:
        """Take samples ``(samples,)``, any number; return a flag a cell that became whole.

        How the samples are grouped into calls must not matter.
        """
        ...

    def reset(self) -> None:
        """Forget the past, an unfinished cell included: the next sample begins a cell."""
        ...


class EverythingIsSpeech:
    """The detector ``off``."""

    def __init__(self) -> None:
        self._samples = 0

    def push(self, samples: FloatArray) -> list[bool]:
        """Return True for every cell."""
        before = self._samples // HOP_SAMPLES
        self._samples += len(samples)
        return [True] * (self._samples // HOP_SAMPLES - before)

    def reset(self) -> None:
        """Begin a new cell with the next sample."""
        self._samples = 0


class WebRtcDetector:
    """WebRTC's detector with a floor for the level and a hangover.

    A cell is speech where the detector says so and its level (RMS, relative to full scale 1.0)
    reaches ``min_level_dbfs``; and every cell that ends within ``hangover_ms`` after the last
    such cell, whatever its level: stops and short pauses belong to speech.
    """

    def __init__(self, config: VadConfig) -> None:
        from webrtcvad import Vad

        self._new_vad = Vad
        self._aggressiveness = config.aggressiveness
        self._hold = SpeechHold(config)
        self.reset()

    def reset(self) -> None:
        """Forget the noise estimate, the hangover and an unfinished cell."""
        self._vad = self._new_vad(self._aggressiveness)
        self._hold.reset()
        self._rest: FloatArray = np.empty(0, dtype=np.float32)

    def push(self, samples: FloatArray) -> list[bool]:
        """Return a flag for every cell that became whole."""
        audio = np.concatenate([self._rest, samples]) if len(self._rest) else samples
        cells = audio[: len(audio) // HOP_SAMPLES * HOP_SAMPLES].reshape(-1, HOP_SAMPLES)
        self._rest = audio[cells.size :].copy()
        if not len(cells):
            return []
        pcm = np.rint(np.clip(cells, -1.0, 1.0) * _FULL_SCALE).astype("<i2").tobytes()
        verdicts: list[bool] = []
        for start, is_loud in zip(
            range(0, len(pcm), _CELL_BYTES), self._hold.loud(cells), strict=True
        ):
            # Asked for every cell, quiet ones too: the detector follows the noise.
            cell = pcm[start : start + _CELL_BYTES]
            heard = self._vad.is_speech(cell, SAMPLE_RATE_HZ, HOP_SAMPLES)
            verdicts.append(self._hold.push(heard and is_loud))
        return verdicts


def make_detector(config: VadConfig) -> SpeechDetector:
    """Return a new detector for one stream.

    Raises:
        RuntimeUnavailableError: it needs a package that is not installed.
    """
    match config.detector:
        case "off":
            return EverythingIsSpeech()
        case "silero":
            from ser_engine.streaming.vad_silero import SileroDetector

            return SileroDetector(config)
    return WebRtcDetector(config)
