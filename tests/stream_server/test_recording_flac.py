from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from stream_server.recording import FlacFile

BLOCK_SAMPLES = 4096


def test_the_header_follows_what_is_written(tmp_path: Path, rng: np.random.Generator):
    path = tmp_path / "a.flac"
    samples = rng.integers(-1000, 1000, 3 * BLOCK_SAMPLES + 5).astype(np.int16)
    file = FlacFile(path)
    file.update_header()
    for start in range(0, len(samples), 1000):
        part = samples[start : start + 1000]
        file.write(part)
        file.update_header()
        complete = (start + len(part) - 1) // BLOCK_SAMPLES * BLOCK_SAMPLES
        if complete:
            read, _ = soundfile.read(path, dtype="int16")
            np.testing.assert_array_equal(read, samples[:complete])
    file.close()
    read, rate = soundfile.read(path, dtype="int16")
    np.testing.assert_array_equal(read, samples)
    assert rate == 16_000


def test_silence_of_any_length_is_written(tmp_path: Path):
    file = FlacFile(tmp_path / "a.flac")
    file.write_silence(200_001)
    file.write_silence(0)
    file.close()
    read, _ = soundfile.read(tmp_path / "a.flac", dtype="int16")
    assert len(read) == 200_001
    assert not read.any()


def test_a_file_is_not_written_over(tmp_path: Path):
    (tmp_path / "a.flac").write_text("x")
    with pytest.raises(FileExistsError):
        FlacFile(tmp_path / "a.flac")
