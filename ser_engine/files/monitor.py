"""What the audio of a recording's channel is like: its speech, its level, what is wrong with it."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ser_engine.config import VadConfig
from ser_engine.frames import HOP_SAMPLES, SAMPLE_RATE_HZ, samples_to_s
from ser_engine.schema import FileWarningCode, Warning
from ser_engine.timeline import SpeechDetector, make_detector
from ser_engine.timeline.quality import QualityMonitor
from ser_engine.timeline.slots import MUSIC, SPEECH, TONE, add_states
from ser_engine.timeline.speech import SlotCutter, sound_powers
from ser_engine.types import FloatArray

SHORT_S = 1.0
"""Less audio than this is warned of: the model was trained with utterances of seconds."""
_FLOOR_DBFS = -120.0


class ChannelMonitor:
    """A :class:`~ser_engine.timeline.SpeechDetector` that watches level and quality as well.

    Args:
        rate_hz: of the file; the samples themselves are at 16 kHz.
        detector: of this channel alone; None: as ``config`` says.

    Attributes:
        num_samples: taken so far.
        states: of each complete slot of 320 samples, from the first one on: SILENCE, SPEECH,
            TONE or MUSIC (:mod:`ser_engine.timeline.slots`).
        powers: of the slots that the last push completed.
    """

    def __init__(
        self, config: VadConfig, rate_hz: int, detector: SpeechDetector | None = None
    ) -> None:
        self._quality = QualityMonitor(detector or make_detector(config), rate_hz)
        self._silent_dbfs = config.min_level_dbfs
        if config.detector == "silero":
            self._silent_dbfs = min(config.lowest_level_dbfs, self._silent_dbfs)
        self._warnings: dict[FileWarningCode, Warning] = {}  # the first of each kind
        self._cutter = SlotCutter()
        self._energy = 0.0
        self.powers = self._quality.powers
        self.num_samples = 0
        self.states = bytearray()

    def push(self, samples: FloatArray) -> Sequence[int]:
        """Take samples ``(samples,)``; return a state for each slot now complete."""
        self.num_samples += len(samples)
        self._cutter.push(samples)
        states = self._quality.push(samples)
        self.powers = self._quality.powers
        # One by one: the sum is the same however the samples were grouped.
        self._energy = sum((self.powers * HOP_SAMPLES).tolist(), self._energy)
        add_states(self.states, states)
        self._keep_findings()
        return states

    def skip(self, num_samples: int) -> None:
        """Go on after a gap; see :class:`~ser_engine.timeline.SpeechDetector`."""
        self._energy += self._energy_of_rest()
        self._cutter.clear()
        self._quality.skip(num_samples)

    @property
    def level_dbfs(self) -> float:
        """RMS level without offset, in dB of full scale; -inf: digital silence, or no samples."""
        power = (self._energy + self._energy_of_rest()) / max(self.num_samples, 1)
        return 10 * math.log10(power) if power else -math.inf

    def narrow_band_at(self, sample: int) -> bool:
        """Whether the audio up to a sample holds nothing above 4 kHz, as far as is known there."""
        return self._quality.narrow_band_at(sample)

    def warnings(self) -> tuple[Warning, ...]:
        """Return what was wrong, each kind once. Call it last: it ends the audio."""
        self._quality.finish()
        self._keep_findings()
        duration_s = samples_to_s(self.num_samples)
        found = dict(self._warnings)
        if self.level_dbfs < self._silent_dbfs:
            message = (
                f"silence: the level is {max(self.level_dbfs, _FLOOR_DBFS):.0f} dBFS, expected"
                f" {self._silent_dbfs:.0f} dBFS or more; a result for silence means nothing"
            )
            # Both follow from silence, and would read like two more faults to mend.
            found = {code: found[code] for code in found if code not in ("too_quiet", "noisy")}
            found["silent"] = Warning(code="silent", message=message, at_s=0.0)
        elif SPEECH not in self.states:
            # Tones are named: that a call was not answered is worth knowing.
            heard = ", ".join(
                f"{self.states.count(state) * HOP_SAMPLES / SAMPLE_RATE_HZ:.1f} s of {sound}"
                for state, sound in ((TONE, "telephone tones"), (MUSIC, "music"))
                if state in self.states
            )
            instead = f", there are {heard}" if heard else ""
            message = (
                f"no speech was heard, expected some: nobody speaks{instead}; a result for other"
                " sounds means nothing"
            )
            found["silent"] = Warning(code="silent", message=message, at_s=0.0)
        if duration_s < SHORT_S:
            message = (
                f"the recording has {duration_s:.2f} s, expected {SHORT_S:.0f} s or more;"
                " a result from less is weak"
            )
            found["short"] = Warning(code="short", message=message, at_s=0.0)
        return tuple(found.values())

    def _energy_of_rest(self) -> float:
        rest = self._cutter.rest
        return float(sound_powers(rest[None])[0]) * len(rest) if len(rest) else 0.0

    def _keep_findings(self) -> None:
        for finding in self._quality.take_findings():
            warning = Warning(
                code=finding.code, message=finding.message, at_s=round(finding.at_s, 3)
            )
            self._warnings.setdefault(finding.code, warning)
