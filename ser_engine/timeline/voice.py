"""How a speaker sounds beside the emotion: level, pitch and its range, syllables a second.

Of each run of speech (a phrase, cut after :data:`MAX_PHRASE_S`) three things are kept: its
energy, a histogram of its pitch, and how many syllable nuclei it has. What is said of a stretch of
speech is made of the sums, so a live stream and its file give the same figures, and memory stays
flat.

**Syllable nuclei** (N. H. de Jong and T. Wempe, "Praat script to detect syllable nuclei and measure
speech rate automatically", Behavior Research Methods 41, 2009): maxima of the intensity with a dip
of 2 dB or more before and behind them, no more than 25 dB below the phrase's loudest, and voiced.

**Pitch** (P. Boersma, "Accurate short-term analysis of the fundamental frequency", IFA Proceedings
17, 1993): the maximum of the autocorrelation, divided by that of the window, between 75 and 500 Hz;
voiced from 0.45 on. Its range is from the 10th to the 90th percentile, in semitones.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np

# NumPy imports it when it is first used: a server would do so in the middle of a call.
import numpy.fft
import numpy.typing as npt

from ser_engine.frames import HOP_SAMPLES, SAMPLE_RATE_HZ
from ser_engine.schema import Voice
from ser_engine.types import FloatArray

START_S = 30
"""Speech that a speaker's own start is made of, and as much the newest."""
MAX_PHRASE_S = 4
MIN_SPEECH_S = 3
"""Speech that a level and a rate need; half of it, voiced, for a pitch."""

MIN_DIP_DB, MAX_BELOW_LOUDEST_DB = 2.0, 25.0
MIN_PITCH_HZ, MAX_PITCH_HZ = 75.0, 500.0
VOICED_FROM = 0.45
_OCTAVE_COST = 0.03
"""For each octave that a pitch is lower: against subharmonics. Boersma has 0.01, at 10 kHz."""

_SLOTS_A_S = SAMPLE_RATE_HZ // HOP_SAMPLES
_MAX_PHRASE_SLOTS = MAX_PHRASE_S * _SLOTS_A_S
_START_SLOTS = START_S * _SLOTS_A_S

# Pitch is looked for at 4 kHz, in 40 ms: three periods of the lowest, as Boersma's method needs.
_DECIMATION = 4
_PITCH_RATE_HZ = SAMPLE_RATE_HZ // _DECIMATION
_SLOTS_A_PITCH = 2
_PITCH_WINDOW = _SLOTS_A_PITCH * HOP_SAMPLES // _DECIMATION
_MIN_LAG = int(_PITCH_RATE_HZ / MAX_PITCH_HZ)
_MAX_LAG = int(_PITCH_RATE_HZ / MIN_PITCH_HZ)
_FFT = 256
"""Of a window and zeros: as many as the longest lag looked at, so that nothing wraps around."""
_SMOOTHING = np.array((0.25, 0.5, 0.25))
_HANN = np.hanning(_PITCH_WINDOW + 2)[1:-1]
_BINS_A_SEMITONE = 4
_NUM_BINS = int(12 * np.log2(MAX_PITCH_HZ / MIN_PITCH_HZ) * _BINS_A_SEMITONE) + 2

# Intensity is had every 5 ms, over 65 ms: Praat's window for a pitch of 50 Hz and more.
_INTENSITY_HOP = 80
_INTENSITY_WINDOW = np.hanning(13 + 2)[1:-1]
_INTENSITY_WINDOW /= _INTENSITY_WINDOW.sum()
_A_SLOT = HOP_SAMPLES // _INTENSITY_HOP

_Counts = npt.NDArray[np.int64]
_Float64 = npt.NDArray[np.float64]


def _autocorrelation(frames: _Float64) -> _Float64:
    spectra = np.fft.rfft(frames, _FFT, axis=-1)
    # Real and imaginary parts squared: the absolute value would take a root in between.
    powers = np.square(spectra.real) + np.square(spectra.imag)
    found: _Float64 = np.fft.irfft(powers, axis=-1)[..., : _MAX_LAG + 2]
    return found


_OF_WINDOW = _autocorrelation(_HANN)
_OF_WINDOW /= _OF_WINDOW[0]
_LAG_COST = _OCTAVE_COST * np.log2(
    MIN_PITCH_HZ * np.arange(_MIN_LAG, _MAX_LAG + 1) / _PITCH_RATE_HZ
)


