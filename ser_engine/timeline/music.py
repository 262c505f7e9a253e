"""Which slots of a channel hold music: a caller who waits hears it, and nobody speaks there.

It is looked for only where a detector hears no speech, so that no speech is lost to it. What is
known of music here is that it stands in notes that change::

    audio     [note........][note....][note.........][note..] ...
    spectra   [320 ms][320 ms][320 ms][320 ms][320 ms] ...      five windows each
    peaks      440     440      523      587      587   ...     most of the energy, in few of them
    found                                        [--------hold--------

Noise has no peaks that stand out of its neighbours, hum and engines have some that stay. A tone of
the telephone network is known before (:mod:`ser_engine.timeline.tones`).
"""

from __future__ import annotations

from collections import deque
from itertools import pairwise

import numpy as np

# NumPy imports it when it is first used: a server would do so in the middle of a call.
import numpy.fft

from ser_engine.frames import SAMPLE_RATE_HZ
from ser_engine.types import FloatArray

_SLOTS_A_SPECTRUM = 16
_WINDOW = 1024
_HZ_PER_BIN = SAMPLE_RATE_HZ / _WINDOW
_FIRST_BIN, _LAST_BIN = (round(hz / _HZ_PER_BIN) for hz in (150, 3_600))
_NEIGHBOURS = 8
"""Bins on either side that a peak stands out of: 125 Hz."""
_AROUND = 2 * _NEIGHBOURS + 1
_STANDS_OUT = float(np.log(6.0))
"""Of a bin above the mean of the logarithms about it; five windows of noise reach 3 times."""
_NO_POWER = 1e-12
_PEAK_SHARE = 0.5
"""Of the energy, in peaks."""
_SPECTRA = 8
"""Newest spectra that are looked at: 2.6 s."""
_MIN_TONAL, _MIN_CHANGES = 6, 2
_HOLD_SPECTRA = 4
"""Spectra without enough notes that music outlasts."""
_MAX_PAUSE_SLOTS = 50
"""Quiet that it outlasts: 1 s."""

_HANN = np.hanning(_WINDOW).astype(np.float32)


class MusicFinder:
    """Follows one channel; chunking does not matter."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget the past: the next sample begins a slot."""
        self._slots: list[FloatArray] = []  # of the next spectrum
        self._speech_slots = 0  # in its place
        self._pause = 0  # slots since the last sound
        # The strongest peak's bin of the newest spectra; 0: there are no notes in it.
        self._notes: deque[int] = deque(maxlen=_SPECTRA)
        self._hold = 0

    def push(self, slot: FloatArray, *, is_loud: bool, is_speech: bool) -> bool:
        """Return whether a slot ``(320,)`` belongs to music."""
        if is_speech:
            self._slots.clear()
            self._hold = 0
            self._speech_slots += 1
            if self._speech_slots == _SLOTS_A_SPECTRUM:
                self._speech_slots = 0
                self._notes.append(0)
        elif is_loud:
            self._pause = 0
            # A view would keep the audio of the whole push alive.
            self._slots.append(slot.copy())
            if len(self._slots) == _SLOTS_A_SPECTRUM:
                self._add(_strongest_note(np.concatenate(self._slots)))
                self._slots.clear()
        elif self._pause < _MAX_PAUSE_SLOTS:
            self._pause += 1
        elif self._slots or self._hold:
            self._slots.clear()
            self._hold = 0
        return self._hold > 0

    def _add(self, note: int) -> None:
        self._notes.append(note)
        notes = [each for each in self._notes if each]
        changes = sum(abs(one - next_one) > 1 for one, next_one in pairwise(notes))
        if len(notes) >= _MIN_TONAL and changes >= _MIN_CHANGES:
            self._hold = _HOLD_SPECTRA
        elif self._hold:
            self._hold -= 1


def _strongest_note(audio: FloatArray) -> int:
    """Return the bin of the strongest peak in 16 slots, 0 where peaks are not most of the sound."""
    spectra = np.fft.rfft(audio.reshape(-1, _WINDOW) * _HANN, axis=1)
    power = (np.square(spectra.real) + np.square(spectra.imag)).sum(axis=0)
    logs = np.log(power[_FIRST_BIN - _NEIGHBOURS : _LAST_BIN + _NEIGHBOURS] + _NO_POWER)
    sums = np.concatenate([[0.0], np.cumsum(logs)])
    around = (sums[_AROUND:] - sums[:-_AROUND]) / _AROUND
    here = power[_FIRST_BIN:_LAST_BIN]
    is_peak = logs[_NEIGHBOURS:-_NEIGHBOURS] > around + _STANDS_OUT
    if here[is_peak].sum() < _PEAK_SHARE * here.sum():
        return 0
    return int(here.argmax()) + _FIRST_BIN
