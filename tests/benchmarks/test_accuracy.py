from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks import accuracy
from benchmarks.accuracy import score
from ser_engine.config import EngineConfig, ModelConfig
from ser_engine.core.factory import build_engine
from training.clips import CORPORA, read_clip, read_clips

SUMMARY = {
    *(f"uar_{corpus}{suffix}" for corpus in CORPORA for suffix in ("", "_2s", "_mulaw8k")),
    *(f"telephone_cost_{corpus}" for corpus in CORPORA),
    *(f"uar4_{corpus}_left_out" for corpus in CORPORA),
    *("eder", "label_delay_s", "label_changes_found", "ece", "window_4s_ms_1core"),
}


@pytest.mark.needs("shared-data")
@pytest.mark.parametrize("model", ["compact", "tiny"])
def test_any_model_is_measured_alike(
    shared_data: Path, tmp_path: Path, tiny_checkpoint_dir: Path, monkeypatch, model: str
) -> None:
    monkeypatch.setattr(accuracy, "_QUICK_CLIPS", 6)
    monkeypatch.setattr(accuracy, "_QUICK_TRANSITIONS", 3)
    name = "compact" if model == "compact" else str(tiny_checkpoint_dir)
    report = tmp_path / "report.json"
    accuracy.main(
        [
            *("--model", name, "--runtime", "torch", "--quick"),
            *("--json", str(report), "--data", str(shared_data)),
            *("--models-dir", str(tmp_path / "models")),
        ]
    )
    found = json.loads(report.read_text())
    assert set(found["summary"]) == SUMMARY
    assert set(found) == {"summary", "machine", "versions", "settings", "rows"}


@pytest.mark.needs("shared-data")
def test_the_built_in_model_hears_real_clips_right(shared_data: Path, tmp_path: Path) -> None:
    # Far below what it reaches, far above chance: this catches a front end that is broken.
    engine = build_engine(EngineConfig(model=ModelConfig(name="compact", models_dir=str(tmp_path))))
    clips = [clip for clip in read_clips(shared_data, "val") if clip.corpus != "ravdess"]
    chosen = clips[::25]
    logits = score(engine, [read_clip(clip) for clip in chosen])
    names = engine.info.labels.names
    right = [
        names[best] == clip.emotion
        for best, clip in zip(logits.argmax(axis=1), chosen, strict=True)
    ]
    assert len(chosen) > 40
    assert np.mean(right) > 0.4


@pytest.mark.needs("shared-data")
def test_no_speaker_is_both_trained_on_and_measured(shared_data: Path) -> None:
    trained = {clip.speaker for clip in read_clips(shared_data, "train")}
    held = {clip.speaker for clip in read_clips(shared_data, "val")}
    assert not trained & held
    assert "bored" not in {clip.emotion for clip in read_clips(shared_data)}