@dataclass(slots=True)
class _Sums:
    """What stretches of speech add up to."""

    slots: int = 0
    energy: float = 0.0
    syllables: int = 0
    pitches: _Counts | None = None

    def add(self, other: _Sums, sign: int = 1) -> None:
        self.slots += sign * other.slots
        self.energy += sign * other.energy
        self.syllables += sign * other.syllables
        if other.pitches is not None:
            if self.pitches is None:
                self.pitches = np.zeros(_NUM_BINS, dtype=np.int64)
            self.pitches += sign * other.pitches

    def voice(self) -> Voice:
        speech_s = self.slots / _SLOTS_A_S
        is_enough = speech_s >= MIN_SPEECH_S
        pitch_hz = range_st = None
        if self.pitches is not None:
            voiced = np.cumsum(self.pitches)
            if voiced[-1] * _SLOTS_A_PITCH >= MIN_SPEECH_S / 2 * _SLOTS_A_S:
                low, middle, high = (
                    int(np.searchsorted(voiced, share * voiced[-1])) for share in (0.1, 0.5, 0.9)
                )
                pitch_hz = round(MIN_PITCH_HZ * 2 ** (middle / _BINS_A_SEMITONE / 12), 1)
                range_st = round((high - low) / _BINS_A_SEMITONE, 2)
        # A power that is subtracted again may leave a little less than nothing.
        power = max(self.energy, 1e-12 * max(self.slots, 1)) / max(self.slots, 1)
        return Voice(
            speech_s=round(speech_s, 2),
            level_dbfs=round(10 * float(np.log10(power)), 1) if is_enough else None,
            syllables_per_s=round(self.syllables / speech_s, 2) if is_enough else None,
            pitch_hz=pitch_hz,
            pitch_range_st=range_st,
        )


class VoiceMeter:
    """Measures the speech of one channel."""

    def __init__(self) -> None:
        self._audio: list[FloatArray] = []  # of the phrase, at 4 kHz
        self._powers: list[FloatArray] = []  # of the phrase, every 5 ms
        self._phrase_slots = 0
        self._whole, self._start, self._recent = _Sums(), _Sums(), _Sums()
        self._newest: deque[_Sums] = deque()

    def take(self, slots: FloatArray, flags: list[bool]) -> None:
        """Take the next slots ``(slots, 320)`` and whether each is speech."""
        changes = [0, *(at for at in range(1, len(flags)) if flags[at] != flags[at - 1])]
        for first, end in zip(changes, [*changes[1:], len(flags)], strict=True):
            if flags[first]:
                self._speech(slots[first:end])
            else:
                self.end_phrase()

    def end_phrase(self) -> None:
        """End a run of speech, where there is one."""
        if not self._phrase_slots:
            return
        powers = np.concatenate(self._powers).astype(np.float64)
        phrase = _phrase(np.concatenate(self._audio), powers)
        self._audio.clear()
        self._powers.clear()
        self._phrase_slots = 0
        self._whole.add(phrase)
        if self._start.slots < _START_SLOTS:
            self._start.add(phrase)
            return
        # Only what comes after the start is held against it.
        self._recent.add(phrase)
        self._newest.append(phrase)
        while self._recent.slots - self._newest[0].slots >= _START_SLOTS:
            self._recent.add(self._newest.popleft(), -1)

    def whole(self) -> Voice:
        """Return what all phrases so far were like."""
        return self._whole.voice()

    def start(self) -> Voice | None:
        """Return what the first 30 s of speech were like; None: there was less."""
        return self._start.voice() if self._start.slots >= _START_SLOTS else None

    def recent(self) -> Voice | None:
        """Return what the last 30 s of speech were like, of that after the start."""
        return self._recent.voice() if self._recent.slots else None

    def _speech(self, slots: FloatArray) -> None:
        while len(slots):
            part = slots[: _MAX_PHRASE_SLOTS - self._phrase_slots]
            slots = slots[len(part) :]
            samples = part.reshape(-1)
            # Sums of slices: mean() over an axis of four takes ten times as long.
            decimated: FloatArray = samples[::_DECIMATION] + samples[1::_DECIMATION]
            for at in range(2, _DECIMATION):
                decimated += samples[at::_DECIMATION]
            decimated *= np.float32(1 / _DECIMATION)
            self._audio.append(decimated)
            # An offset is no sound. That of 5 ms would take the lowest voices' pitch along.
            offsets = np.add.reduce(part, axis=1, keepdims=True) / np.float32(HOP_SAMPLES)
            pieces = (part - offsets).reshape(-1, _INTENSITY_HOP)
            # One dot product a piece, whose rounding cannot depend on how many there are.
            self._powers.append(np.vecdot(pieces, pieces) / np.float32(_INTENSITY_HOP))
            self._phrase_slots += len(part)
            if self._phrase_slots == _MAX_PHRASE_SLOTS:
                self.end_phrase()


