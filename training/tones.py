"""Sounds without speech that a telephone line or a room carries, made by rule.

Call-progress tones follow ITU-T E.180 supplement 2 (tones of the national networks); DTMF is ITU-T
Q.23, fax tones T.30. Every function returns float32 samples (samples,) at 16 kHz, peak about 1.
"""

from __future__ import annotations

import numpy as np

from ser_engine.frames import SAMPLE_RATE_HZ
from training.clips import FloatArray

KINDS = ("progress", "dtmf", "fax", "sit", "beeps", "music", "clicks", "whistle")

_CADENCES: tuple[tuple[tuple[float, ...], tuple[float, ...]], ...] = (
    ((350, 440), (1.0, 0.0)),  # dial, North America
    ((440, 480), (2.0, 4.0)),  # ringing, North America
    ((480, 620), (0.5, 0.5)),  # busy, North America
    ((480, 620), (0.25, 0.25)),  # congestion, North America
    ((425,), (1.0, 0.0)),  # dial, most of Europe
    ((425,), (1.0, 4.0)),  # ringing, most of Europe
    ((425,), (0.5, 0.5)),  # busy, most of Europe
    ((425,), (0.25, 0.25)),  # congestion, most of Europe
    ((425,), (0.2, 0.3, 0.7, 0.8)),  # dial, Italy and Czechia
    ((400, 450), (0.4, 0.2, 0.4, 2.0)),  # ringing, United Kingdom, Australia, India
    ((400,), (0.375, 0.375)),  # busy, United Kingdom
    ((350, 450), (1.0, 0.0)),  # dial, United Kingdom
    ((400, 416), (1.0, 2.0)),  # ringing, Japan
    ((400,), (0.5, 0.5)),  # busy, Japan
    ((440,), (1.5, 3.5)),  # ringing, France
    ((450,), (1.0, 4.0)),  # ringing, China
    ((450,), (0.35, 0.35)),  # busy, China
    ((440, 350), (0.1, 0.1)),  # stutter dial
    ((440,), (0.3, 9.7)),  # call waiting
)
_DTMF_LOW, _DTMF_HIGH = (697, 770, 852, 941), (1209, 1336, 1477, 1633)


def tone(kind: str, length: int, rng: np.random.Generator) -> FloatArray:
    """Return a sound of one of :data:`KINDS`."""
    made = {
        "progress": _progress,
        "dtmf": _dtmf,
        "fax": _fax,
        "sit": _sit,
        "beeps": _beeps,
        "music": hold_music,
        "clicks": _clicks,
        "whistle": _whistle,
    }[kind](length, rng)
    result: FloatArray = (made / (np.abs(made).max() + 1e-9)).astype(np.float32)
    return result


