"""Which 20 ms slots of a channel hold a tone of the telephone network: nobody speaks there.

Dial, ringing, busy and information tones, the keys of a telephone (DTMF) and the first tones of a
fax are one or two steady sines with nothing beside them. Which ones they are differs from country
to country (ITU-T E.180 and its supplement 2), so any steady pair counts that no voice makes::

    audio    [tone tone tone tone]             [tone tone tone tone]              [tone ...
    windows  ]64 ms] ]      ]                                          every 40 ms
    found              [--------------hold-----[----------------------hold--------[---

A voice has more than two strong harmonics, or two whose ratio is a small whole number, and does
not hold its pitch: over 160 ms it moves by more than the few hertz that are allowed here. The keys
of a telephone may be as short as 40 ms (ITU-T Q.24) but their frequencies are known, and were
chosen so that voices do not make them (Q.23).

The pause between two bursts belongs to the tone, where no one speaks in it: at first as long as a
busy tone's, later as long as the pauses before were, for a ringing tone is silent for 4 s.
"""

from __future__ import annotations

from collections import deque

import numpy as np

# NumPy imports it when it is first used: a server would do so in the middle of a call.
import numpy.fft
import numpy.typing as npt

from ser_engine.frames import HOP_SAMPLES, SAMPLE_RATE_HZ, ms_to_samples
from ser_engine.types import FloatArray

_WINDOW = 1024
_SLOTS_PER_WINDOW = 2  # windows begin so many slots apart
_HZ_PER_BIN = SAMPLE_RATE_HZ / _WINDOW
_LOWEST_BIN = 6  # hum of the mains is no part of the sound
_FIRST_BIN, _LAST_BIN = (round(hz / _HZ_PER_BIN) for hz in (300, 3_400))
_LOBE = np.arange(-3, 4)
"""Bins that a sine takes, with the window's slopes; 440 and 480 Hz take one lobe together."""
_HANN = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(_WINDOW) / _WINDOW)).astype(np.float32)

_PURE_SHARE = 0.9
"""Of the energy, in one or two lobes."""
_SECOND_SHARE = 0.02
"""Of the first one's energy, from which a second sine counts."""
_STEADY_WINDOWS = 4
_STEADY_HZ = 5.0
_STEADY_POWER = 2.0
"""Largest ratio of the powers of successive windows: two sines beat."""
_HARMONIC = 0.03
"""Distance from a whole number at which the ratio of two sines counts as one."""
_KEY_ROWS_HZ = (697, 770, 852, 941)
_KEY_COLUMNS_HZ = (1209, 1336, 1477, 1633)
_KEY_TOLERANCE = 0.018
"""That of ITU-T Q.24: 1.8 % is to be accepted."""
_KEY_TWIST = 10.0
"""Largest ratio of the powers of a key's two sines."""

_Sines = tuple[tuple[float, ...], float, float]
_NO_AUDIO: FloatArray = np.empty(0, dtype=np.float32)
_SHORT_HOLD_SLOTS = ms_to_samples(800) // HOP_SAMPLES
"""Longer than the pauses of busy and congestion tones and between keys: 0.2 to 0.75 s."""
_LONG_HOLD_SLOTS = ms_to_samples(6_000) // HOP_SAMPLES
_CADENCE_SLACK = 1.25


