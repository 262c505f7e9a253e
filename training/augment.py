"""What happens to speech on its way to a monitor: rooms, noise, telephones, levels, pace.

Every function takes float32 samples (samples,) at 16 kHz and returns the same.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile
import soxr
from scipy.signal import butter, fftconvolve, sosfilt

from ser_engine.frames import SAMPLE_RATE_HZ
from training.clips import FloatArray

__all__ = ["Augmenter", "change_speed", "noise", "telephone"]

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


class Augmenter:
    """Draws renderings of a clip.

    Args:
        responses_dir: folder of room impulse responses.
        voices: other speech, to make babble of.
    """

    def __init__(self, responses_dir: Path, voices: list[FloatArray]) -> None:
        self._responses = [_response(path) for path in sorted(responses_dir.glob("*.wav"))]
        self._voices = voices

    def render(self, samples: FloatArray, rng: np.random.Generator) -> FloatArray:
        """Return one rendering: each effect by chance, in the order in which they happen."""
        if rng.random() < 0.7:
            samples = change_speed(samples, float(rng.uniform(0.87, 1.15)))
        if self._responses and rng.random() < 0.35:
            samples = self._in_a_room(samples, rng)
        samples = samples / (np.sqrt(np.mean(samples**2)) + 1e-6)
        if rng.random() < 0.5:
            gain = 10 ** (-rng.uniform(3, 28) / 20)
            samples = samples + gain * self._background(len(samples), rng)
        if rng.random() < 0.2:
            samples = _band(samples, rng)
        level = 10 ** (-rng.uniform(14, 42) / 20)
        samples = (samples * level).astype(np.float32)
        if rng.random() < 0.3:
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
        if not self._voices or rng.random() < 0.7:
            return noise(length, rng)
        babble = np.zeros(length, np.float32)
        for _ in range(rng.integers(4, 8)):
            voice = self._voices[rng.integers(len(self._voices))]
            voice = np.resize(np.roll(voice, rng.integers(len(voice))), length)
            babble += voice / (np.sqrt(np.mean(voice**2)) + 1e-6)
        result: FloatArray = babble / (np.sqrt(np.mean(babble**2)) + 1e-6)
        return result

    def _in_a_room(self, samples: FloatArray, rng: np.random.Generator) -> FloatArray:
        response = self._responses[rng.integers(len(self._responses))]
        response = change_speed(response, float(rng.uniform(0.8, 1.25)))
        peak = int(np.argmax(np.abs(response)))
        wet = fftconvolve(samples, response)[peak : peak + len(samples)]
        wet = wet / (np.sqrt(np.mean(wet**2)) + 1e-9) * np.sqrt(np.mean(samples**2))
        share = rng.uniform(0.2, 0.8)
        mixed: FloatArray = ((1 - share) * samples + share * wet).astype(np.float32)
        return mixed


def _quantised(samples: FloatArray) -> FloatArray:
    """Return the samples as 16 bits hold them."""
    steps: FloatArray = (np.round(samples.clip(-1, 1) * 32767) / 32767).astype(np.float32)
    return steps


def _band(samples: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Let pass what a small microphone or loudspeaker would."""
    low, high = rng.uniform(60, 350), rng.uniform(3000, 7500)
    sos = butter(2, [low, high], "bandpass", fs=SAMPLE_RATE_HZ, output="sos")
    passed: FloatArray = sosfilt(sos, samples).astype(np.float32)
    return passed


def _response(path: Path) -> FloatArray:
    samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
    mono = soxr.resample(samples[:, 0], rate, SAMPLE_RATE_HZ)[: SAMPLE_RATE_HZ * 2]
    response: FloatArray = mono / (np.abs(mono).max() + 1e-9)
    return response