def _phrase(audio: FloatArray, powers: _Float64) -> _Sums:
    """Measure a phrase: its audio at 4 kHz, and its powers every 5 ms."""
    pitches = _pitches(audio)
    counts = None
    if voiced := [pitch for pitch in pitches if pitch]:
        bins = np.log2(np.array(voiced) / MIN_PITCH_HZ) * 12 * _BINS_A_SEMITONE
        of_bins = np.maximum(np.rint(bins), 0).astype(np.int64)
        counts = np.bincount(of_bins, minlength=_NUM_BINS)[:_NUM_BINS]
    return _Sums(
        slots=len(powers) // _A_SLOT,
        energy=float(powers.sum()) / _A_SLOT,
        syllables=sum(1 for at in nuclei(powers) if pitches[at // (_A_SLOT * _SLOTS_A_PITCH)]),
        pitches=counts,
    )


def nuclei(powers: _Float64) -> list[int]:
    """Return where syllables peak, voiced or not, as indices of the powers every 5 ms."""
    # Not mode="same": of a phrase shorter than the window that is as long as the window.
    middle = len(_INTENSITY_WINDOW) // 2
    smooth = np.convolve(powers, _INTENSITY_WINDOW)[middle : middle + len(powers)]
    levels = (10 * np.log10(np.maximum(smooth, 1e-12))).tolist()
    floor = _loud(levels) - MAX_BELOW_LOUDEST_DB
    found: list[int] = []
    # Before and after a phrase it is silent: both ends are dips.
    lowest, peak, peak_at = -np.inf, -np.inf, -1
    for at, level in enumerate([*levels, -np.inf]):
        if peak_at >= 0 and peak - level >= MIN_DIP_DB:
            if peak >= floor:
                found.append(peak_at)
            lowest, peak, peak_at = level, -np.inf, -1
        if level < lowest:
            lowest = level
        elif level - lowest >= MIN_DIP_DB and level > peak:
            peak, peak_at = level, at
    return found


def _loud(levels: list[float]) -> float:
    """Return the 99th percentile, between two levels where it lies there."""
    ordered, at = sorted(levels), 0.99 * (len(levels) - 1)
    below, share = int(at), at % 1
    above = ordered[min(below + 1, len(levels) - 1)]
    return ordered[below] + share * (above - ordered[below])


def _pitches(audio: FloatArray) -> list[float]:
    """Return the pitch of every second slot, Hz; 0: it is not voiced."""
    num_frames = -(-len(audio) // _PITCH_WINDOW)
    # Without what is above 1 kHz peaks are broad enough for a few samples each.
    padded = np.zeros(num_frames * _PITCH_WINDOW)
    padded[: len(audio)] = np.convolve(audio, _SMOOTHING, mode="same")
    frames = padded.reshape(num_frames, _PITCH_WINDOW)
    frames -= np.add.reduce(frames, axis=1, keepdims=True) / _PITCH_WINDOW
    frames *= _HANN
    found = _autocorrelation(frames)
    energies = found[:, :1]
    found = np.divide(found, energies, out=np.zeros_like(found), where=energies > 1e-12)
    found /= _OF_WINDOW
    before, at, after = (found[:, _MIN_LAG + shift : _MAX_LAG + 1 + shift] for shift in (-1, 0, 1))
    # A lag at the edge is no maximum: the autocorrelation falls from 1 at lag 0. Heights and places
    # are those of a parabola: a lag of 8 is a pitch of 500 Hz, one of 9 of 444.
    is_maximum = (at >= before) & (at > after) & (at >= VOICED_FROM)
    bend = np.where(is_maximum, 2 * at - before - after, 1.0)
    shifts = (after - before) / (2 * bend)
    heights = at + (after - before) * shifts / 4
    best = np.where(is_maximum, heights - _LAG_COST, -np.inf).argmax(axis=1)
    rows = np.arange(num_frames)
    pitches = _PITCH_RATE_HZ / (best + _MIN_LAG + shifts[rows, best])
    voiced: list[float] = np.where(is_maximum[rows, best], pitches, 0.0).tolist()
    return voiced
