"""Speech-like audio from nothing: voiced syllables with a prosody, in numpy.

Additive form of the source-filter model (Fant, *Acoustic Theory of Speech Production*, 1960): a
voiced sound is the sum of the harmonics of a fundamental frequency; each has the amplitude of the
glottal source, which falls with frequency, times the response of the vocal tract, a cascade of
resonances (formants; values of vowels after Peterson & Barney, 1952). What comes out says nothing,
but has what prosody is made of: melody, loudness, pace, pauses and effort of the voice.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["Prosody", "Voice", "say"]

FloatArray = npt.NDArray[np.float64]

_CONTROL_HZ = 200
"""Rate of the contours; between two values they are straight lines."""

_VOWELS_HZ = {
    "a": (730, 1090, 2440),
    "e": (530, 1840, 2480),
    "i": (270, 2290, 3010),
    "o": (570, 840, 2410),
    "u": (300, 870, 2240),
    "ə": (500, 1500, 2500),
}
_UPPER_FORMANTS_HZ = (3500, 4500)
_BANDWIDTHS_HZ = (70, 90, 140, 220, 300)

_FRICATIVES_HZ = {"s": (4500, 7500), "f": (1500, 7000), "h": (600, 3000)}
_ONSETS = "mnlbdgsfht"
"""Consonants: nasals and glides are quiet voicing, stops a closure, the others noise."""


@dataclass(frozen=True, slots=True)
class Voice:
    """Who speaks.

    Attributes:
        pitch_hz: fundamental frequency at rest.
        tract: length of the vocal tract relative to a man's; formants go with its inverse.
    """

    pitch_hz: float
    tract: float


@dataclass(frozen=True, slots=True)
class Prosody:
    """How something is said.

    Attributes:
        pitch_semitones: mean above the voice at rest.
        range_semitones: of accents above and below the mean.
        fall_semitones: of the melody from the beginning to the end of the phrase; may be negative.
        syllables_per_s: pace.
        level_dbfs: RMS of the phrase relative to full scale 1.0.
        tilt_db_per_octave: fall of the source's harmonics: 12 is soft, 5 is shouted.
        breath: share of noise in the voice, 0 to 1.
        shake: irregularity of pitch and loudness, 0 to 1.
    """

    pitch_semitones: float = 0.0
    range_semitones: float = 2.0
    fall_semitones: float = 3.0
    syllables_per_s: float = 4.0
    level_dbfs: float = -26.0
    tilt_db_per_octave: float = 11.0
    breath: float = 0.04
    shake: float = 0.05


def say(
    voice: Voice, prosody: Prosody, duration_s: float, rng: np.random.Generator, rate_hz: int
) -> npt.NDArray[np.float32]:
    """Return one phrase, ``(samples,)`` at ``rate_hz``, ``duration_s`` long."""
    num_samples = round(duration_s * rate_hz)
    num_syllables = max(2, round(duration_s * prosody.syllables_per_s))
    bounds = _syllable_bounds(num_syllables, rng)
    onsets = [str(each) for each in rng.choice(list(_ONSETS), num_syllables)]
    vowels = [str(each) for each in rng.choice(list(_VOWELS_HZ), num_syllables)]
    accents = rng.normal(0.0, 0.5, num_syllables)
    accents[rng.integers(0, 2) :: 3] += 1.0

    at = np.linspace(0.0, 1.0, round(duration_s * _CONTROL_HZ) + 2)
    middles = (bounds[:-1] + bounds[1:]) / 2
    melody = prosody.pitch_semitones + prosody.fall_semitones * (0.5 - at)
    melody += prosody.range_semitones * _smooth(np.interp(at, middles, accents), 0.05)
    melody += 0.6 * prosody.shake * _smooth(rng.normal(0.0, 3.0, len(at)), 0.015)
    pitch_hz = voice.pitch_hz * 2 ** (melody / 12)

    loudness = np.interp(at, middles, 1.0 + 0.25 * np.clip(accents, -1.5, 2.0))
    loudness *= 1.0 + prosody.shake * _smooth(rng.normal(0.0, 1.5, len(at)), 0.015)
    voicing, noises = _articulate(at, bounds, onsets)
    formants_hz = _formants(at, middles, vowels) / voice.tract

    times = np.linspace(0.0, 1.0, num_samples)
    voiced = _harmonics(times, at, pitch_hz, formants_hz, prosody.tilt_db_per_octave, rate_hz)
    white = rng.normal(0.0, 1.0, num_samples)
    aspiration = _band(white, 1000, 5000, rate_hz)
    aspiration *= prosody.breath * _rms(voiced) / _rms(aspiration)
    sound = (voiced + aspiration) * np.interp(times, at, voicing * loudness)
    for onset, envelope in noises.items():
        noise = _band(white, *_FRICATIVES_HZ[onset], rate_hz)
        noise *= 0.25 * _rms(voiced) / _rms(noise)
        sound += noise * np.interp(times, at, envelope)
    sound *= 10 ** (prosody.level_dbfs / 20) / _rms(sound)
    # A soft limit: peaks of loud phrases stay below full scale.
    return (0.95 * np.tanh(sound / 0.95)).astype(np.float32)


def _syllable_bounds(num_syllables: int, rng: np.random.Generator) -> FloatArray:
    """Return where syllables begin and end, 0 to 1; the last is drawn out, as in speech."""
    lengths = rng.uniform(0.75, 1.25, num_syllables)
    lengths[-1] *= 1.5
    return np.concatenate([[0.0], np.cumsum(lengths) / lengths.sum()])


def _articulate(
    at: FloatArray, bounds: FloatArray, onsets: list[str]
) -> tuple[FloatArray, dict[str, FloatArray]]:
    """Return the envelopes, 0 to 1, of the voice and of each kind of noise."""
    voicing = np.ones(len(at))
    noises = {onset: np.zeros(len(at)) for onset in _FRICATIVES_HZ}
    for begin, end, onset in zip(bounds, bounds[1:], onsets, strict=False):
        inside = (at >= begin) & (at < begin + 0.3 * (end - begin))
        voicing[inside] = {"m": 0.4, "n": 0.4, "l": 0.5}.get(onset, 0.0)
        if onset in noises:
            noises[onset][inside] = 1.0
        elif onset == "t":
            burst = (at >= begin + 0.2 * (end - begin)) & inside
            noises["s"][burst] = 0.8
    fade = np.minimum(1.0, np.minimum(np.arange(len(at)), np.arange(len(at))[::-1]) / 6)
    return _smooth(voicing, 0.02) * fade, {k: _smooth(v, 0.01) * fade for k, v in noises.items()}


def _formants(at: FloatArray, middles: FloatArray, vowels: list[str]) -> FloatArray:
    """Return formant frequencies, ``(times, formants)``, gliding from vowel to vowel."""
    targets = np.array([(*_VOWELS_HZ[vowel], *_UPPER_FORMANTS_HZ) for vowel in vowels])
    glides = [np.interp(at, middles, column) for column in targets.T]
    return np.stack([_smooth(glide, 0.03) for glide in glides], axis=1)


def _harmonics(
    times: FloatArray,
    at: FloatArray,
    pitch_hz: FloatArray,
    formants_hz: FloatArray,
    tilt_db_per_octave: float,
    rate_hz: int,
) -> FloatArray:
    """Return the sum of all harmonics below the Nyquist frequency."""
    phase = 2 * np.pi * np.cumsum(np.interp(times, at, pitch_hz)) / rate_hz
    total = np.zeros(len(times))
    for number in range(1, int(0.48 * rate_hz / pitch_hz.min()) + 1):
        frequency_hz = number * pitch_hz
        gain = number ** (-tilt_db_per_octave / 6.02)
        amplitude = gain * _tract_response(frequency_hz, formants_hz)
        amplitude *= frequency_hz < 0.48 * rate_hz
        total += np.interp(times, at, amplitude) * np.sin(number * phase)
    return total


def _tract_response(frequency_hz: FloatArray, formants_hz: FloatArray) -> FloatArray:
    """Return the response of a cascade of resonances, 1 at 0 Hz, times the lips' radiation."""
    response = frequency_hz / 500.0
    for formant_hz, bandwidth_hz in zip(formants_hz.T, _BANDWIDTHS_HZ, strict=True):
        pole = formant_hz**2 + (bandwidth_hz / 2) ** 2
        denominator = pole - frequency_hz**2 + 1j * bandwidth_hz * frequency_hz
        response = response * pole / np.abs(denominator)
    return response


def _band(noise: FloatArray, low_hz: float, high_hz: float, rate_hz: int) -> FloatArray:
    """Return what of a noise lies in a band."""
    spectrum = np.fft.rfft(noise)
    frequency_hz = np.fft.rfftfreq(len(noise), 1 / rate_hz)
    spectrum[(frequency_hz < low_hz) | (frequency_hz > high_hz)] = 0
    return np.fft.irfft(spectrum, len(noise))


def _smooth(contour: FloatArray, width_s: float) -> FloatArray:
    """Return a contour averaged over ``width_s`` to both sides, with the ends held."""
    half = max(1, round(width_s * _CONTROL_HZ))
    kernel = np.hanning(2 * half + 3)[1:-1]
    padded = np.pad(contour, half, mode="edge")
    return np.convolve(padded, kernel / kernel.sum(), mode="valid")


def _rms(signal: FloatArray) -> float:
    return float(np.sqrt(np.mean(np.square(signal)))) or 1.0
