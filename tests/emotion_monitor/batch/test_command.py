from __future__ import annotations

import csv
import dataclasses
import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from emotion_monitor import main
from emotion_monitor.batch import MANIFEST_NAME, Manifest, place_all
from emotion_monitor.commands import batch as batch_module
from emotion_monitor.commands import options as engine_module
from ser_engine.config import EngineConfig, ModelConfig
from ser_engine.files.search import find_recordings
from ser_engine.types import Window
from tests.ser_engine.timeline.streams import make_audio
from tests.support.damaged_files import wav_of_codec
from tests.support.fake_engine import FakeEngine

Captured = pytest.CaptureFixture[str]
SHA256 = "a" * 64


class Engine(FakeEngine):
    """A fake one with a hash, so that its results are kept; it can be told when to be stopped."""

    def __init__(self) -> None:
        super().__init__()
        self.info = dataclasses.replace(self.info, sha256=SHA256)
        self.steps = 0
        self.stop_at_step = 0
        self.largest_batch = 0

    def step(self, windows: Any) -> Any:
        self.steps += 1
        self.largest_batch = max(self.largest_batch, len(windows))
        if self.steps == self.stop_at_step:
            raise KeyboardInterrupt
        return super().step(windows)


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Engine:
    made = Engine()
    monkeypatch.setattr(engine_module, "build_engine", lambda config: made)
    cache = "EMOTION_MONITOR__SER_ENGINE__OFFLINE__CACHE_DIR"
    monkeypatch.setenv(cache, str(tmp_path / "cache"))
    # It takes noise for speech.
    monkeypatch.setenv("EMOTION_MONITOR__SER_ENGINE__VAD__DETECTOR", "webrtc")
    return made


@pytest.fixture
def calls(tmp_path: Path) -> Path:
    """Six recordings in a tree, each of another length."""
    folder = tmp_path / "calls"
    (folder / "sub").mkdir(parents=True)
    for number, name in enumerate(["a.wav", "a.flac", "b.wav", "sub/a.wav", "sub/c.wav"]):
        soundfile.write(folder / name, make_audio((8_000 + 1600 * number, 0.1)), 16_000)
    stereo = np.stack([make_audio((16_000, 0.1)), make_audio((16_000, 0.2))], axis=1)
    soundfile.write(folder / "stereo.wav", stereo, 16_000)
    return folder


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as caught:
        main(["analyze", *map(str, arguments)])
    return int(caught.value.code or 0)


def files_in(folder: Path) -> list[str]:
    found = [path for path in folder.rglob("*") if path.is_file()]
    return sorted(path.relative_to(folder).as_posix() for path in found)


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_a_tree_of_results_mirrors_the_recordings(engine: Engine, calls: Path, tmp_path: Path):
    out = tmp_path / "out"
    assert run(calls, "--recursive", "--out", out) == 0
    assert files_in(out) == [
        "a.flac.json",
        "a.wav.json",
        "b.wav.json",
        "index.jsonl",
        "results.csv",
        "stereo.wav.json",
        "sub/a.wav.json",
        "sub/c.wav.json",
    ]
    document = json.loads((out / "sub" / "c.wav.json").read_bytes())
    assert document["name"] == "sub/c.wav"
    assert document["channels"][0]["overall"]["label"] == "angry"
    rows = rows_of(out / "results.csv")
    assert [(row["name"], row["channel"], row["label"]) for row in rows][3:] == [
        ("stereo.wav", "0", "angry"),
        ("stereo.wav", "1", "happy"),
        ("sub/a.wav", "0", "angry"),
        ("sub/c.wav", "0", "angry"),
    ]
    assert float(rows[0]["duration_s"]) == 0.6
    assert float(rows[0]["angry"]) == pytest.approx(float(rows[0]["confidence"]))


def test_windows_of_many_files_share_a_batch(engine: Engine, calls: Path, tmp_path: Path):
    run(calls, "-r", "--out", tmp_path / "out")
    assert (engine.steps, engine.largest_batch) == (1, 7)


