"""Which 20 ms cells of a stream hold speech.

The encoder normalises every window, so it hears a quiet room as clearly as a voice and finds an
emotion in it. What is silence has to be known before.

What every speech detector does with its verdicts: a floor for the level, and a hangover.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from ser_engine.config import VadConfig
from ser_engine.frames import HOP_SAMPLES, SAMPLE_RATE_HZ, ms_to_samples
from ser_engine.types import FloatArray


class SpeechHold:
    """Lets speech last for ``hangover_ms`` after its last cell: short pauses belong to it."""

    def __init__(self, config: VadConfig) -> None:
        self._min_power = 10 ** (config.min_level_dbfs / 10)
        self._hangover_cells = ms_to_samples(config.hangover_ms) // HOP_SAMPLES
        self.reset()

    def reset(self) -> None:
        """Forget that there was speech."""
        self._cells_left = 0

    def loud(self, cells: FloatArray) -> list[bool]:
        """Return for each of ``(cells, 320)`` whether its RMS reaches ``min_level_dbfs``."""
        powers = np.mean(np.square(cells, dtype=np.float64), axis=1)
        loud: list[bool] = (powers >= self._min_power).tolist()
        return loud

    def push(self, is_speech: bool) -> bool:
        """Take the next cell's verdict; return whether it counts as speech."""
        if is_speech:
            self._cells_left = self._hangover_cells
            return True
        if self._cells_left:
            self._cells_left -= 1
            return True
        return False


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
            from ser_engine.timeline.silero import SileroDetector

            return SileroDetector(config)
    return WebRtcDetector(config)