def hold_music(length: int, rng: np.random.Generator) -> FloatArray:
    """Return chords, a melody and perhaps a beat, in a random key, pace and timbre."""
    beat = int(SAMPLE_RATE_HZ * rng.uniform(0.25, 0.7))
    key = 2 ** rng.uniform(-0.5, 0.5) * 220
    scale = np.array([0, 2, 4, 5, 7, 9, 11] if rng.random() < 0.6 else [0, 2, 3, 5, 7, 8, 10])
    partials = rng.exponential(1.0, int(rng.integers(2, 8)))
    partials /= np.arange(1, len(partials) + 1) ** rng.uniform(0.6, 2.0)
    made = np.zeros(length + 4 * beat)
    chords = [(0, 2, 4), (3, 5, 0), (4, 6, 1), (5, 0, 2)]
    decay = rng.uniform(0.5, 6.0)
    for start in range(0, length, beat):
        number = start // beat
        if number % 4 == 0:
            for degree in chords[int(rng.integers(len(chords)))]:
                note = _note(key / 2 * 2 ** (scale[degree] / 12), 4 * beat, partials, decay / 3)
                made[start : start + 4 * beat] += 0.5 * note
        if rng.random() < 0.75:
            hz = key * 2 ** (scale[rng.integers(7)] / 12 + int(rng.integers(0, 2)))
            made[start : start + beat] += _note(hz, beat, partials, decay)
        if number % 2 == 0 and decay > 3:
            drum = rng.standard_normal(beat // 4) * np.exp(-np.linspace(0, 8, beat // 4))
            made[start : start + len(drum)] += 0.6 * drum
    result: FloatArray = made[:length].astype(np.float32)
    return result


def _note(
    hz: float, length: int, partials: np.ndarray[tuple[int], np.dtype[np.float64]], decay: float
) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    time = np.arange(length) / SAMPLE_RATE_HZ
    attack = np.minimum(1, time / 0.02)
    release = np.minimum(1, (length / SAMPLE_RATE_HZ - time) / 0.02)
    wave = np.zeros(length)
    for number, size in enumerate(partials, 1):
        if hz * number < 7_000:
            wave += size * np.sin(2 * np.pi * hz * number * time)
    shaped: np.ndarray[tuple[int], np.dtype[np.float64]] = (
        wave * attack * release * np.exp(-decay * time)
    )
    return shaped


def _sines(hz: tuple[float, ...], length: int) -> FloatArray:
    time = np.arange(length) / SAMPLE_RATE_HZ
    made: FloatArray = np.sum([np.sin(2 * np.pi * f * time) for f in hz], axis=0).astype(np.float32)
    return made


def _keyed(
    hz: tuple[float, ...], pattern: tuple[float, ...], length: int, start_s: float
) -> FloatArray:
    """Return sines that go on and off by a pattern of seconds on, off, on, off, ..."""
    edges = np.cumsum(pattern)
    place = (np.arange(length) / SAMPLE_RATE_HZ + start_s) % edges[-1]
    on = np.searchsorted(edges, place, side="right") % 2 == 0
    made: FloatArray = _sines(hz, length) * on
    return made


def _progress(length: int, rng: np.random.Generator) -> FloatArray:
    hz, pattern = _CADENCES[int(rng.integers(len(_CADENCES)))]
    off = rng.uniform(0.98, 1.02)
    # Begin within the first tone, so that a window holds some of it.
    return _keyed(tuple(f * off for f in hz), pattern, length, rng.uniform(0, pattern[0] * 0.8))


def _dtmf(length: int, rng: np.random.Generator) -> FloatArray:
    made = np.zeros(length, np.float32)
    on, gap = int(rng.uniform(800, 8000)), int(rng.uniform(800, 6000))
    for start in range(int(rng.integers(0, 4000)), length, on + gap):
        pair = (float(rng.choice(_DTMF_LOW)), float(rng.choice(_DTMF_HIGH)))
        stop = min(length, start + on)
        made[start:stop] = _sines(pair, stop - start)
    return made


def _fax(length: int, rng: np.random.Generator) -> FloatArray:
    if rng.random() < 0.4:
        return _keyed((1100,), (0.5, 3.0), length, rng.uniform(0, 0.3))
    if rng.random() < 0.5:
        return _keyed((2100,), (3.3, 0.2), length, 0.0)
    # Frequency-shift keying at 300 bits a second, as V.21.
    bits = np.repeat(rng.integers(0, 2, length // 53 + 2), 53)[:length]
    hz = np.where(bits == 1, 1650.0, 1850.0)
    made: FloatArray = np.sin(2 * np.pi * np.cumsum(hz) / SAMPLE_RATE_HZ).astype(np.float32)
    return made


def _sit(length: int, rng: np.random.Generator) -> FloatArray:
    """Special information tone: three rising tones."""
    made = np.zeros(length, np.float32)
    part = int(SAMPLE_RATE_HZ * 0.33)
    at = int(rng.integers(0, max(1, length - 3 * part)))
    for hz in (950.0, 1400.0, 1800.0):
        stop = min(length, at + part)
        made[at:stop] = _sines((hz,), stop - at)
        at = stop
    return made


def _beeps(length: int, rng: np.random.Generator) -> FloatArray:
    hz = (float(rng.uniform(300, 3300)),)
    pattern = (float(rng.uniform(0.05, 1.2)), float(rng.uniform(0.05, 1.5)))
    made = _keyed(hz, pattern, length, 0.0)
    square: FloatArray = np.sign(made) if rng.random() < 0.3 else made
    return square


def _whistle(length: int, rng: np.random.Generator) -> FloatArray:
    """A tone that slides: whistles, sirens, alarms."""
    knots = np.exp(rng.uniform(np.log(250), np.log(3000), int(rng.integers(2, 9))))
    hz = np.interp(np.linspace(0, len(knots) - 1, length), np.arange(len(knots)), knots)
    made: FloatArray = np.sin(2 * np.pi * np.cumsum(hz) / SAMPLE_RATE_HZ).astype(np.float32)
    return made


def _clicks(length: int, rng: np.random.Generator) -> FloatArray:
    """Knocks, key presses, crackle."""
    made = np.zeros(length + 4000, np.float32)
    for _ in range(int(rng.integers(3, 40))):
        at, size = int(rng.integers(0, length)), int(rng.integers(60, 4000))
        burst = rng.standard_normal(size) * np.exp(-np.linspace(0, 7, size))
        made[at : at + size] += (rng.exponential(1.0) * burst).astype(np.float32)
    return made[:length]