def test_several_processes_write_what_one_writes(
    engine: Engine, calls: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
):
    monkeypatch.setattr(batch_module, "build_engine", engine_of_a_child)
    one, two = tmp_path / "one", tmp_path / "two"
    assert run(calls, "-r", "--out", one, "--no-cache") == 0
    (calls / "b.wav").write_bytes(b"RIFF")
    assert run(calls, "-r", "--out", two, "--no-cache", "--processes", 2) == 1
    assert "b.wav: " in capsys.readouterr().err
    assert engine.steps == 1
    assert set(files_in(one)) - set(files_in(two)) == {"b.wav.json"}
    for name in files_in(two):
        if name.endswith(".wav.json"):
            assert (two / name).read_bytes() == (one / name).read_bytes()


def engine_of_a_child(config: EngineConfig) -> Engine:
    return Engine()


def test_processes_are_started_where_there_is_much_to_do(calls: Path, tmp_path: Path):
    path = tmp_path / "long.wav"
    with path.open("wb") as file:
        file.truncate(256 << 20)
    files = place_all(find_recordings([path, *[calls / "a.wav"] * 2]), Manifest(tmp_path))
    config = EngineConfig(model=ModelConfig(device="cpu"))
    built_in = replace(Engine().info, name="compact")

    assert batch_module.processes_for(built_in, config, files, cores=2) == 2
    assert batch_module.processes_for(built_in, config, files, cores=64) == len(files)
    assert batch_module.processes_for(built_in, config, files[1:], cores=2) == 1
    base = replace(built_in, name="emotion2vec_plus_base")
    assert batch_module.processes_for(base, config, files, cores=2) == 1


def test_what_is_done_is_not_done_again(
    engine: Engine, calls: Path, tmp_path: Path, capsys: Captured
):
    out = tmp_path / "out"
    run(calls, "-r", "--out", out, "--no-cache")
    before = {name: (out / name).read_bytes() for name in files_in(out)}
    capsys.readouterr()
    assert run(calls, "-r", "--out", out, "--no-cache") == 0
    assert engine.steps == 1
    assert "6 had results already" in capsys.readouterr().err
    assert {name: (out / name).read_bytes() for name in files_in(out)} == before


@pytest.mark.parametrize(
    ("change", "again"),
    [
        ("touched", 0),
        ("changed", 1),
        ("a result is lost", 1),
        ("another granularity", 6),
        ("one more format", 6),
        ("another setting", 6),
    ],
)
def test_what_has_changed_is_done_again(
    change: str, again: int, engine: Engine, calls: Path, tmp_path: Path, capsys: Captured
):
    out, more = tmp_path / "out", []
    run(calls, "-r", "--out", out, "--no-cache")
    match change:
        case "touched":
            os.utime(calls / "a.wav", (1, 1))
        case "changed":
            soundfile.write(calls / "a.wav", make_audio((8_000, 0.2)), 16_000)
        case "a result is lost":
            (out / "a.wav.json").unlink()
        case "another granularity":
            more = ["-g", "frame"]
        case "one more format":
            more = ["--format", "json,npy"]
        case "another setting":
            more = ["--set", "ser_engine.vad.aggressiveness=3"]
    capsys.readouterr()
    assert run(calls, "-r", "--out", out, "--no-cache", *more) == 0
    assert capsys.readouterr().err.splitlines()[-1].startswith(f"emotion-monitor: {again} analysed")
    emotion = json.loads((out / "a.wav.json").read_bytes())["channels"][0]["overall"]["label"]
    assert emotion == ("happy" if change == "changed" else "angry")


