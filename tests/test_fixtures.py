from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.conftest import SpeechClip


@pytest.mark.needs("shared-data")
def test_speech_clips_are_three_emotions_of_each_corpus(speech_clips: tuple[SpeechClip, ...]):
    assert [clip.corpus for clip in speech_clips] == [
        *["emodb"] * 3,
        *["ravdess"] * 3,
        *["nemo_pl"] * 3,
    ]
    assert len({(clip.corpus, clip.emotion) for clip in speech_clips}) == 9
    for clip in speech_clips:
        assert clip.samples.dtype == np.float32
        assert len(clip.samples) >= 1.5 * 16_000 * 0.99
        assert 0 < np.abs(clip.samples).max() <= 1.5


def test_checkpoint_folders_are_complete_and_of_their_size(
    tiny_checkpoint_dir: Path, base_checkpoint_dir: Path
):
    for folder in (tiny_checkpoint_dir, base_checkpoint_dir):
        assert {path.name for path in folder.iterdir()} == {
            "config.yaml",
            "configuration.json",
            "model.pt",
            "tokens.txt",
        }
    assert (tiny_checkpoint_dir / "model.pt").stat().st_size < 2_000_000
    assert 370_000_000 < (base_checkpoint_dir / "model.pt").stat().st_size < 380_000_000
