"""Other voices: features moved as if somebody else had said the same, faster or slower.

Works on features (frames, 112), so that no two windows of a run are alike: formants and pitch
move apart from each other, which playing faster cannot do.
"""

from __future__ import annotations

import functools

import numpy as np
import numpy.typing as npt

from ser_engine.models.compact.front_end import NUM_MELS, NUM_PITCHES, PITCH_RANGE_HZ, mel_edges_hz

Features = npt.NDArray[np.float32]


def revoiced(features: Features, formants: float, pitch: float) -> Features:
    """Multiply the frequencies of formants and of the pitch by two factors."""
    mel = features[:, :NUM_MELS] @ _interpolation(_formant_places(formants))
    profile = features[:, NUM_MELS:] @ _interpolation(_pitch_places(pitch))
    return np.concatenate([mel, profile], axis=1, dtype=np.float32)


def paced(features: Features, frames: int) -> Features:
    """Stretch or squeeze features to ``frames`` frames; pitch and formants stay."""
    weights = _interpolation(np.linspace(0, len(features) - 1, frames), len(features))
    stretched: Features = weights.T @ features
    return stretched


def _formant_places(factor: float) -> npt.NDArray[np.float64]:
    """Return from which band, in fractions, each of the bands is read."""
    centres = _centres_hz()
    places: npt.NDArray[np.float64] = np.interp(centres / factor, centres, np.arange(NUM_MELS))
    return places


def _pitch_places(factor: float) -> npt.NDArray[np.float64]:
    """Return from which candidate each of the candidates is read; they are evenly spaced."""
    low, high = PITCH_RANGE_HZ
    moved = np.log(factor) / np.log(high / low) * (NUM_PITCHES - 1)
    places: npt.NDArray[np.float64] = np.arange(NUM_PITCHES) - moved
    return places.clip(0, NUM_PITCHES - 1)


@functools.cache
def _centres_hz() -> npt.NDArray[np.float64]:
    centres: npt.NDArray[np.float64] = mel_edges_hz()[1:-1].numpy()
    return centres


def _interpolation(places: npt.NDArray[np.float64], count: int | None = None) -> Features:
    """Return the matrix (count, places) that reads a row of numbers in between them."""
    count = len(places) if count is None else count
    low = np.minimum(places.astype(np.int64), count - 1)
    high, share = np.minimum(low + 1, count - 1), places - low
    matrix = np.zeros((count, len(places)), np.float32)
    columns = np.arange(len(places))
    np.add.at(matrix, (low, columns), 1 - share)
    np.add.at(matrix, (high, columns), share)
    return matrix