def test_files_of_a_former_granularity_are_removed(engine: Engine, calls: Path, tmp_path: Path):
    out = tmp_path / "out"
    run(calls, "--out", out, "-g", "frame", "--format", "csv,npy")
    assert "a.wav.frames.csv" in files_in(out)
    assert np.load(out / "a.wav.npy").shape == (24, 2)
    assert np.load(out / "stereo.wav.npy").shape == (2, 49, 2)
    run(calls, "--out", out, "-g", "utterance", "--format", "csv")
    assert files_in(out) == ["index.jsonl", "results.csv"]


def test_bad_files_are_a_line_each(engine: Engine, calls: Path, tmp_path: Path, capsys: Captured):
    out = tmp_path / "out"
    (calls / "bad.wav").write_text("no audio")
    soundfile.write(calls / "short.wav", np.zeros(100), 16_000)
    assert run(calls, "-r", "--out", out, calls / "missing.wav") == 1
    lines = capsys.readouterr().err.splitlines()
    complaints = [line for line in lines if str(calls) in line]
    assert len(complaints) == 3
    assert any("bad.wav: format not recognised" in line for line in complaints)
    assert any("short.wav: got 100 samples" in line for line in complaints)
    assert any("missing.wav: there is no such file" in line for line in complaints)
    assert "3 failed" in lines[-1]
    errors = {Path(row["name"]).name: row["error"] for row in rows_of(out / "errors.csv")}
    assert set(errors) == {"bad.wav", "short.wav", "missing.wav"}
    assert errors["missing.wav"] == "there is no such file"
    assert errors["short.wav"].startswith("got 100 samples")
    assert len(rows_of(out / "results.csv")) == 7


def test_a_file_that_was_repaired_is_an_error_no_more(engine: Engine, calls: Path, tmp_path: Path):
    out = tmp_path / "out"
    (calls / "bad.wav").write_text("no audio")
    assert run(calls, "--out", out) == 1
    soundfile.write(calls / "bad.wav", make_audio((8_000, 0.2)), 16_000)
    assert run(calls, "--out", out) == 0
    assert not (out / "errors.csv").exists()
    assert "bad.wav.json" in files_in(out)


def test_control_c_keeps_what_is_done_and_says_how_to_go_on(
    engine: Engine, calls: Path, tmp_path: Path, capsys: Captured
):
    out = tmp_path / "out"
    engine.stop_at_step = 3
    arguments = (calls, "-r", "--out", out, "--set", "ser_engine.batching.max_batch_size=1")
    assert run(*arguments) == 130
    lines = capsys.readouterr().err.splitlines()
    assert lines[-1].endswith("stopped with 4 files left; the same command again goes on with them")
    assert len(rows_of(out / "results.csv")) == 2
    assert run(*arguments) == 0
    assert "4 analysed" in capsys.readouterr().err
    assert len(rows_of(out / "results.csv")) == 7


def test_results_among_the_recordings_are_no_recordings(
    engine: Engine, calls: Path, capsys: Captured
):
    for _ in range(2):
        assert run(calls, "-r", "--out", calls / "out") == 0
    assert "6 had results already" in capsys.readouterr().err
    assert "out/out" not in "".join(files_in(calls))


def test_another_folder_of_results_takes_what_is_known(
    engine: Engine, calls: Path, tmp_path: Path, capsys: Captured
):
    run(calls, "-r", "--out", tmp_path / "one")
    steps = engine.steps
    capsys.readouterr()
    assert run(calls, "-r", "--out", tmp_path / "two") == 0
    assert engine.steps == steps
    assert "6 of them known from before" in capsys.readouterr().err
    for name in files_in(tmp_path / "one"):
        if name != MANIFEST_NAME:
            assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_without_the_cache_nothing_is_kept(engine: Engine, calls: Path, tmp_path: Path):
    run(calls, "--out", tmp_path / "one", "--no-cache")
    assert not (tmp_path / "cache").exists()


