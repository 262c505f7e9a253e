from __future__ import annotations

import numpy as np
import torch

from ser_engine.models.compact.front_end import NUM_MELS, NUM_PITCHES, PITCH_RANGE_HZ, FrontEnd
from training.voices import Features, paced, revoiced


def tone(hz: float, partials: int) -> Features:
    """Return the features (frames, 112) of a tone."""
    time = np.arange(8000) / 16_000
    samples = sum(0.05 * np.cos(2 * np.pi * hz * k * time) for k in range(1, partials + 1))
    with torch.inference_mode():
        features = FrontEnd()(torch.tensor(samples, dtype=torch.float32)[None])[0]
    result: Features = features.numpy()
    return result


def pitch_hz(features: Features) -> float:
    low, high = PITCH_RANGE_HZ
    best = features[:, NUM_MELS:].mean(axis=0).argmax()
    return float(low * (high / low) ** (best / (NUM_PITCHES - 1)))


def test_nothing_moves_at_factor_one() -> None:
    features = tone(200, 10)
    np.testing.assert_allclose(revoiced(features, 1.0, 1.0), features, atol=1e-6)
    np.testing.assert_allclose(paced(features, len(features)), features, atol=1e-6)


def test_pitch_moves_by_its_factor_and_apart_from_formants() -> None:
    features = tone(200, 10)
    higher = revoiced(features, 1.0, 1.25)
    assert abs(pitch_hz(higher) / pitch_hz(features) - 1.25) < 0.06
    np.testing.assert_allclose(higher[:, :NUM_MELS], features[:, :NUM_MELS], atol=1e-6)


def test_formants_move_as_a_higher_tone_would() -> None:
    moved = revoiced(tone(2000, 1), 1.15, 1.0)[:, :NUM_MELS].mean(axis=0).argmax()
    higher = tone(2300, 1)[:, :NUM_MELS].mean(axis=0).argmax()
    assert abs(int(moved) - int(higher)) <= 1


def test_pace_changes_length_and_keeps_the_ends() -> None:
    features = np.cumsum(np.ones((50, 112), np.float32), axis=0)
    for frames in (30, 70):
        stretched = paced(features, frames)
        assert stretched.shape == (frames, 112)
        np.testing.assert_allclose(stretched[[0, -1]], features[[0, -1]], atol=1e-4)
        assert (np.diff(stretched[:, 0]) > 0).all()
