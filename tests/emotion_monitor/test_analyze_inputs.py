"""Recordings of all kinds, and files that are none, through the command and the built-in model."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from emotion_monitor import main
from emotion_monitor.commands import options as engine_module
from tests.ser_engine.timeline.streams import make_audio
from tests.support.fake_engine import FakeEngine

Captured = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    name = "EMOTION_MONITOR__SER_ENGINE__OFFLINE__CACHE_DIR"
    monkeypatch.setenv(name, str(tmp_path / "cache"))


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeEngine:
    engine = FakeEngine()
    monkeypatch.setattr(engine_module, "build_engine", lambda config: engine)
    return engine


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as caught:
        main(["analyze", *map(str, arguments)])
    return int(caught.value.code or 0)


def wav(*, channels: int = 1, rate_hz: int = 16_000, claimed: int | None = None) -> bytes:
    """Return a WAV file of 1 s whose header says what it is told to."""
    data = np.zeros((16_000, max(channels, 1)), dtype="<i2").tobytes()
    claimed = len(data) if claimed is None else claimed
    frame = 2 * channels
    fmt = struct.pack("<HHIIHH", 1, channels, rate_hz, rate_hz * frame, frame, 16)
    head = b"RIFF" + struct.pack("<I", min(36 + claimed, 0xFFFF_FFFF)) + b"WAVEfmt "
    return head + struct.pack("<I", 16) + fmt + b"data" + struct.pack("<I", claimed) + data


def truncated_mp3() -> bytes:
    import io

    file = io.BytesIO()
    noise = np.random.default_rng(0).normal(0, 0.1, 160_000)
    soundfile.write(file, noise, 16_000, format="MP3")
    return file.getvalue()[: len(file.getvalue()) // 3]


BAD: dict[str, tuple[str, Any]] = {
    "text": ("text.wav", b"this is no audio\n" * 100),
    "a name of raw samples": ("any_bytes.raw", bytes(range(256)) * 6),
    "nothing": ("zero.wav", b""),
    "a rate of 0 Hz": ("0hz.wav", lambda: wav(rate_hz=0)),
    "64 channels": ("many.wav", lambda: wav(channels=64)),
    "random bytes": ("noise.flac", np.random.default_rng(0).bytes(5_000)),
    "a header and no more": ("head.wav", lambda: wav()[:44]),
}


CUT_OFF: dict[str, tuple[str, Any]] = {
    "a truncated MP3": ("cut.mp3", truncated_mp3),
    "2 GB in the header": ("2gb.wav", lambda: wav(claimed=0x8000_0000)),
    "nothing in the header": ("0.wav", lambda: wav(claimed=0)),
}


@pytest.mark.parametrize("kind", CUT_OFF)
def test_what_can_be_read_is_analysed_with_a_warning(
    kind: str, fake: FakeEngine, tmp_path: Path, capsys: Captured
):
    name, made = CUT_OFF[kind]
    (tmp_path / name).write_bytes(made())
    assert run(tmp_path / name, "--json", "--details") == 0
    captured = capsys.readouterr()
    (channel,) = json.loads(captured.out)["channels"]
    assert "length" in [warning["code"] for warning in channel["warnings"]]


@pytest.mark.parametrize("kind", BAD)
@pytest.mark.parametrize("where", ["printed", "out", "dated"])
def test_what_is_no_recording_is_one_line_and_leaves_nothing(
    kind: str, where: str, fake: FakeEngine, tmp_path: Path, capsys: Captured
):
    name, made = BAD[kind]
    path = tmp_path / "in" / name
    path.parent.mkdir()
    path.write_bytes(made() if callable(made) else made)
    out = tmp_path / "out"
    more: dict[str, list[object]] = {
        "printed": ["--json"],
        "out": ["--out", out],
        "dated": ["--dated", "--out", out],
    }
    assert run(path, *more[where]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    about = [line for line in captured.err.splitlines() if str(path) in line]
    assert len(about) == 1, captured.err
    assert about[0].startswith(f"emotion-monitor: {path}: ")
    assert about[0].count(str(path)) == 1
    left = sorted(each.name for each in out.rglob("*")) if out.exists() else []
    assert left == (["errors.csv", "index.jsonl"] if where == "out" else [])


@pytest.mark.parametrize(
    "name", ["..wav", "con.wav", "a\nb.wav", "-x.wav", "名.wav", "x" * 250 + ".wav"]
)
def test_a_name_does_no_harm(name: str, fake: FakeEngine, tmp_path: Path):
    folder = tmp_path / "in"
    folder.mkdir()
    soundfile.write(folder / name, make_audio((8_000, 0.1)), 16_000, format="WAV")
    out = tmp_path / "deep" / "out"
    assert run(folder / name, "--out", out) == 0
    assert {path.parent for path in (tmp_path / "deep").rglob("*.json")} == {out}
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["out"]


def test_a_name_that_is_no_utf_8(fake: FakeEngine, tmp_path: Path):
    folder = tmp_path / "in"
    folder.mkdir()
    name = folder / "caf\udce9.wav"
    soundfile.write(folder / "x.wav", make_audio((8_000, 0.1)), 16_000)
    (folder / "x.wav").rename(name)
    out = tmp_path / "out"
    for formats in ("json,csv,npy", "json"):
        assert run(folder, "--out", out, "--format", formats) == 0
    assert json.loads((out / "caf_.wav.json").read_bytes())["name"] == "caf_.wav"
    assert run(folder, "--json") == 0
    assert run(folder, "--dated", "--out", tmp_path / "dated") == 0


def test_dated_folders(fake: FakeEngine, tmp_path: Path, capsys: Captured):
    for number in range(2):
        soundfile.write(tmp_path / f"{number}.wav", make_audio((8_000, 0.1)), 16_000)
    out = tmp_path / "out"
    assert run(tmp_path, "--dated", "--out", out, "-g", "frame") == 0
    folders = [Path(line) for line in capsys.readouterr().out.splitlines()]
    assert len(set(folders)) == 2
    for folder in folders:
        assert folder.parent == out
        assert folder.name.startswith("outputs_")
        assert np.load(folder / "embedding.npy").shape == (24, 2)


def test_a_folder_is_printed_like_its_files(fake: FakeEngine, tmp_path: Path, capsys: Captured):
    (tmp_path / "in" / "sub").mkdir(parents=True)
    for name in ("b.wav", "a.wav", "sub/c.wav"):
        soundfile.write(tmp_path / "in" / name, make_audio((8_000, 0.1)), 16_000)
    assert run(tmp_path / "in", "--json") == 0
    entries = json.loads(capsys.readouterr().out)
    assert [Path(each["name"]).name for each in entries] == ["a.wav", "b.wav"]
    assert run(tmp_path / "in", "--json", "-r") == 0
    assert len(json.loads(capsys.readouterr().out)) == 3


@pytest.mark.needs("real-recordings")
def test_real_recordings_of_odd_formats(shared_data: Path, tmp_path: Path, capsys: Captured):
    out = tmp_path / "out"
    status = run(
        shared_data / "formats", "--out", out, "--model", "compact", "--format", "json,csv"
    )
    errors = [line for line in capsys.readouterr().err.splitlines() if str(shared_data) in line]
    # Three of them hold 8 samples; M4A takes an optional package.
    assert status == 1
    assert sum("got 8 samples" in line for line in errors) == 3
    assert all("got 8 samples" in line or "testing.m4a" in line for line in errors)
    for name in ("bus.opus", "ms_adpcm.wav", "perfect-alley1.ogg", "stereo_24bit.WAV"):
        document = json.loads((out / f"{name}.json").read_bytes())
        assert 0 < document["channels"][0]["overall"]["confidence"] <= 1
    assert "short" in [warning["code"] for warning in _warnings(out / "bus.opus.json")]


@pytest.mark.needs("real-recordings", "av")
def test_a_real_m4a(shared_data: Path, capsys: Captured):
    assert run(shared_data / "formats" / "testing.m4a", "--json", "--model", "compact") == 0
    result = json.loads(capsys.readouterr().out)
    assert {"emotion", "confidence", "granularity"} <= set(
        result if isinstance(result, dict) else result[0]
    )


@pytest.mark.needs("shared-data")
def test_a_second_time_the_result_is_the_same_and_was_kept(
    shared_data: Path, tmp_path: Path, capsys: Captured
):
    path = shared_data / "calls" / "two_channel_agent_customer_16k.wav"
    told = []
    for more in ([], [], ["--no-cache"]):
        assert run(path, "--json", "--scores", "-g", "stream", "--model", "compact", *more) == 0
        told.append(capsys.readouterr().out)
    assert told[0] == told[1] == told[2]
    assert len(list((tmp_path / "cache").iterdir())) == 1


_WITH_PEAK = """
import atexit, sys
from emotion_monitor import main
from emotion_monitor.commands import options as engine_module
from emotion_monitor.compare.child import peak_bytes
from tests.support.fake_engine import FakeEngine
atexit.register(lambda: print(peak_bytes(), file=sys.stderr))

class Forgetful(FakeEngine):
    def step(self, windows):
        answers = super().step(windows)
        self.windows.clear()
        return answers

engine_module.build_engine = lambda config: Forgetful()
main(sys.argv[1:])
"""


def peak_of(path: Path) -> int:
    arguments = ["analyze", str(path), "--json", "--no-cache"]
    done = subprocess.run(
        [sys.executable, "-c", _WITH_PEAK, *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return int(done.stderr.splitlines()[-1])


def test_a_small_file_of_much_audio_takes_no_more_memory(tmp_path: Path):
    """Twenty minutes of silence in some ten kilobytes: 77 MB as samples."""
    peaks = []
    for minutes in (1, 20):
        path = tmp_path / f"{minutes}.flac"
        with soundfile.SoundFile(str(path), "w", 8_000, 1, format="FLAC") as file:
            for _ in range(minutes):
                file.write(np.zeros(8_000 * 60, dtype=np.int16))
        assert path.stat().st_size < 1_000_000
        peaks.append(peak_of(path))
    assert peaks[1] - peaks[0] < 40 << 20


def _warnings(path: Path) -> list[dict[str, Any]]:
    warnings: list[dict[str, Any]] = json.loads(path.read_bytes())["channels"][0]["warnings"]
    return warnings
