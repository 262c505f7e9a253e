from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
import pytest
import soundfile

from emotion_monitor import main
from emotion_monitor.commands import options as engine_module
from ser_engine.config import EngineConfig
from ser_engine.errors import CheckpointError
from ser_engine.files import job
from ser_engine.schema import FileResult
from ser_engine.types import FloatArray
from tests.ser_engine.timeline.streams import make_audio
from tests.support.fake_engine import FakeEngine

Captured = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def configs(monkeypatch: pytest.MonkeyPatch) -> list[EngineConfig]:
    """The configurations that a fake engine was built from."""
    seen: list[EngineConfig] = []

    def build(config: EngineConfig) -> FakeEngine:
        seen.append(config)
        return FakeEngine()

    monkeypatch.setattr(engine_module, "build_engine", build)
    # It takes noise for speech.
    monkeypatch.setenv("EMOTION_MONITOR__SER_ENGINE__VAD__DETECTOR", "webrtc")
    return seen


@pytest.fixture
def angry(tmp_path: Path) -> Path:
    soundfile.write(tmp_path / "angry.wav", make_audio((16_000, 0.1)), 16_000)
    return tmp_path / "angry.wav"


@pytest.fixture
def stereo(tmp_path: Path) -> Path:
    channels = [make_audio((16_000, 0.1)), make_audio((16_000, 0.2))]
    soundfile.write(tmp_path / "stereo.wav", np.stack(channels, axis=1), 16_000)
    return tmp_path / "stereo.wav"


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as caught:
        main(["analyze", *map(str, arguments)])
    return int(caught.value.code or 0)


def test_an_utterance_as_json(angry: Path, capsys: Captured):
    assert run(angry, "--json") == 0
    captured = capsys.readouterr()
    document = json.loads(captured.out)
    assert list(document) == ["emotion", "confidence", "granularity"]
    assert (document["emotion"], document["granularity"]) == ("angry", "utterance")
    assert captured.err.splitlines() == [
        "emotion-monitor: model: fake (none)",
        "emotion-monitor: A fake model.",
    ]


@pytest.fixture
def one_voice(monkeypatch: pytest.MonkeyPatch) -> None:
    """A speaker model to which everybody sounds alike."""

    class OneVoice:
        name = "one voice"

        def embed(self, pieces: Sequence[FloatArray]) -> list[FloatArray]:
            return [np.ones(1, np.float32) for _ in pieces]

    monkeypatch.setattr(job, "embedder_for", lambda config: OneVoice())


@pytest.mark.parametrize("granularity", ["utterance", "frame", "stream"])
def test_speakers_are_shown(tmp_path: Path, granularity: str, one_voice: None, capsys: Captured):
    soundfile.write(tmp_path / "talk.wav", make_audio((48_000, 0.1)), 16_000)
    assert run(tmp_path / "talk.wav", "--speakers", "--granularity", granularity) == 0
    assert "speaker 1" in capsys.readouterr().out
    assert run(tmp_path / "talk.wav", "--speakers", "--json", "--granularity", granularity) == 0
    (channel,) = json.loads(capsys.readouterr().out)["channels"]
    assert [speaker["name"] for speaker in channel["speakers"]] == ["speaker 1"]


def test_frames_as_json(angry: Path, capsys: Captured):
    assert run(angry, "--json", "--granularity", "frame", "--scores") == 0
    frames = json.loads(capsys.readouterr().out)
    assert [frame["time"] for frame in frames[:3]] == [0.0, 0.02, 0.04]
    assert len(frames) == 49
    assert list(frames[0]) == ["time", "emotion", "score", "scores"]


def test_frames_every_10_ms(angry: Path, capsys: Captured):
    setting = "ser_engine.timeline.frame_hop_ms=10"
    assert run(angry, "--json", "-g", "frame", "--set", setting) == 0
    frames = json.loads(capsys.readouterr().out)
    assert [frame["time"] for frame in frames[:3]] == [0.0, 0.01, 0.02]


def test_a_stream_as_json(angry: Path, capsys: Captured):
    assert run(angry, "--json", "-g", "stream", "--set", "ser_engine.vad.detector=off") == 0
    document = json.loads(capsys.readouterr().out)
    (channel,) = msgspec.convert(document, FileResult).channels
    assert [segment.label for segment in channel.segments] == ["angry"]


@pytest.mark.parametrize("granularity", ["utterance", "frame"])
def test_everything_as_json(granularity: str, angry: Path, stereo: Path, capsys: Captured):
    assert run(stereo, "--details", "-g", granularity) == 0
    document = msgspec.json.decode(capsys.readouterr().out, type=FileResult)
    assert [channel.channel for channel in document.channels] == [0, 1]
    assert run(angry, stereo, "--json", "--details", "-g", granularity) == 0
    both = msgspec.json.decode(capsys.readouterr().out, type=list[FileResult])
    assert [Path(each.name).name for each in both] == ["angry.wav", "stereo.wav"]
    assert both[1] == document


