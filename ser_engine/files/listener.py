"""What a channel's audio is like: its level, its speech, and what is wrong with it."""

from __future__ import annotations

import math

import numpy as np

from ser_engine.config import VadConfig
from ser_engine.frames import samples_to_s
from ser_engine.schema import FileWarningCode, Warning
from ser_engine.timeline import make_detector
from ser_engine.timeline.quality import QualityMonitor
from ser_engine.types import FloatArray

SHORT_S = 1.0
"""Less audio than this is told of: the model was trained with utterances of seconds."""
_FLOOR_DBFS = -120.0


class Listener:
    """A speech detector for one channel of a file that listens to the quality as well.

    Args:
        config: what counts as speech.
        rate_hz: of the file.
    """

    def __init__(self, config: VadConfig, rate_hz: int) -> None:
        self._monitor = QualityMonitor(make_detector(config), rate_hz)
        self._silent_dbfs = config.min_level_dbfs
        self._warnings: dict[FileWarningCode, Warning] = {}
        self._heard_speech = False
        self._energy = 0.0
        self.heard_samples = 0

    def push(self, samples: FloatArray) -> list[bool]:
        """Take samples ``(samples,)``; return a flag for each slot now complete."""
        self.heard_samples += len(samples)
        self._energy += float(np.square(samples, dtype=np.float64).sum())
        flags = self._monitor.push(samples)
        self._heard_speech |= any(flags)
        self._keep_findings()
        return flags

    def skip(self, num_samples: int) -> None:
        """Go on after a gap; see :class:`~ser_engine.timeline.SpeechDetector`."""
        self._monitor.skip(num_samples)

    @property
    def level_dbfs(self) -> float:
        """RMS level, in dB of full scale; -inf: digital silence, or nothing."""
        power = self._energy / max(self.heard_samples, 1)
        return 10 * math.log10(power) if power else -math.inf

    def narrow_band_at(self, sample: int) -> bool:
        """Whether the audio up to a sample holds nothing above 4 kHz, as far as is known there."""
        return self._monitor.narrow_band_at(sample)

    def warnings(self) -> tuple[Warning, ...]:
        """Return what was wrong, each thing once. Ask at the end, no more audio may come."""
        self._monitor.finish()
        self._keep_findings()
        duration_s = samples_to_s(self.heard_samples)
        found = dict(self._warnings)
        if self.level_dbfs < self._silent_dbfs:
            message = (
                f"silence: the level is {max(self.level_dbfs, _FLOOR_DBFS):.0f} dBFS, expected"
                f" {self._silent_dbfs:.0f} dBFS or more; a result for silence means nothing"
            )
            found = {code: found[code] for code in found if code not in ("too_quiet", "noisy")}
            found["silent"] = Warning(code="silent", message=message, at_s=0.0)
        elif not self._heard_speech:
            message = "no speech was heard, expected some; a result for other sounds means nothing"
            found["silent"] = Warning(code="silent", message=message, at_s=0.0)
        if duration_s < SHORT_S:
            message = (
                f"the recording has {duration_s:.2f} s, expected {SHORT_S:.0f} s or more;"
                " a result from less is weak"
            )
            found["short"] = Warning(code="short", message=message, at_s=0.0)
        return tuple(found.values())

    def _keep_findings(self) -> None:
        for finding in self._monitor.take_findings():
            warning = Warning(
                code=finding.code, message=finding.message, at_s=round(finding.at_s, 3)
            )
            self._warnings.setdefault(finding.code, warning)