@pytest.mark.needs("pyarrow")
def test_parquet(engine: Engine, calls: Path, tmp_path: Path):
    from pyarrow import parquet

    out = tmp_path / "out"
    assert run(calls, "--out", out, "-g", "frame", "--format", "parquet") == 0
    frames = parquet.read_table(out / "stereo.wav.frames.parquet")
    assert frames.num_rows == 98
    assert frames.column_names[:8] == [
        *("name", "channel", "start_s", "end_s", "label", "best", "speech", "confidence")
    ]
    assert set(frames.column("best").to_pylist()[49:]) == {"happy"}
    table = parquet.read_table(out / "results.parquet")
    assert table.column("name").to_pylist() == ["a.flac", "a.wav", "b.wav", *["stereo.wav"] * 2]


def test_a_preset_says_what_is_written(engine: Engine, calls: Path, tmp_path: Path):
    out = tmp_path / "out"
    assert run(calls / "a.wav", "--out", out, "--preset", "counselling", "--format", "json") == 0
    assert files_in(out) == ["a.wav.json", "a.wav.npy", "index.jsonl"]
    document = json.loads((out / "a.wav.json").read_bytes())
    assert document["granularity"] == "frame"
    assert np.load(out / "a.wav.npy").ndim == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--format", "json"], "needs --out DIR"),
        (["--processes", "2"], "needs --out DIR"),
        (["--out", "out", "--format", "json,xls"], "got 'xls', expected some of json, csv"),
        (["--out", "out", "--embeddings", "x.npy"], "--format npy"),
        (["--preset", "nonsense"], "expected one of call_quality"),
        (["--frame-hop-ms", "15"], "expected 10 or 20"),
    ],
)
def test_contradictions_are_refused(
    arguments: list[str],
    message: str,
    engine: Engine,
    calls: Path,
    capsys: Captured,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setenv("COLUMNS", "300")
    monkeypatch.chdir(calls)
    before = files_in(calls)
    assert run(calls, *arguments) == 2
    assert message in capsys.readouterr().err
    assert files_in(calls) == before


def test_a_folder_that_is_a_file_is_one_line(engine: Engine, calls: Path, capsys: Captured):
    assert run(calls, "--out", calls / "a.wav") == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("a.wav: cannot be written: File exists")


def test_a_disk_that_is_full_ends_the_run(
    engine: Engine,
    calls: Path,
    tmp_path: Path,
    capsys: Captured,
    monkeypatch: pytest.MonkeyPatch,
):
    real = os.replace

    def replace(source: Path, target: Path) -> None:
        if Path(target).name == "b.wav.json":
            raise OSError(28, "No space left on device")
        real(source, target)

    monkeypatch.setattr(os, "replace", replace)
    out = tmp_path / "out"
    assert run(calls, "--out", out, "--set", "ser_engine.batching.max_batch_size=1") == 1
    assert "out: cannot be written: No space left on device" in capsys.readouterr().err
    assert not [name for name in files_in(out) if name.endswith(".new")]
    monkeypatch.setattr(os, "replace", real)
    assert run(calls, "--out", out) == 0
    assert len(rows_of(out / "results.csv")) == 5


def test_a_model_for_speakers_that_is_not_there_is_one_line(
    engine: Engine, calls: Path, tmp_path: Path, capsys: Captured
):
    nowhere = f"ser_engine.speakers.model={tmp_path / 'nowhere'}"
    assert run(calls, "--out", tmp_path / "out", "--speakers", "--set", nowhere) == 1
    told = [line for line in capsys.readouterr().err.splitlines() if "speaker model" in line]
    assert len(told) == 1
    assert list(Manifest(tmp_path / "out")) == []


def test_an_empty_folder_is_said_to_be(engine: Engine, tmp_path: Path, capsys: Captured):
    (tmp_path / "nothing").mkdir()
    assert run(tmp_path / "nothing", "--out", tmp_path / "out") == 1
    assert "there are no recordings" in capsys.readouterr().err


def test_a_file_that_changes_while_it_is_read_gives_no_result(
    engine: Engine, calls: Path, tmp_path: Path, capsys: Captured
):
    def logits(frames: np.ndarray, window: Window) -> np.ndarray:
        soundfile.write(calls / "b.wav", make_audio((4_000, 0.2)), 16_000)
        return np.zeros((len(frames), 4), dtype=np.float32)

    engine._frame_logits = logits
    assert run(calls / "b.wav", "--out", tmp_path / "out") == 1
    assert "changed while it was read" in capsys.readouterr().err
    assert files_in(tmp_path / "cache") == []


_SLOW = """
import signal, sys, time
# Where the tests run in the background of a script, SIGINT is ignored, and children inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
from emotion_monitor import main
from emotion_monitor.commands import options as engine_module
from tests.support.damaged_files import wav_of_codec
from tests.support.fake_engine import FakeEngine

class Slow(FakeEngine):
    def step(self, windows):
        print("step", flush=True)
        sys.stdin.readline()
        return super().step(windows)

engine_module.build_engine = lambda config: Slow()
main(sys.argv[1:])
"""


def start_slow(*arguments: object) -> subprocess.Popen[str]:
    """Start a run that scores one window for each line it is sent."""
    return subprocess.Popen(
        [sys.executable, "-c", _SLOW, "analyze", *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def feed(process: subprocess.Popen[str], lines: int) -> None:
    assert process.stdin is not None
    assert process.stdout is not None
    for _ in range(lines):
        assert process.stdout.readline() == "step\n"
        process.stdin.write("\n")
        process.stdin.flush()
    assert process.stdout.readline() == "step\n"


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_run_that_is_killed_goes_on(
    how: signal.Signals,
    calls: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Captured,
):
    out = tmp_path / "out"
    arguments = (calls, "-r", "--out", out, "--set", "ser_engine.batching.max_batch_size=1")
    process = start_slow(*arguments)
    feed(process, 3)
    process.send_signal(how)
    process.communicate(timeout=60)
    assert process.returncode == (-signal.SIGKILL if how is signal.SIGKILL else 130)
    done = [entry.place for entry in Manifest(out)]
    assert len(done) == 3
    assert (out / "results.csv").exists() == (how is signal.SIGINT)
    monkeypatch.setattr(engine_module, "build_engine", lambda config: FakeEngine())
    assert run(*arguments) == 0
    errors = capsys.readouterr().err
    assert "3 analysed" in errors
    assert "3 had results already" in errors
    assert len(rows_of(out / "results.csv")) == 7


def test_two_runs_share_a_folder(calls: Path, tmp_path: Path):
    out = tmp_path / "out"
    runs = [start_slow(calls, "-r", "--out", out) for _ in range(2)]
    for process in runs:
        feed(process, 0)
    for process in runs:
        _, errors = process.communicate("\n" * 10, timeout=60)
        assert process.returncode == 0, errors
    assert len(rows_of(out / "results.csv")) == 7
    assert not [name for name in files_in(out) if name.endswith(".new")]


def test_files_that_no_decoder_reads_do_not_end_the_run(
    engine: Engine, calls: Path, tmp_path: Path, capsys: Captured
):
    wav_of_codec(calls / "0.wav", 0x0133)
    (calls / "1.wav").write_bytes(bytes(range(256)) * 6)
    out = tmp_path / "out"
    raw = tmp_path / "any_bytes.raw"
    raw.write_bytes(bytes(range(256)) * 6)
    assert run("-r", calls, raw, "--out", out) == 1
    errors = {Path(row["name"]).name: row["error"] for row in rows_of(out / "errors.csv")}
    assert errors.keys() == {"0.wav", "1.wav", "any_bytes.raw"}
    assert "G.729" in errors["0.wav"]
    assert len(rows_of(out / "results.csv")) == 7
    steps = engine.steps
    # Again: what has its results is left alone, what failed is tried once more.
    assert run("-r", calls, raw, "--out", out) == 1
    assert engine.steps == steps
    assert "Traceback" not in capsys.readouterr().err
