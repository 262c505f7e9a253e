"""Make the telephone call that the monitor is tried with: ``mic_client/sample_call.ogg``.

    .venv/bin/python -m scripts.make_sample_call

Nobody speaks in it: both voices are synthesised here. The agent, on the left, stays calm. The
customer, on the right, begins calm, gets agitated (higher, wider, louder, rougher), and calms down
again.

The synthesis is the additive form of the source-filter model (Fant, *Acoustic Theory of Speech
Production*, 1960): a voiced sound is the sum of the harmonics of a fundamental frequency; each has
the amplitude of the glottal source, which falls with frequency, times the response of the vocal
tract, a cascade of resonances (formants; values of vowels after Peterson & Barney, 1952). It has no
words, but all of prosody: melody, loudness, pace, pauses and effort of the voice. Takes and the
angry voice were chosen so that both built-in models hear the anger, and the default one long enough
for the default alert rule, with a margin: what a processor rounds otherwise must not decide whether
a demonstration shows anything.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile

FloatArray = npt.NDArray[np.float64]

ASSET = Path(__file__).parents[1] / "mic_client" / "sample_call.ogg"
RATE_HZ = 16_000
_DURATION_S = 42.0
_NOISE_DBFS = -66.0
# Vorbis, libsndfile's compression level 0.7: 290 kB, and the built-in model hears the same emotions
# as in the lossless call. FLAC takes 1.3 MB, because it has to keep the noise of the line exactly.
_COMPRESSION = 0.7

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
    """Whose voice it is.

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


AGENT, CUSTOMER = 0, 1
VOICES = {AGENT: Voice(pitch_hz=112.0, tract=1.0), CUSTOMER: Voice(pitch_hz=143.0, tract=1.046)}

FRIENDLY = Prosody(range_semitones=2.5, level_dbfs=-25.0)
CALM = Prosody(pitch_semitones=-1.0, range_semitones=1.5, fall_semitones=2.0, syllables_per_s=3.6)
UNEASY = Prosody(
    pitch_semitones=3.0,
    range_semitones=4.0,
    syllables_per_s=4.6,
    level_dbfs=-20.0,
    tilt_db_per_octave=8.0,
    shake=0.25,
)
ANGRY = Prosody(
    pitch_semitones=7.6,
    range_semitones=3.0,
    fall_semitones=3.7,
    syllables_per_s=6.0,
    level_dbfs=-11.0,
    tilt_db_per_octave=2.25,
    breath=0.29,
    shake=0.56,
)
TIRED = Prosody(
    pitch_semitones=-1.0,
    range_semitones=1.0,
    fall_semitones=2.5,
    syllables_per_s=2.8,
    level_dbfs=-31.0,
    tilt_db_per_octave=13.0,
    breath=0.08,
)


@dataclass(frozen=True, slots=True)
class Phrase:
    """When and how a channel speaks.

    Attributes:
        take: which of the many ways to say it, as chance has it; a number, always the same sound.
    """

    channel: int
    start_s: float
    duration_s: float
    prosody: Prosody
    take: int = 0


PHRASES = (
    Phrase(AGENT, 0.6, 2.2, FRIENDLY, 13),
    Phrase(CUSTOMER, 3.2, 2.6, CALM, 1),
    Phrase(CUSTOMER, 6.2, 2.4, CALM, 24),
    Phrase(AGENT, 9.0, 2.4, FRIENDLY, 29),
    Phrase(CUSTOMER, 11.8, 2.4, UNEASY, 17),
    Phrase(CUSTOMER, 14.5, 1.8, UNEASY, 9),
    Phrase(AGENT, 16.6, 1.6, FRIENDLY, 5),
    Phrase(CUSTOMER, 18.4, 3.0, ANGRY, 21),
    Phrase(CUSTOMER, 21.7, 2.8, ANGRY, 50),
    Phrase(CUSTOMER, 24.8, 2.6, ANGRY, 21),
    Phrase(AGENT, 27.2, 2.8, FRIENDLY, 27),
    Phrase(AGENT, 30.3, 1.8, FRIENDLY, 26),
    Phrase(CUSTOMER, 32.4, 2.6, TIRED, 9),
    Phrase(CUSTOMER, 35.3, 2.4, CALM, 29),
    Phrase(AGENT, 38.0, 1.4, FRIENDLY, 16),
    Phrase(CUSTOMER, 39.6, 1.6, CALM, 1),
)


def make_sample_call() -> npt.NDArray[np.float32]:
    """Return the call, ``(samples, 2)``, −1 to 1, at :data:`RATE_HZ`; always the same call."""
    rng = np.random.default_rng(7)
    noise = rng.normal(0.0, 10 ** (_NOISE_DBFS / 20), (round(_DURATION_S * RATE_HZ), 2))
    call = noise.astype(np.float32)
    for phrase in PHRASES:
        rng = np.random.default_rng(phrase.take)
        sound = say(VOICES[phrase.channel], phrase.prosody, phrase.duration_s, rng, RATE_HZ)
        start = round(phrase.start_s * RATE_HZ)
        call[start : start + len(sound), phrase.channel] += sound
    return np.clip(call, -1.0, 1.0)


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


if __name__ == "__main__":
    soundfile.write(
        ASSET,
        make_sample_call(),
        RATE_HZ,
        format="OGG",
        subtype="VORBIS",
        compression_level=_COMPRESSION,
    )
