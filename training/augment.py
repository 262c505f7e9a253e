"""What happens to speech on its way to a monitor: rooms, noise, telephones, levels, pace.

Every function takes float32 samples (samples,) at 16 kHz and returns the same.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import scipy
import soundfile
import soxr

from ser_engine.frames import SAMPLE_RATE_HZ
from training.clips import FloatArray
from training.tones import hold_music

_TELEPHONE_HZ = 8_000


def change_speed(samples: FloatArray, factor: float) -> FloatArray:
    """Play faster by ``factor``: pitch and formants move along."""
    changed: FloatArray = soxr.resample(samples, SAMPLE_RATE_HZ * factor, SAMPLE_RATE_HZ, "MQ")
    return changed.astype(np.float32)


def telephone(samples: FloatArray, law: str = "u") -> FloatArray:
    """Return what is left after 8 kHz G.711, µ-law (``u``) or A-law (``a``), and back."""
    narrow = soxr.resample(samples, SAMPLE_RATE_HZ, _TELEPHONE_HZ, "HQ").clip(-1, 1)
    size, sign = np.abs(narrow), np.sign(narrow)
    if law == "u":
        code = np.round(127 * np.log1p(255 * size) / np.log1p(255)) / 127
        decoded = sign * np.expm1(code * np.log1p(255)) / 255
    else:
        a, scale = 87.6, 1 + np.log(87.6)
        small = size < 1 / a
        code = np.where(small, a * size, 1 + np.log(np.maximum(a * size, 1e-9))) / scale
        code = np.round(127 * code) / 127
        decoded = sign * np.where(code < 1 / scale, code * scale / a, np.exp(code * scale - 1) / a)
    wide: FloatArray = soxr.resample(decoded, _TELEPHONE_HZ, SAMPLE_RATE_HZ, "HQ")
    return wide.astype(np.float32)


def landline(samples: FloatArray) -> FloatArray:
    """Return what is left after the band of a telephone line, 300 to 3,400 Hz, and G.711."""
    band = scipy.signal.butter(4, (300, 3_400), "bandpass", fs=SAMPLE_RATE_HZ, output="sos")
    return telephone(scipy.signal.sosfilt(band, samples).astype(np.float32))


def noise(length: int, rng: np.random.Generator) -> FloatArray:
    """Return coloured, slowly swelling noise, at times with hum, at RMS 1."""
    spectrum = np.fft.rfft(rng.standard_normal(length))
    hz = np.fft.rfftfreq(length, 1 / SAMPLE_RATE_HZ)
    slope = rng.uniform(0, 1.1)
    made = np.fft.irfft(spectrum / np.maximum(hz, 30.0) ** slope, length)
    made /= np.sqrt(np.mean(made**2)) + 1e-12
    if rng.random() < 0.5:
        knots = rng.uniform(-0.8, 0.8, max(2, length // 8000 + 2))
        made *= np.exp(np.interp(np.linspace(0, len(knots) - 1, length), range(len(knots)), knots))
    if rng.random() < 0.15:
        base = rng.choice([50.0, 60.0, 100.0, 120.0])
        time = np.arange(length) / SAMPLE_RATE_HZ
        for harmonic in range(1, 6):
            made += rng.exponential(0.4) * np.sin(2 * np.pi * base * harmonic * time)
    result: FloatArray = (made / (np.sqrt(np.mean(made**2)) + 1e-12)).astype(np.float32)
    return result


def car(length: int, rng: np.random.Generator) -> FloatArray:
    """Return the sound within a moving car, at RMS 1: rumble, engine orders, tyres, wind.

    Most of its power lies below 200 Hz, falling by about 12 dB an octave, over a wide band of
    tyres and wind 25 to 40 dB lower.
    """
    hz = np.fft.rfftfreq(length, 1 / SAMPLE_RATE_HZ)
    spectrum = np.fft.rfft(rng.standard_normal(length))
    rumble = 1 / (1 + (hz / rng.uniform(40, 120)) ** 2)
    tyres = 10 ** (-rng.uniform(25, 40) / 20) / (1 + (hz / 1500) ** 2)
    made = np.fft.irfft(spectrum * (rumble + tyres), length)
    made /= np.sqrt(np.mean(made**2)) + 1e-12
    time = np.arange(length) / SAMPLE_RATE_HZ
    turns = rng.uniform(20, 55) * (1 + 0.1 * np.sin(2 * np.pi * rng.uniform(0.02, 0.2) * time))
    phase = 2 * np.pi * np.cumsum(turns) / SAMPLE_RATE_HZ
    for order in (1, 2, 4):
        made += rng.exponential(0.25) * np.sin(order * phase)
    result: FloatArray = (made / (np.sqrt(np.mean(made**2)) + 1e-12)).astype(np.float32)
    return result


def synthetic_room(rng: np.random.Generator) -> FloatArray:
    """Return an impulse response: a direct sound, then noise that decays, faster at high pitch."""
    length = int(SAMPLE_RATE_HZ * rng.uniform(0.2, 1.0))
    time = np.arange(length) / SAMPLE_RATE_HZ
    tail = np.zeros(length)
    reverberation_s = rng.uniform(0.15, 0.9)
    for low, high, share in ((50, 1000, 1.0), (1000, 3500, 0.8), (3500, 7500, 0.5)):
        sos = scipy.signal.butter(2, [low, high], "bandpass", fs=SAMPLE_RATE_HZ, output="sos")
        noise_of_band = scipy.signal.sosfilt(sos, rng.standard_normal(length))
        tail += noise_of_band * 10 ** (-3 * time / (reverberation_s * share))
    tail[: int(rng.uniform(0.002, 0.02) * SAMPLE_RATE_HZ)] = 0
    tail *= 10 ** (-rng.uniform(0, 12) / 20) / (np.sqrt(np.sum(tail**2)) + 1e-9)
    tail[0] = 1.0
    result: FloatArray = tail.astype(np.float32)
    return result


class Augmenter:
    """Draws renderings of a clip."""

    def __init__(self, responses_dir: Path, voices: list[FloatArray]) -> None:
        self._responses = [_response(path) for path in sorted(responses_dir.glob("*.wav"))]
        self._voices = voices

    def render(
        self, samples: FloatArray, rng: np.random.Generator, *, speed: bool = True
    ) -> FloatArray:
        """Return one rendering: each effect by chance, in the order in which they happen.

        ``speed``: it may be played faster or slower, which changes its length.
        """
        if speed and rng.random() < 0.7:
            samples = change_speed(samples, float(rng.uniform(0.87, 1.15)))
        if self._responses and rng.random() < 0.4:
            samples = self._in_a_room(samples, rng)
        samples = samples / (np.sqrt(np.mean(samples**2)) + 1e-6)
        if rng.random() < 0.5:
            gain = 10 ** (-rng.uniform(3, 28) / 20)
            samples = samples + gain * self._background(len(samples), rng)
        if rng.random() < 0.2:
            samples = _band(samples, rng)
        level = 10 ** (-rng.uniform(14, 42) / 20)
        samples = (samples * level).astype(np.float32)
        if rng.random() < 0.45:
            samples = telephone(samples, "u" if rng.random() < 0.5 else "a")
        return _quantised(samples)

    def background(self, length: int, rng: np.random.Generator) -> FloatArray:
        """Return noise without speech at some level, or nearly nothing."""
        if rng.random() < 0.15:
            return (rng.standard_normal(length) * 10 ** -rng.uniform(3.5, 6)).astype(np.float32)
        samples = noise(length, rng) * np.float32(10 ** (-rng.uniform(15, 75) / 20))
        if rng.random() < 0.3:
            samples = telephone(samples)
        return _quantised(samples)

    def _background(self, length: int, rng: np.random.Generator) -> FloatArray:
        kind = rng.random()
        if kind < 0.2:
            return car(length, rng) * np.float32(3.0)  # up to 10 dB above what speech has over it
        if kind < 0.3:
            music = hold_music(length, rng)
            result: FloatArray = music / (np.sqrt(np.mean(music**2)) + 1e-6)
            return result
        if not self._voices or kind < 0.75:
            return noise(length, rng)
        babble = np.zeros(length, np.float32)
        for _ in range(rng.integers(4, 8)):
            voice = self._voices[rng.integers(len(self._voices))]
            voice = np.resize(np.roll(voice, rng.integers(len(voice))), length)
            babble += voice / (np.sqrt(np.mean(voice**2)) + 1e-6)
        result = babble / (np.sqrt(np.mean(babble**2)) + 1e-6)
        return result

    def _in_a_room(self, samples: FloatArray, rng: np.random.Generator) -> FloatArray:
        if rng.random() < 0.6:
            response = synthetic_room(rng)
        else:
            response = self._responses[rng.integers(len(self._responses))]
        response = change_speed(response, float(rng.uniform(0.8, 1.25)))
        peak = int(np.argmax(np.abs(response)))
        wet = scipy.signal.fftconvolve(samples, response)[peak : peak + len(samples)]
        wet = wet / (np.sqrt(np.mean(wet**2)) + 1e-9) * np.sqrt(np.mean(samples**2))
        # A microphone across the room hears next to nothing of the direct sound.
        share = 1.0 if rng.random() < 0.4 else rng.uniform(0.2, 0.8)
        mixed: FloatArray = ((1 - share) * samples + share * wet).astype(np.float32)
        return mixed


def _quantised(samples: FloatArray) -> FloatArray:
    """Return the samples as 16 bits hold them."""
    steps: FloatArray = (np.round(samples.clip(-1, 1) * 32767) / 32767).astype(np.float32)
    return steps


def _band(samples: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Let pass what a small microphone or loudspeaker would."""
    low, high = rng.uniform(60, 350), rng.uniform(3000, 7500)
    sos = scipy.signal.butter(2, [low, high], "bandpass", fs=SAMPLE_RATE_HZ, output="sos")
    passed: FloatArray = scipy.signal.sosfilt(sos, samples).astype(np.float32)
    return passed


def _response(path: Path) -> FloatArray:
    samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
    mono = soxr.resample(samples[:, 0], rate, SAMPLE_RATE_HZ)[: SAMPLE_RATE_HZ * 2]
    response: FloatArray = mono / (np.abs(mono).max() + 1e-9)
    return response
