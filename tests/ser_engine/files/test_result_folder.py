from __future__ import annotations

import json
import os
import resource
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
import soundfile

from ser_engine.errors import AudioError
from ser_engine.files import FileAnalysis, analyze
from ser_engine.files.audio import read_audio
from ser_engine.files.folders import write_result_folder
from ser_engine.schema import Granularity
from tests.ser_engine.timeline.streams import make_audio
from tests.support.fake_engine import FakeEngine

NOW = datetime(2026, 11, 22, 10, 15, 0)


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    soundfile.write(tmp_path / "in.wav", make_audio((22_050, 0.1)), 22_050)
    return tmp_path / "in.wav"


def analysed(path: Path, granularity: Granularity = "utterance") -> FileAnalysis:
    return analyze(path, granularity, engine=FakeEngine(), embeddings=True)


def write(parent: Path, path: Path, granularity: Granularity = "utterance") -> Path:
    return write_result_folder(parent, path, analysed(path, granularity), now=lambda: NOW)


def test_the_folder_has_the_name_and_files_that_users_know(recording: Path, tmp_path: Path):
    folder = write(tmp_path / "outputs", recording)
    assert folder == tmp_path / "outputs" / "outputs_20261122_101500"
    assert sorted(os.listdir(folder)) == [
        *("details.json", "embedding.npy", "log.txt", "processed_audio.wav", "result.json")
    ]
    result = json.loads((folder / "result.json").read_bytes())
    assert list(result) == ["emotion", "confidence", "granularity"]
    assert np.load(folder / "embedding.npy").shape == (2,)
    lines = (folder / "log.txt").read_text("utf-8").splitlines()
    assert lines[0] == f"2026-11-22 10:15:00 read {recording}: 1.000 s, 22050 Hz, 1 channels"
    assert "model fake (none)" in "\n".join(lines)
    assert lines[-1] == "2026-11-22 10:15:00 done"


def test_the_audio_is_what_was_heard(recording: Path, tmp_path: Path):
    folder = write(tmp_path, recording)
    audio, rate_hz = soundfile.read(folder / "processed_audio.wav", dtype="float32", always_2d=True)
    assert rate_hz == 16_000
    np.testing.assert_allclose(audio.T, read_audio(recording), atol=2 / 32_768)


def test_channels_stay_apart(tmp_path: Path):
    audio = np.stack([make_audio((16_000, 0.1)), make_audio((16_000, 0.2))], axis=1)
    soundfile.write(tmp_path / "in.flac", audio, 16_000)
    folder = write(tmp_path, tmp_path / "in.flac", "frame")
    assert soundfile.info(folder / "processed_audio.wav").channels == 2
    assert np.load(folder / "embedding.npy").shape == (2, 49, 2)
    channels = json.loads((folder / "result.json").read_bytes())
    assert [each["channel"] for each in channels] == [0, 1]


def test_frames_are_the_list_that_users_know(recording: Path, tmp_path: Path):
    frames = json.loads((write(tmp_path, recording, "frame") / "result.json").read_bytes())
    assert [list(frame) for frame in frames[:2]] == [["time", "emotion", "score"]] * 2
    assert [frame["time"] for frame in frames[:2]] == [0.0, 0.02]


def test_nothing_is_written_over(recording: Path, tmp_path: Path):
    folders = [write(tmp_path / "outputs", recording) for _ in range(3)]
    assert [folder.name for folder in folders] == [
        "outputs_20261122_101500",
        "outputs_20261122_101500_2",
        "outputs_20261122_101500_3",
    ]


def test_a_recording_that_is_gone_leaves_nothing(recording: Path, tmp_path: Path):
    found = analysed(recording)
    recording.unlink()
    with pytest.raises(AudioError, match="no such file"):
        write_result_folder(tmp_path / "outputs", recording, found, now=lambda: NOW)
    assert os.listdir(tmp_path / "outputs") == []


def test_a_full_disk_is_told_and_leaves_nothing(recording: Path, tmp_path: Path):
    analysis = analysed(recording)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    # Python ignores the signal, so that writing fails as on a full disk.
    resource.setrlimit(resource.RLIMIT_FSIZE, (8192, hard))
    try:
        with pytest.raises(OSError, match="is the disk full"):
            write_result_folder(tmp_path / "outputs", recording, analysis, now=lambda: NOW)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert os.listdir(tmp_path / "outputs") == []


def test_names_make_no_lines_of_their_own_in_the_log(tmp_path: Path):
    name = tmp_path / "a\n2026-11-22 10:15:00 forged\x1b[31m.wav"
    soundfile.write(name, make_audio((8_000, 0.1)), 16_000)
    text = (write(tmp_path / "out", name) / "log.txt").read_text("utf-8")
    assert not any(line.startswith("2026-11-22 10:15:00 forged") for line in text.splitlines())
    assert "\x1b" not in text
