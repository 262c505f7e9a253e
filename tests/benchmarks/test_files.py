from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile

from benchmarks import files
from benchmarks.report import Report


def _recording(folder: Path) -> Path:
    path = folder / "a.wav"
    noise = np.random.default_rng(0).normal(0, 0.1, 48_000)
    soundfile.write(path, noise, 16_000)
    return path


def test_a_measurement_is_a_process_of_its_own(tmp_path: Path) -> None:
    report = Report({})
    run = files._Runner(report, {"compact": "compact"}, threads=1)
    found = run("compact", [_recording(tmp_path)] * 2, what="speed")
    assert (found["files"], found["audio_s"]) == (2, 6.0)
    assert found["wall_s"] > 0
    assert found["peak_memory_mb"] >= found["loaded_memory_mb"] > 50
    assert report.rows == [{"what": "speed", "contestant": "compact", **found}]


def test_who_does_not_get_to_the_end_is_told_of(tmp_path: Path) -> None:
    report = Report({})
    run = files._Runner(report, {"base": str(tmp_path / "nowhere")}, threads=1)
    found = run("base", [_recording(tmp_path)], what="speed")
    assert "nowhere" in found["failed"]
    assert "wall_s" not in found


def test_recordings_are_as_long_as_they_are_called(tmp_path: Path) -> None:
    path = files._write_recording(tmp_path / "a.wav", 301)
    assert soundfile.info(path).duration == 301
    pieces = files._write_pieces(tmp_path / "pieces", 3)
    assert [soundfile.info(piece).duration for piece in pieces] == [30.0] * 3
    first, second = (soundfile.read(piece)[0] for piece in pieces[:2])
    assert not np.array_equal(first, second)
