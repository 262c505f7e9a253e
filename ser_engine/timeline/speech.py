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


Powers = npt.NDArray[np.float64]
"""One value a slot: see :func:`sound_powers`."""


class SpeechDetector(Protocol):
    """Says of every 320-sample slot of one channel whether it holds speech.

    Attributes:
        powers: of the slots that the last push completed. Other measurements of the same
            audio take them from here: measuring a slot costs about as much as judging it.
    """

    powers: Powers

    def push(self, samples: FloatArray) -> Sequence[int]:
        """Take samples ``(samples,)``, any number; return a state for each slot now complete.

        States are SILENCE, SPEECH, TONE and MUSIC of :mod:`ser_engine.timeline.slots`; False and
        True are the first two. How the samples are grouped into calls must not matter.
        """
        ...

    def skip(self, num_samples: int) -> None:
        """Go on after a gap of ``num_samples``.

        The past is forgotten, an unfinished slot included: the next sample begins a slot.
        """
        ...


class SlotCutter:
    """Cuts the audio of one channel into whole slots."""

    def __init__(self) -> None:
        self.rest: FloatArray = np.empty(0, dtype=np.float32)

    def push(self, samples: FloatArray) -> FloatArray:
        """Take samples ``(samples,)``, any number; return the slots now whole, ``(slots, 320)``."""
        audio = np.concatenate([self.rest, samples]) if len(self.rest) else samples
        whole = len(audio) // HOP_SAMPLES * HOP_SAMPLES
        # A copy: a view would keep the audio of the whole message alive.
        self.rest = audio[whole:].copy()
        return audio[:whole].reshape(-1, HOP_SAMPLES)

    def next_slots(self, samples: FloatArray) -> FloatArray:
        """Return the slots that :meth:`push` would return, and take nothing."""
        audio = np.concatenate([self.rest, samples]) if len(self.rest) else samples
        return audio[: len(audio) // HOP_SAMPLES * HOP_SAMPLES].reshape(-1, HOP_SAMPLES)

    def clear(self) -> None:
        """Forget an unfinished slot."""
        self.rest = self.rest[:0]


class EverythingIsSpeech:
    """The detector ``off``."""

    def __init__(self) -> None:
        self.powers = NO_POWERS
        self._cutter = SlotCutter()

    def push(self, samples: FloatArray) -> list[bool]:
        """Return True for every slot."""
        self.powers = sound_powers(self._cutter.push(samples))
        return [True] * len(self.powers)

    def skip(self, num_samples: int) -> None:
        """Begin a slot with the next sample."""
        self._cutter.clear()


NO_POWERS: Powers = np.empty(0)


def sound_powers(slots: FloatArray) -> Powers:
    """Return the mean square of each of ``(slots, samples)`` without its offset, as float64.

    An offset (DC) is no sound, though cheap sound cards add one, and neither is one that drifts or
    steps. What is below some 40 Hz is taken for drift; a voice loses 0.7 dB at most.
    """
    audio = slots.astype(np.float64)
    length = audio.shape[1]
    drifts = _drifts(length)
    # One dot product a slot and shape, whose rounding cannot depend on how many slots there are,
    # so on chunking; that of a product of matrices does.
    shares = np.vecdot(audio[:, None], drifts)
    energies = np.vecdot(audio, audio)
    # The shapes are orthonormal: what they explain is the sum of their squared shares.
    explained = np.vecdot(shares, shares)
    powers: Powers = (energies - explained) / length
    powers[powers * length < _ROUNDING_SHARE * energies] = 0.0  # of an offset alone
    if length > 2 * _STEP_RINGING:
        # A step is the largest jump of its slot, and much larger than all else there.
        jumps = np.abs(slots[:, 1:] - slots[:, :-1])
        last = jumps.argmax(axis=1)
        largest = jumps[np.arange(len(slots)), last]
        (suspects,) = np.nonzero(largest * largest > 2 * powers)
        if len(suspects):
            last = last[suspects]
            # Of the audio without its drift, the sum up to the jump; reduceat() gives that of what
            # follows it as well.
            starts = suspects * length
            bounds = np.stack([starts, starts + last + 1], axis=1).ravel()
            sums = np.add.reduceat(audio.ravel(), bounds)[::2]
            sums -= np.vecdot(shares[suspects], _drift_sums(length)[last])
            of_step = sums * sums / _step_energies(length)[last]
            is_step = of_step > _STEP_SHARE * length * powers[suspects]
            for slot, at in zip(suspects[is_step].tolist(), last[is_step].tolist(), strict=True):
                powers[slot] = _power_beside_step(audio[slot], at + 1)
    return powers


_ROUNDING_SHARE = 1e-12
"""What is left of an offset is less than this share of it: it is known to float32, so to 1e-7."""
_STEP_SHARE = 0.5
"""Share of a slot's power that a step alone explains; of voices and noise it explains little."""
_STEP_RINGING = 16
"""Samples on either side that a resampler's filter makes of a step."""


@cache
def _drifts(length: int) -> npt.NDArray[np.float64]:
    """Return an orthonormal constant, slope and bow, ``(shapes, length)``."""
    line = np.linspace(-1, 1, length)
    shapes: npt.NDArray[np.float64] = np.linalg.qr(
        np.stack([line**0, line, line**2], axis=1)[:, :length]
    )[0].T
    return shapes


@cache
def _drift_sums(length: int) -> npt.NDArray[np.float64]:
    """Return the sum of each drift up to each sample, ``(length, shapes)``."""
    return np.cumsum(_drifts(length), axis=1).T.copy()


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

    def loud(self, powers: Powers) -> list[bool]:
        """Return for each slot whether its level reaches ``min_level_dbfs``."""
        loud: list[bool] = (powers >= self._min_power).tolist()
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
        self._cutter = SlotCutter()
        self.powers = NO_POWERS
        self.skip(0)

    def skip(self, num_samples: int) -> None:
        """Forget the noise estimate, the hangover and an unfinished slot."""
        # WebRTC's detector cannot be reset, only made anew.
        self._vad = self._new_vad(self._aggressiveness)
        self._hold.reset()
        self._cutter.clear()

    def push(self, samples: FloatArray) -> list[bool]:
        """Return a flag for each slot now complete."""
        slots = self._cutter.push(samples)
        self.powers = powers = sound_powers(slots)
        pcm = np.rint(np.clip(slots, -1.0, 1.0) * _FULL_SCALE).astype("<i2").tobytes()
        flags: list[bool] = []
        starts = range(0, len(pcm), _SLOT_BYTES)
        for start, is_loud in zip(starts, self._hold.loud(powers), strict=True):
            # Quiet slots go through the detector too: it follows the noise.
            slot = pcm[start : start + _SLOT_BYTES]
            is_voice = self._vad.is_speech(slot, SAMPLE_RATE_HZ, HOP_SAMPLES)
            flags.append(self._hold.push(is_voice and is_loud))
        return flags
