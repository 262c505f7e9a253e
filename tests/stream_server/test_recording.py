from __future__ import annotations

import asyncio
import errno
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import structlog

from ser_engine.errors import ConfigError
from ser_engine.types import FloatArray
from stream_server import recording as recording_module
from stream_server.config import RecordingConfig
from stream_server.recording import Recordings
from tests.requirements import REPOSITORY

HOUR_S = 3600


def noise(rng: np.random.Generator, num_samples: int) -> FloatArray:
    samples = np.rint(rng.uniform(-0.5, 0.5, num_samples) * 32_768) / 32_768
    return samples.astype(np.float32)


@pytest.fixture
def config(tmp_path: Path) -> RecordingConfig:
    return RecordingConfig(enabled=True, dir=f"{tmp_path}/recordings")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


async def record(config: RecordingConfig, stream_id: str, samples: FloatArray) -> None:
    recordings = Recordings(config)
    recordings.record(stream_id).tap(0, samples)
    await recordings.close()


async def test_each_channel_is_a_file_with_the_time_of_the_stream(
    config: RecordingConfig, rng: np.random.Generator
):
    recordings = Recordings(config)
    recording = recordings.record("s-1")
    heard = [noise(rng, 20_000), np.zeros(70_000, dtype=np.float32), noise(rng, 333)]
    for samples in heard:
        for start in range(0, len(samples), 1600):
            recording.tap(0, samples[start : start + 1600])
            recording.tap(10, -samples[start : start + 1600])
    recording.close()
    recording.tap(0, noise(rng, 100))  # too late
    await recordings.close()
    left, right = recordings.files("s-1")
    assert (left.name, right.name) == ("s-1.0.flac", "s-1.10.flac")
    whole = np.concatenate(heard)
    for path, expected in ((left, whole), (right, -whole)):
        samples, rate = soundfile.read(path, dtype="float32")
        assert rate == 16_000
        np.testing.assert_array_equal(samples, expected)
        assert soundfile.info(path).subtype == "PCM_16"


async def test_loud_samples_are_clipped(config: RecordingConfig):
    await record(config, "s", np.array([1.5, -1.5, 0.0], dtype=np.float32))
    samples, _ = soundfile.read(Path(config.dir) / "s.0.flac", dtype="int16")
    assert samples.tolist() == [32_767, -32_768, 0]


async def test_only_the_owner_may_read_recordings(config: RecordingConfig):
    await record(config, "s", np.ones(10, dtype=np.float32))
    folder = Path(config.dir)
    assert mode(folder) == 0o700
    assert mode(folder / "s.0.flac") == 0o600


@pytest.mark.parametrize("stream_id", ["", "../etc", "a.b", "a/b", "ä", "x" * 129])
async def test_a_stream_id_that_is_no_file_name_is_refused(config: RecordingConfig, stream_id: str):
    recordings = Recordings(config)
    with pytest.raises(ValueError, match="letters, digits, - and _"):
        recordings.record(stream_id)
    assert recordings.files(stream_id) == []
    await recordings.close()


async def test_a_stream_is_recorded_once(config: RecordingConfig):
    recordings = Recordings(config)
    recordings.record("s")
    with pytest.raises(ValueError, match="stream id 's' is being recorded"):
        recordings.record("s")
    await recordings.close()


async def test_a_deleted_stream_leaves_no_file(config: RecordingConfig):
    for stream_id in ("s", "s-2"):
        await record(config, stream_id, np.ones(10, dtype=np.float32))
    recordings = Recordings(config)
    assert recordings.delete("s") == 1
    assert recordings.delete("s") == 0
    assert recordings.files("s-2") != []
    await recordings.close()


async def test_deleting_ends_a_recording(config: RecordingConfig):
    recordings = Recordings(config)
    recording = recordings.record("s")
    recording.tap(0, np.ones(100_000, dtype=np.float32))
    recordings.delete("s")
    recording.tap(0, np.ones(10, dtype=np.float32))
    await recordings.close()
    assert recordings.files("s") == []


async def test_recordings_expire(config: RecordingConfig):
    for stream_id in ("old", "new", "live"):
        await record(config, stream_id, np.ones(10, dtype=np.float32))
    folder = Path(config.dir)
    for name, age_h in (("old", 25), ("new", 23)):
        at_s = 1e9 - age_h * HOUR_S
        os.utime(folder / f"{name}.0.flac", (at_s, at_s))
    (folder / "live.0.flac").unlink()
    recordings = Recordings(config, now=lambda: 1e9)
    (folder / "live.0.flac").touch()
    os.utime(folder / "live.0.flac", (0, 0))
    recordings.record("live")
    assert recordings.expire() == 1
    assert names(folder) == {"new.0.flac", "live.0.flac"}
    await recordings.close()


async def test_expiry_runs_for_ever(config: RecordingConfig):
    await record(config, "s", np.ones(10, dtype=np.float32))
    age_s = [0.0]
    recordings = Recordings(config, now=lambda: time.time() + age_s[0])
    with structlog.testing.capture_logs() as logs:
        running = asyncio.ensure_future(recordings.run_expiry(interval_s=0))
        for _ in range(10):
            await asyncio.to_thread(recordings.files, "s")
        assert recordings.files("s") != []
        age_s[0] = 24 * HOUR_S
        while not logs:
            await asyncio.to_thread(recordings.files, "s")
    assert recordings.files("s") == []
    assert logs == [{"event": "recordings_expired", "files": 1, "log_level": "info"}]
    running.cancel()
    await recordings.close()