class ToneFinder:
    """Follows one channel; chunking does not matter."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget the past: the next sample begins a slot."""
        self._audio: FloatArray = np.zeros(_WINDOW, dtype=np.float32)  # the newest whole slots
        self._parity = 0  # slots since the last window
        # Before the last window, oldest first. None: it was no sound at all.
        self._before: deque[_Window | None] = deque(maxlen=_STEADY_WINDOWS - 1)
        self._is_tone = False  # in the last window
        self._pause = _LONG_HOLD_SLOTS + 1  # slots since the last tone
        self._hold = 0

    def push(self, slots: FloatArray, loud: list[bool], voices: list[bool]) -> list[bool]:
        """Return for each of ``(slots, 320)`` whether it belongs to a tone or its pauses.

        Args:
            loud: of each whether it is a sound at all.
            voices: of each whether it seems to hold a voice.
        """
        if not self._is_tone and False not in voices and self._pass_voice(slots, loud):
            return [self._pause <= self._hold] * len(voices)
        found: list[bool] = []
        windows = iter(self._windows_of(slots, loud, voices))
        for is_voice in voices:
            self._parity += 1
            if self._parity == _SLOTS_PER_WINDOW:
                self._parity = 0
                window = next(windows)
                # A cry may be as steady for a while: no tone begins in the middle of a voice.
                may_be = self._is_tone or not is_voice
                self._is_tone = may_be and window is not None and self._holds_tone(window)
                self._before.append(window)
            if self._is_tone:
                if self._pause > _SLOTS_PER_WINDOW:
                    # A pause that tones on both sides make one of a cadence, or of a call's end.
                    is_cadence = self._pause <= _LONG_HOLD_SLOTS
                    longest = int(self._pause * _CADENCE_SLACK) if is_cadence else 0
                    self._hold = max(_SHORT_HOLD_SLOTS, longest)
                self._pause = 0
            else:
                # Who speaks has been put through: what follows is no pause of a cadence.
                self._pause = self._pause + 1 if not is_voice else _LONG_HOLD_SLOTS + 1
            found.append(self._pause <= self._hold)
        for each in self._before:
            if each is not None:
                each.keep()
        return found

    def _pass_voice(self, slots: FloatArray, loud: list[bool]) -> bool:
        """Go on by slots that all hold a voice, where no tone begins, if they are enough for that.

        Of their windows only the newest are needed, and none is looked at.
        """
        first = _SLOTS_PER_WINDOW - 1 - self._parity
        ends = range(first, len(loud), _SLOTS_PER_WINDOW)[1 - _STEADY_WINDOWS :]
        if len(ends) < _STEADY_WINDOWS - 1 or (ends[0] + 1) * HOP_SAMPLES < _WINDOW:
            return False
        audio = slots.reshape(-1)
        self._audio = audio[-_WINDOW:].copy()
        for end in ends:
            stop = (end + 1) * HOP_SAMPLES
            self._before.append(_Window(audio[stop - _WINDOW : stop].copy()) if loud[end] else None)
        self._parity = (self._parity + len(loud)) % _SLOTS_PER_WINDOW
        self._pause = _LONG_HOLD_SLOTS + 1
        return True

    def _windows_of(
        self, slots: FloatArray, loud: list[bool], voices: list[bool]
    ) -> list[_Window | None]:
        """Return each window that ends with these slots; None: it is no sound at all."""
        audio = np.concatenate([self._audio, slots.reshape(-1)])
        self._audio = audio[-_WINDOW:].copy()
        first = _SLOTS_PER_WINDOW - 1 - self._parity
        ends = range(first, len(loud), _SLOTS_PER_WINDOW)
        windows = [
            _Window(audio[(end + 1) * HOP_SAMPLES :][:_WINDOW]) if loud[end] else None
            for end in ends
        ]
        # Of a voice hardly any is looked at: what is in it is asked only where a tone follows.
        wanted = [
            window
            for window, end in zip(windows, ends, strict=True)
            if window is not None and not voices[end]
        ]
        if wanted:
            heard = _sines_of(np.stack([window.audio for window in wanted]))
            for window, each in zip(wanted, heard, strict=True):
                window.found = each
        return windows

    def _holds_tone(self, window: _Window) -> bool:
        """Return whether a window belongs to a tone: a key's, or one that is steady by now."""
        sines, power, second = window.heard()
        if not sines:
            return False
        if _is_key(sines, second):
            return True
        if len(self._before) < _STEADY_WINDOWS - 1:
            return False
        for before in reversed(self._before):
            if before is None:
                return False
            former, former_power, _ = before.heard()
            is_steady = (
                len(sines) == len(former)
                and all(abs(a - b) <= _STEADY_HZ for a, b in zip(sines, former, strict=True))
                and power <= _STEADY_POWER * former_power
                and former_power <= _STEADY_POWER * power
            )
            if not is_steady:
                return False
            sines, power = former, former_power
        return True


class _Window:
    """1024 samples, and what they hold once it was asked for: see :func:`_sines_of`."""

    __slots__ = ("audio", "found")

    def __init__(self, audio: FloatArray) -> None:
        self.audio = audio
        self.found: _Sines | None = None

    def heard(self) -> _Sines:
        if self.found is None:
            (self.found,) = _sines_of(self.audio[None])
        return self.found

    def keep(self) -> None:
        """Keep no more than is needed beyond this push."""
        # A view would keep the audio of the whole push alive.
        self.audio = _NO_AUDIO if self.found is not None else self.audio.copy()


def _sines_of(windows: FloatArray) -> list[_Sines]:
    """Find the one or two sines in each of ``(windows, 1024)``.

    Returns:
        Their frequencies in Hz, rising, () where there is more than they; the power; and the power
        of the second one relative to the first.
    """
    spectrum = np.fft.rfft(windows * _HANN, axis=1)
    power = (np.square(spectrum.real) + np.square(spectrum.imag)).astype(np.float64)
    total = power[:, _LOWEST_BIN:].sum(axis=1)
    first_hz, first = _take_lobe(power)
    second_hz, second = _take_lobe(power)
    found: list[_Sines] = []
    for low, a, high, b, all_of_it in zip(
        *(each.tolist() for each in (first_hz, first, second_hz, second, total)), strict=True
    ):
        if a + b < _PURE_SHARE * all_of_it or all_of_it == 0.0:
            sines: tuple[float, ...] = ()
        elif b < _SECOND_SHARE * a:
            sines = (low,)
        else:
            sines = (min(low, high), max(low, high))
            ratio = sines[1] / sines[0]
            if ratio > 1.5 and abs(ratio - round(ratio)) < _HARMONIC * ratio:
                sines = ()
        found.append((sines, a + b, b / a if a else 0.0))
    return found


def _take_lobe(
    power: npt.NDArray[np.float64],
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Take the strongest sine out of spectra ``(windows, bins)``; return its Hz and power."""
    rows = np.arange(len(power))[:, None]
    bins = power[:, _FIRST_BIN:_LAST_BIN].argmax(axis=1)[:, None] + _FIRST_BIN + _LOBE
    lobes = power[rows, bins]
    power[rows, bins] = 0.0
    energy = lobes.sum(axis=1)
    hz = (lobes * bins).sum(axis=1) / np.maximum(energy, 1e-300) * _HZ_PER_BIN
    return hz, energy


def _is_key(sines: tuple[float, ...], second: float) -> bool:
    """Tell whether two sines are those of a telephone's key."""
    if len(sines) != 2 or second * _KEY_TWIST < 1:
        return False
    row, column = sines
    return any(abs(row / hz - 1) <= _KEY_TOLERANCE for hz in _KEY_ROWS_HZ) and any(
        abs(column / hz - 1) <= _KEY_TOLERANCE for hz in _KEY_COLUMNS_HZ
    )
