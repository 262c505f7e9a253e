"""What every speech detector does with its verdicts: a floor for the level, and a hangover."""

from __future__ import annotations

import numpy as np

from ser_engine.config import VadConfig
from ser_engine.frames import HOP_SAMPLES, ms_to_samples
from ser_engine.types import FloatArray

__all__ = ["SpeechHold"]


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