async def test_what_the_disk_is_too_slow_for_is_silence(
    config: RecordingConfig, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(recording_module, "_MAX_WAITING_SAMPLES", 1000)
    recordings = Recordings(config)
    recording = recordings.record("s")
    with recordings._changed:
        recording.tap(0, np.full(1000, 0.5, dtype=np.float32))
        recording.tap(0, np.full(500, 0.5, dtype=np.float32))
    await recordings.close()
    samples, _ = soundfile.read(recordings.files("s")[0])
    assert samples.tolist() == [0.5] * 1000 + [0.0] * 500
    assert recordings.dropped_samples == 500


class Disk:
    """What the recorder's files are on; it has room again when it is told so."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.is_full = False
        self.num_refused = 0
        self._pwrite = os.pwrite
        monkeypatch.setattr(os, "pwrite", self.pwrite)

    def pwrite(self, fd: int, data: bytes, offset: int) -> int:
        if not self.is_full:
            return self._pwrite(fd, data, offset)
        self.num_refused += 1
        # A disk takes a part before it says that it is full.
        if self.num_refused == 1 and len(data) > 1:
            return self._pwrite(fd, data[:1], offset)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


async def until(condition: Callable[[], bool]) -> None:
    """The recorder is a thread; it tells of nothing."""
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.to_thread(time.sleep, 0)


def promised_samples(path: Path) -> int:
    """The length in the header, 36 bits; 0 while it is not there."""
    try:
        return int.from_bytes(path.read_bytes()[21:26], "big") & (1 << 36) - 1
    except FileNotFoundError:
        return 0


async def test_a_recording_goes_on_when_there_is_room_again(
    config: RecordingConfig, monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator
):
    monkeypatch.setattr(recording_module, "_WRITE_INTERVAL_S", 0.001)
    disk, recordings = Disk(monkeypatch), Recordings(config)
    before, during, after = (noise(rng, 50_000) for _ in range(3))
    path = Path(config.dir) / "s.0.flac"
    with structlog.testing.capture_logs() as logs:
        recording = recordings.record("s")
        recording.tap(0, before)
        await until(lambda: promised_samples(path) > 40_000)
        disk.is_full = True
        # Its last block is encoded when more comes; it waits in memory.
        recording.tap(0, before[:5000])
        await until(lambda: recordings.num_failed == 1)
        recording.tap(0, during)
        await until(lambda: recordings.dropped_samples == len(during))
        assert recording.silent_s == len(during) / 16_000
        # What is on the disk can be read meanwhile.
        read, _ = soundfile.read(path, dtype="float32")
        np.testing.assert_array_equal(read, before[: len(read)])
        disk.is_full = False
        await until(lambda: any(line["event"] == "recording_goes_on" for line in logs))
        recording.tap(0, after)
        await recordings.close()
    samples, _ = soundfile.read(path, dtype="float32")
    expected = np.concatenate([before, before[:5000], np.zeros_like(during), after])
    np.testing.assert_array_equal(samples, expected)
    failed, goes_on = logs
    assert (failed["event"], failed["stream_id"], failed["channel"]) == ("recording_failed", "s", 0)
    assert failed["error"] == os.strerror(errno.ENOSPC)
    assert (goes_on["stream_id"], goes_on["silent_s"]) == ("s", 3.125)


async def test_a_stream_may_end_while_the_disk_is_full(
    config: RecordingConfig, monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator
):
    monkeypatch.setattr(recording_module, "_WRITE_INTERVAL_S", 0.001)
    disk, recordings = Disk(monkeypatch), Recordings(config)
    samples = noise(rng, 10_000)
    disk.is_full = True
    recording = recordings.record("s")
    recording.tap(0, samples)
    recording.close()
    await until(lambda: disk.num_refused > 10)
    disk.is_full = False
    await until(lambda: not recordings._live)
    read, _ = soundfile.read(Path(config.dir) / "s.0.flac", dtype="float32")
    np.testing.assert_array_equal(read, samples)
    disk.is_full = True
    with structlog.testing.capture_logs() as logs:
        recordings.record("left").tap(0, samples)
        # The end of the server does not wait for room.
        await recordings.close()
    assert [line["event"] for line in logs] == ["recording_failed", "recording_cut"]


async def test_a_file_that_cannot_be_written_stops_no_other(config: RecordingConfig):
    recordings = Recordings(config)
    (Path(config.dir) / "s.0.flac").mkdir()
    with structlog.testing.capture_logs() as logs:
        recording = recordings.record("s")
        recording.tap(0, np.ones(10, dtype=np.float32))
        recording.tap(1, np.ones(10, dtype=np.float32))
        await recordings.close()
    assert recordings.num_failed == 1
    assert [line["event"] for line in logs] == ["recording_failed"]
    assert soundfile.info(Path(config.dir) / "s.1.flac").frames == 10


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"recording\.dir: the folder"):
        Recordings(RecordingConfig(dir=f"{tmp_path}/file/recordings"))


KILLED = """
import os, signal, sys
from pathlib import Path
import numpy as np
from stream_server.config import RecordingConfig
from stream_server.recording import Recordings

recording = Recordings(RecordingConfig(dir=sys.argv[1])).record("s")
for number in range(20):
    recording.tap(0, np.full(1600, 0.25, dtype=np.float32))
path = Path(sys.argv[1]) / "s.0.flac"
while not path.exists() or int.from_bytes(path.read_bytes()[22:26], "big") < 32_000 - 4096:
    pass
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_recording_can_be_read_after_a_crash(config: RecordingConfig):
    killed = subprocess.run([sys.executable, "-c", KILLED, config.dir], cwd=REPOSITORY, check=False)
    assert killed.returncode == -signal.SIGKILL
    samples, _ = soundfile.read(Path(config.dir) / "s.0.flac")
    block_samples = 4096
    assert 32_000 - block_samples <= len(samples) <= 32_000
    assert set(samples.tolist()) == {0.25}
