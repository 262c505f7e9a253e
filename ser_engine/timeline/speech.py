"""Which 20 ms slots of a channel hold speech.

The encoder normalises every window, so it hears a quiet room as clearly as a voice and finds an
emotion in it. What is silence has to be known before.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Protocol

import numpy as np
import numpy.typing as npt

from ser_engine.config import VadConfig
from ser_engine.frames import HOP_SAMPLES, SAMPLE_RATE_HZ, ms_to_samples
from ser_engine.types import FloatArray

_FULL_SCALE = 32_767
_SLOT_BYTES = 2 * HOP_SAMPLES


class SpeechDetector(Protocol):
    """Says of every 320-sample slot of one channel whether it holds speech."""

    def push(self, samples: FloatArray) -> Sequence[int]:
        """Take samples ``(samples,)``, any number; return a state for each slot now complete.

        States are SILENCE, SPEECH and TONE of :mod:`ser_engine.timeline.slots`; False and True are
        the first two. How the samples are grouped into calls must not matter.
        """
        ...

    def skip(self, num_samples: int) -> None:
        """Go on after a gap of ``num_samples``.

        The past is forgotten, an unfinished slot included: the next sample begins a slot.
        """
        ...


class EverythingIsSpeech:
    """The detector ``off``."""

    def __init__(self) -> None:
        self._samples = 0

    def push(self, samples: FloatArray) -> list[bool]:
        """Return True for every slot."""
        before = self._samples // HOP_SAMPLES
        self._samples += len(samples)
        return [True] * (self._samples // HOP_SAMPLES - before)

    def skip(self, num_samples: int) -> None:
        """Begin a slot with the next sample."""
        self._samples = 0


def sound_powers(slots: FloatArray) -> npt.NDArray[np.float64]:
    """Return the mean square of each of ``(slots, samples)`` without its offset, as float64.

    An offset (DC) is no sound, though cheap sound cards add one, and neither is one that drifts or
    steps. What is below some 40 Hz is taken for drift; a voice loses 0.7 dB at most.
    """
    audio = slots.astype(np.float64)
    length = audio.shape[1]
    drifts = _drifts(length)
    # Slot by slot: the rounding of one product of all would depend on their number, so on chunking.
    audio -= np.matmul(np.matmul(audio[:, None], drifts.T), drifts)[:, 0]
    powers: npt.NDArray[np.float64] = np.square(audio).mean(axis=1)
    powers[powers < _ROUNDING_POWER] = 0.0  # of a constant
    if length > 2 * _STEP_RINGING:
        # A step is the largest jump of its slot, and much larger than all else there.
        jumps = np.abs(np.diff(slots, axis=1))
        for slot in np.flatnonzero(np.square(jumps.max(axis=1)) > 2 * powers).tolist():
            last = int(jumps[slot].argmax())
            explained = float(audio[slot, : last + 1].sum()) ** 2 / _step_energies(length)[last]
            if explained > _STEP_SHARE * powers[slot] * length:
                powers[slot] = _power_beside_step(slots[slot].astype(np.float64), last + 1)
    return powers


_ROUNDING_POWER = 1e-24
_STEP_SHARE = 0.5
"""Share of a slot's power that a step alone explains; of voices and noise it explains little."""
_STEP_RINGING = 16
"""Samples on either side that a resampler's filter makes of a step."""


@cache
def _drifts(length: int) -> FloatArray:
    """Return an orthonormal constant, slope and bow, ``(shapes, length)``."""
    line = np.linspace(-1, 1, length)
    shapes: FloatArray = np.linalg.qr(np.stack([line**0, line, line**2], axis=1)[:, :length])[0].T
    return shapes


@cache
def _step_energies(length: int) -> npt.NDArray[np.float64]:
    """Return the energy of a step of 1 after each sample, without its drift: ``(length - 1,)``."""
    steps = np.tri(length - 1, length)
    for shape in _drifts(length):
        steps = steps - (steps * shape).sum(axis=1, keepdims=True) * shape
    # Those at the very ends are drift nearly as much as steps.
    norms: npt.NDArray[np.float64] = np.maximum(np.square(steps).sum(axis=1), 1e-3)
    return norms


def _power_beside_step(slot: npt.NDArray[np.float64], at: int) -> float:
    """Return the power of what is before and after a step, each without its own drift."""
    sides = slot[: max(at - _STEP_RINGING, 0)], slot[at + _STEP_RINGING :]
    energy = 0.0
    for side in sides:
        # What is shorter is explained by drift alone.
        if len(side) > 3:
            drifts = _drifts(len(side))
            energy += float(np.square(side - side @ drifts.T @ drifts).sum())
    return energy / len(slot)


class SpeechHold:
    """A floor for the level, and a hangover: short pauses belong to the speech before them."""

    def __init__(self, config: VadConfig) -> None:
        self._min_power = 10 ** (config.min_level_dbfs / 10)
        self._hangover_slots = ms_to_samples(config.hangover_ms) // HOP_SAMPLES
        self.reset()

    def reset(self) -> None:
        """Forget that there was speech."""
        self._slots_left = 0

    def loud(self, slots: FloatArray) -> list[bool]:
        """Return for each of ``(slots, 320)`` whether its level reaches ``min_level_dbfs``."""
        loud: list[bool] = (sound_powers(slots) >= self._min_power).tolist()
        return loud

    def push(self, is_speech: bool) -> bool:
        """Take the detector's decision on the next slot; return whether it counts as speech."""
        if is_speech:
            self._slots_left = self._hangover_slots
            return True
        # Endings of words are soft, and stops are silent: both would be cut off.
        if self._slots_left:
            self._slots_left -= 1
            return True
        return False


class WebRtcDetector:
    """WebRTC's detector with a floor for the level and a hangover.

    A slot is speech where the detector says so and its level (RMS without offset, relative to full
    scale 1.0) reaches ``min_level_dbfs``; and so is every slot that ends within ``hangover_ms``
    after the last such slot, whatever its level: stops and short pauses belong to speech.
    """

    def __init__(self, config: VadConfig) -> None:
        from webrtcvad import Vad

        self._new_vad = Vad
        self._aggressiveness = config.aggressiveness
        self._hold = SpeechHold(config)
        self.skip(0)

    def skip(self, num_samples: int) -> None:
        """Forget the noise estimate, the hangover and an unfinished slot."""
        # WebRTC's detector cannot be reset, only made anew.
        self._vad = self._new_vad(self._aggressiveness)
        self._hold.reset()
        self._rest: FloatArray = np.empty(0, dtype=np.float32)

    def push(self, samples: FloatArray) -> list[bool]:
        """Return a flag for each slot now complete."""
        audio = np.concatenate([self._rest, samples]) if len(self._rest) else samples
        slots = audio[: len(audio) // HOP_SAMPLES * HOP_SAMPLES].reshape(-1, HOP_SAMPLES)
        self._rest = audio[slots.size :].copy()
        if not len(slots):
            return []
        pcm = np.rint(np.clip(slots, -1.0, 1.0) * _FULL_SCALE).astype("<i2").tobytes()
        flags: list[bool] = []
        for start, is_loud in zip(
            range(0, len(pcm), _SLOT_BYTES), self._hold.loud(slots), strict=True
        ):
            # Quiet slots go through the detector too: it follows the noise.
            slot = pcm[start : start + _SLOT_BYTES]
            is_voice = self._vad.is_speech(slot, SAMPLE_RATE_HZ, HOP_SAMPLES)
            flags.append(self._hold.push(is_voice and is_loud))
        return flags


def make_detector(config: VadConfig) -> SpeechDetector:
    """Return a new detector for one channel.

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
