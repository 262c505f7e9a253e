from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from emotion_monitor import main
from emotion_monitor.commands import options as engine_module
from ser_engine.config import EngineConfig, VadConfig
from ser_engine.files import analyze
from tests.ser_engine.timeline.streams import make_audio
from tests.support.fake_engine import FakeEngine
from training.corpora import read_corpus

Captured = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def _engine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_module, "build_engine", lambda config: FakeEngine())
    monkeypatch.setenv("EMOTION_MONITOR__SER_ENGINE__VAD__DETECTOR", "off")


@pytest.fixture
def call(tmp_path: Path) -> Path:
    """Two channels; what the engine hears in the second one is labelled, and a laugh."""
    channels = [make_audio((48_000, 0.1)), make_audio((48_000, 0.2))]
    soundfile.write(tmp_path / "call.wav", np.stack(channels, axis=1), 16_000)
    ours = heard(tmp_path / "call.wav")
    lines = [f"0.0\t1.0\tanna 1: {ours.upper()}", f"1.0\t1.2\tanna 1: {ours}"]
    lines += ["1.2\t2.0\tanna 1: laughs", "2.0\t3.0\tanna 1: unclear", "0\t3\twords 1: hello"]
    (tmp_path / "call.labels.txt").write_text("\n".join(lines), encoding="utf-8")
    return tmp_path / "call.wav"


def heard(path: Path) -> str:
    config = EngineConfig(vad=VadConfig(detector="off"))
    result: Any = analyze(path, "stream", engine=FakeEngine(), config=config).channels[1].result
    return str(result.segments[0].label)


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as caught:
        main(["agreement", *map(str, arguments)])
    return int(caught.value.code or 0)


def test_the_model_is_held_against_the_labels(call: Path, capsys: Captured):
    assert run(call, "--json") == 0
    document = json.loads(capsys.readouterr().out)
    (file,) = document["files"]
    assert (file["channel"], file["tier"]) == (1, "anna 1")
    assert file["other_labels_s"] == {"laughs": pytest.approx(0.8)}
    total = document["total"]
    assert total["seconds"] == pytest.approx(2.2, abs=0.03)
    assert total["share"] == pytest.approx(1.2 / 2.2, abs=0.02)
    assert total["recalls"]["unclear"] == 0
    assert total["uar"] == pytest.approx(0.5)

    assert run(call) == 0
    shown = capsys.readouterr()
    assert "anna 1" in shown.out
    assert "left out 0.8 s of 'laughs'" in shown.err


def test_the_labelled_parts_are_a_corpus_to_train_on(call: Path, tmp_path: Path):
    assert run(call, "--clips", tmp_path / "own") == 0
    # The second label is too short, and unclear is no emotion.
    (clip,) = read_corpus(tmp_path, "own")
    assert (clip.corpus, clip.speaker, clip.duration_s) == ("own", "own/001_call", 1.0)
    assert clip.emotion == heard(call)
    samples, rate_hz = soundfile.read(clip.path)
    whole, _ = soundfile.read(call)
    assert rate_hz == 16_000
    np.testing.assert_allclose(samples, whole[:16_000, 1], atol=2e-4)


@pytest.mark.parametrize(
    ("arguments", "wrong"),
    [
        (
            ("--tier", "otto"),
            "got no tiers named 'otto', expected one; there are 'anna 1', 'wo",
        ),
        (("--channel", 2), "got labels for channel 2, expected 0 to 1"),
    ],
)
def test_what_cannot_be_meant_is_one_line(
    call: Path, arguments: tuple[object, ...], wrong: str, capsys: Captured
):
    assert run(call, *arguments) == 1
    shown = capsys.readouterr()
    assert shown.out == ""
    assert wrong in shown.err


def test_a_recording_without_labels_leaves_the_others(call: Path, capsys: Captured):
    soundfile.write(call.with_name("bare.wav"), make_audio((16_000, 0.1)), 16_000)
    assert run(call.parent, "--json") == 1
    shown = capsys.readouterr()
    assert len(json.loads(shown.out)["files"]) == 1
    assert "bare.wav: got no files of labels beside it, expected one: bare.TextGrid" in shown.err