@pytest.mark.parametrize("granularity", ["utterance", "frame"])
def test_channels_and_files_are_told_apart(
    granularity: str, angry: Path, stereo: Path, capsys: Captured
):
    assert run(angry, stereo, "--json", "-g", granularity) == 0
    entries = json.loads(capsys.readouterr().out)
    names = [(Path(entry["name"]).name, entry["channel"]) for entry in entries]
    assert names == [("angry.wav", 0), ("stereo.wav", 0), ("stereo.wav", 1)]
    assert {entry["granularity"] for entry in entries} == {granularity}


def test_a_bad_file_is_one_line_and_the_others_are_analysed(
    angry: Path, tmp_path: Path, capsys: Captured
):
    text, missing = tmp_path / "text.wav", tmp_path / "missing.wav"
    text.write_text("no audio")
    assert run(text, angry, missing, "--json") == 1
    captured = capsys.readouterr()
    (entry,) = json.loads(captured.out)
    assert entry["emotion"] == "angry"
    complaints = [line for line in captured.err.splitlines() if str(tmp_path) in line]
    assert len(complaints) == 2
    assert complaints[0].startswith(f"emotion-monitor: {text}: ")
    assert complaints[1] == f"emotion-monitor: {missing}: there is no such file"


def test_a_single_bad_file_prints_no_json(tmp_path: Path, capsys: Captured):
    assert run(tmp_path / "missing.wav", "--json") == 1
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("granularity", "shown"),
    [
        ("utterance", ["angry.wav", "stereo.wav, channel 1", "angry", "happy", "%"]),
        ("frame", ["angry.wav", "stereo.wav, channel 1", "49 frames of 20 ms", "0:00.98"]),
        ("stream", ["angry.wav", "stereo.wav, channel 1", "3 points", "0:01.00"]),
    ],
)
def test_tables(
    granularity: str,
    shown: list[str],
    angry: Path,
    stereo: Path,
    capsys: Captured,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setenv("COLUMNS", "200")
    setting = "ser_engine.vad.detector=off"
    assert run(angry, stereo, "-g", granularity, "--scores", "--set", setting) == 0
    printed = capsys.readouterr().out
    for text in shown:
        assert text in printed


def test_gaps_are_shown(tmp_path: Path, capsys: Captured):
    soundfile.write(tmp_path / "a.wav", np.zeros(16_000), 16_000)
    assert run(tmp_path / "a.wav", "-g", "stream") == 0
    assert "silence" in capsys.readouterr().out


def test_silence_is_pointed_out(tmp_path: Path, capsys: Captured):
    soundfile.write(tmp_path / "a.wav", np.zeros(16_000), 16_000)
    assert run(tmp_path / "a.wav", "--json") == 0
    captured = capsys.readouterr()
    assert "silent: silence: the level is -120 dBFS" in captured.err
    json.loads(captured.out)


def test_the_model_can_be_named(angry: Path, configs: list[EngineConfig], tmp_path: Path):
    assert run(angry, "--json", "--model", tmp_path, "--set", "ser_engine.model.offline=true") == 0
    assert configs[0].model.name == str(tmp_path)
    assert configs[0].model.offline


def test_progress_tells_the_name_as_it_is_and_a_share(
    angry: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    told: list[str] = []
    monkeypatch.setattr("rich.status.Status.update", lambda self, text: told.append(str(text)))
    path = tmp_path / "a[bold].wav"
    path.write_bytes(angry.read_bytes())
    assert run(path, "--no-cache") == 0
    assert "analysing a[bold].wav: 100%" in told


def test_embeddings_of_an_utterance(angry: Path, tmp_path: Path):
    assert run(angry, "--json", "--embeddings", tmp_path / "out.npy") == 0
    assert np.load(tmp_path / "out.npy").shape == (2,)


def test_embeddings_of_frames_and_channels(stereo: Path, tmp_path: Path):
    assert run(stereo, "--json", "-g", "frame", "--embeddings", tmp_path / "out.npy") == 0
    assert np.load(tmp_path / "out.npy").shape == (2, 49, 2)


def test_embeddings_that_cannot_be_written(angry: Path, tmp_path: Path, capsys: Captured):
    assert run(angry, "--json", "--embeddings", tmp_path / "no" / "out.npy") == 1
    captured = capsys.readouterr()
    assert "cannot be written" in captured.err
    assert json.loads(captured.out)["emotion"] == "angry"


def test_a_stream_has_no_embeddings(angry: Path, tmp_path: Path, capsys: Captured):
    assert run(angry, "-g", "stream", "--embeddings", tmp_path / "out.npy") == 2
    assert "a stream has no embeddings" in capsys.readouterr().err


def test_wrong_settings_are_status_2(angry: Path):
    assert run(angry, "--set", "ser_engine.timeline.step_ms=0") == 2


def test_a_model_that_cannot_be_had_is_status_1(
    angry: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
):
    def fail(config: EngineConfig) -> FakeEngine:
        raise CheckpointError("there is no model")

    monkeypatch.setattr(engine_module, "build_engine", fail)
    assert run(angry) == 1
    assert capsys.readouterr().err == "emotion-monitor: there is no model\n"
