from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import soundfile

from scripts import make_stand_ins
from scripts.make_sample_call import RATE_HZ


def test_clips_are_listed_with_their_length(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(make_stand_ins, "CLIPS", make_stand_ins.CLIPS[:1])
    make_stand_ins.write_clips(tmp_path)
    with (tmp_path / "manifest.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert {(row["corpus"], row["split"]) for row in rows} == {
        (corpus.name, split) for corpus in make_stand_ins.CORPORA for split in ("train", "val")
    }
    for row in rows:
        info = soundfile.info(tmp_path / row["path"])
        assert (info.samplerate, info.channels) == (RATE_HZ, 1)
        assert float(row["duration_s"]) == pytest.approx(info.duration, abs=0.01)


def test_a_telephone_has_a_narrow_band():
    times_s = np.arange(RATE_HZ) / RATE_HZ
    tone = np.sin(2 * np.pi * 5_000 * times_s) + np.sin(2 * np.pi * 1_000 * times_s)
    spectrum = np.abs(np.fft.rfft(make_stand_ins.telephone(tone.astype(np.float32))))
    assert spectrum.argmax() == 1_000
    assert spectrum[2_000:].max() < 0.01 * spectrum[1_000]


def test_real_recordings_are_left_alone(tmp_path: Path):
    (tmp_path / "emotional-speech").mkdir()
    (tmp_path / "emotional-speech" / "manifest.csv").write_text("path\n", encoding="utf-8")
    with pytest.raises(FileExistsError, match="which has recordings"):
        make_stand_ins.make_stand_ins(tmp_path)
