from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from ser_engine.models.compact import COMPACT, CompactSizes
from training.batches import WindowSource, load_prepared
from training.calibrate import fit_temperature
from training.clips import CLASSES, CORPORA
from training.export import Calibration, export, load_run
from training.prepare import prepare
from training.train import Plan, train

PLAN = Plan(
    sizes=CompactSizes(
        mel_channels=(4, 4, 8), pitch_channels=(4, 4), dim=16, num_heads=2, depth=1, num_classes=8
    ),
    steps=6,
    batch_size=4,
    warm_up_steps=2,
)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made-up clips: two emotions by one speaker of each corpus, prepared."""
    data = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    folder = data / "emotional-speech"
    folder.mkdir()
    with (folder / "manifest.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow("path corpus speaker gender language emotion split duration_s".split())
        for corpus in CORPORA:
            for emotion, pitch in (("angry", 300), ("calm", 150), ("bored", 120)):
                for split in ("train", "val"):
                    name = f"{corpus}_{emotion}_{split}.wav"
                    time = np.arange(24_000) / 16_000
                    partials = np.outer(2 * np.pi * pitch * np.arange(1, 5), time)
                    buzz = 0.05 * np.sin(partials).sum(axis=0)
                    buzz[:4000] = buzz[-4000:] = 0
                    soundfile.write(
                        folder / name, buzz + 1e-3 * rng.standard_normal(24_000), 16_000
                    )
                    rows.writerow([name, corpus, split, "F", "en", emotion, split, 1.5])
    (data / "impulse-responses").mkdir()
    out = tmp_path_factory.mktemp("prepared")
    prepare(data, out, renderings=2, seed=1)
    return out


def source(prepared: Path, **shares: float) -> WindowSource:
    clips = load_prepared(prepared)
    keep = [True] * len(clips.facts)
    return WindowSource(clips, keep, dict.fromkeys(CORPORA, 1.0), seed=1, **shares)


def test_validation_speakers_and_bored_are_not_prepared(prepared: Path) -> None:
    facts = load_prepared(prepared).facts
    assert {fact["emotion"] for fact in facts} == {"angry", "neutral"}
    assert {fact["speaker"].split("/")[1] for fact in facts} == {"train"}


def test_windows_of_a_batch_are_alike_in_length_and_differ_in_all_else(prepared: Path) -> None:
    drawn = source(prepared)
    for step in range(20):
        batch = drawn.batch(step, 6)
        frames = batch.features.shape[1]
        assert 49 <= frames < 200
        assert torch.isfinite(batch.features).all()
        assert bool(((batch.change == frames) == (batch.first == batch.second)).any())
        assert bool((batch.change <= frames).all())
        torch.testing.assert_close(batch.features, drawn.batch(step, 6).features)


def test_windows_without_speech_are_unknown(prepared: Path) -> None:
    batch = source(prepared, unknown_share=1.0).batch(0, 5)
    assert set(batch.first.tolist()) == {CLASSES.index("unknown")}


def test_the_same_seed_trains_the_same_network_stopped_or_not(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train(PLAN, prepared, tmp_path / "whole").state_dict()
    drawn = WindowSource.batch

    def stop_at_three(self: WindowSource, step: int, size: int):
        if step == 3:
            raise KeyboardInterrupt
        return drawn(self, step, size)

    monkeypatch.setattr("training.schedule._SAVE_EVERY_S", 0.0)
    monkeypatch.setattr(WindowSource, "batch", stop_at_three)
    with pytest.raises(KeyboardInterrupt):
        train(PLAN, prepared, tmp_path / "parts")
    monkeypatch.undo()
    resumed = train(PLAN, prepared, tmp_path / "parts").state_dict()
    for name, value in whole.items():
        torch.testing.assert_close(resumed[name], value, atol=1e-6, rtol=1e-6)


def test_a_run_becomes_a_file_that_the_engine_reads(prepared: Path, tmp_path: Path) -> None:
    train(replace(PLAN, steps=1), prepared, tmp_path / "run")
    model = load_run(tmp_path / "run")
    export(model, Calibration(2.0), tmp_path / "weights.safetensors", {})
    checkpoint = COMPACT.read(tmp_path / "weights.safetensors")
    assert isinstance(checkpoint.sizes, CompactSizes)
    shipped = checkpoint.build()
    samples = torch.randn(1, 16_000, generator=torch.Generator().manual_seed(0)) * 0.1
    with torch.inference_mode():
        expected = model(samples).logits / 2.0
        got = shipped(samples).logits
    columns = [checkpoint.info.labels.names.index(name) for name in CLASSES]
    torch.testing.assert_close(got[..., columns], expected, atol=0.02, rtol=0.02)


def test_temperature_is_what_makes_confidence_true() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(4000, 4, generator=generator) * 2
    truth = torch.multinomial(torch.softmax(logits, 1), 1, generator=generator)[:, 0]
    found = fit_temperature(logits * 3, truth, torch.ones(4000))
    assert found == pytest.approx(3, abs=0.2)
