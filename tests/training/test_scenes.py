from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ser_engine.frames import num_frames
from training.augment import Augmenter, car, synthetic_room
from training.clips import CLASSES, FloatArray
from training.scenes import LENGTHS, Material, SceneSource, sound_source, target_of, trimmed
from training.tones import KINDS, tone


def buzz(pitch: float, seconds: float) -> FloatArray:
    time = np.arange(int(seconds * 16_000)) / 16_000
    made: FloatArray = (0.1 * np.sin(2 * np.pi * pitch * time)).astype(np.float32)
    return made


@pytest.fixture
def augmenter(tmp_path: Path) -> Augmenter:
    return Augmenter(tmp_path, [buzz(150, 1.0)])


def test_a_scene_is_whole_frames_of_one_speaker(augmenter: Augmenter) -> None:
    material = [
        Material(buzz(100 + 20 * index, 1.5), f"s{index % 2}", emotion)
        for index, emotion in enumerate(("angry", "neutral", "angry", "neutral"))
    ]
    source = SceneSource(material, augmenter, continuous=False)
    for seed in range(40):
        scene = source.draw(np.random.default_rng(seed))
        frames = len(scene.speech)
        assert frames in LENGTHS
        assert num_frames(len(scene.samples)) == frames
        assert scene.speaker in ("s0", "s1")
        assert 0 < scene.change <= frames
        assert np.isfinite(scene.samples).all()
        changed = not np.array_equal(scene.first, scene.second)
        assert changed == (scene.change < frames)


def test_the_same_seed_draws_the_same_scene(augmenter: Augmenter) -> None:
    source = SceneSource([Material(buzz(100, 9.0), "s", "")], augmenter, continuous=True)
    once = source.draw(np.random.default_rng(5))
    again = source.draw(np.random.default_rng(5))
    assert np.array_equal(once.samples, again.samples)


def test_natural_speech_is_aimed_at_neutral_but_not_wholly() -> None:
    target = target_of("")
    assert target.sum() == pytest.approx(1.0)
    assert target[CLASSES.index("neutral")] == pytest.approx(0.85)
    assert target_of("calm")[CLASSES.index("neutral")] == 1.0


def test_quiet_ends_are_cut_off() -> None:
    silence = np.zeros(8_000, np.float32)
    found = trimmed(np.concatenate([silence, buzz(200, 1.0), silence]))
    assert 16_000 <= len(found) < 18_500
    assert len(trimmed(silence)) == 0


@pytest.mark.parametrize("kind", KINDS)
def test_every_sound_is_heard_and_bounded(kind: str) -> None:
    for seed in range(5):
        samples = tone(kind, 32_000, np.random.default_rng(seed))
        assert samples.shape == (32_000,)
        assert 0.5 < np.abs(samples).max() <= 1.0 + 1e-6


def test_sounds_are_unknown(augmenter: Augmenter) -> None:
    draw = sound_source(augmenter)
    scene = draw(np.random.default_rng(0))
    assert CLASSES[int(scene.first.argmax())] == "unknown"
    assert scene.speech.all()


def test_a_car_is_mostly_rumble() -> None:
    made = car(64_000, np.random.default_rng(0))
    power = np.abs(np.fft.rfft(made)) ** 2
    hz = np.fft.rfftfreq(len(made), 1 / 16_000)
    assert power[hz < 300].sum() > 20 * power[hz > 1000].sum()


def test_a_room_begins_with_the_sound_itself() -> None:
    response = synthetic_room(np.random.default_rng(0))
    assert int(np.abs(response).argmax()) == 0
