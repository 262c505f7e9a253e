"""The programs of the Python page and the tutorials run; the table of messages is whole."""

from __future__ import annotations

import csv
import io
import re
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import soundfile

import mic_client
from emotion_monitor import in_process
from mic_client import ArraySource
from ser_engine.config import EngineConfig
from ser_engine.core import factory
from ser_engine.files import run as one_call
from stream_server.wire.messages import ServerMessage
from tests.requirements import REPOSITORY
from tests.support.fake_engine import FakeEngine, LevelDetector
from tests.support.protocol_lab import ready
from tests.support.results import make_alert, make_point

PAGE = (REPOSITORY / "docs/reference/python.md").read_text("utf-8")
MICROPHONE = (REPOSITORY / "docs/tutorials/microphone-in-python.md").read_text("utf-8")
README = (REPOSITORY / "README.md").read_text("utf-8")
ACCURACY = (REPOSITORY / "docs/how-to/accuracy.md").read_text("utf-8")
HUME = (REPOSITORY / "docs/how-to/from-hume.md").read_text("utf-8")
GUIDE = (REPOSITORY / "docs/how-to/microphone.md").read_text("utf-8")


def program(page: str, wanted: str) -> str:
    """Return the one Python block of a page that holds some text."""
    (found,) = [
        block for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if wanted in block
    ]
    return str(found)


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A recording of three seconds as call.wav in the current folder."""
    monkeypatch.chdir(tmp_path)
    tone = 0.1 * np.sin(np.arange(48_000) * 0.05)
    soundfile.write("call.wav", tone.astype(np.float32), 16_000)
    return tmp_path / "call.wav"


@pytest.mark.parametrize("page", [PAGE, MICROPHONE], ids=["python", "tutorial"])
def test_a_microphone_is_printed_live(
    page: str, call: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    def recorded() -> ArraySource:
        return ArraySource(np.full(80_000, 0.1, np.float32), 16_000, speed=float("inf"))

    monkeypatch.setattr(mic_client, "MicrophoneSource", recorded)
    monkeypatch.setattr(in_process, "open_engine", lambda config: FakeEngine())
    monkeypatch.setattr(in_process, "EngineConfig", _everything_is_speech)
    exec(program(page, "live_emotions"), {})
    lines = capsys.readouterr().out.splitlines()
    assert lines
    assert all(re.fullmatch(r"\w+ \d+%", line) for line in lines)


def _everything_is_speech() -> EngineConfig:
    from ser_engine.config import VadConfig

    return EngineConfig(vad=VadConfig(detector="off"))


@pytest.fixture
def always_angry(monkeypatch: pytest.MonkeyPatch) -> None:
    """``analyze`` with an engine that hears anger in everything."""
    monkeypatch.setattr(factory, "build_engine", lambda config: FakeEngine())
    monkeypatch.setattr(one_call, "_engines", type(one_call._engines)())
    monkeypatch.setattr("ser_engine.files.job.make_detector", lambda config: LevelDetector())


def test_recalls_are_counted(call: Path, always_angry: None, capsys: pytest.CaptureFixture[str]):
    (example,) = re.findall(r"```text\n(.*?)```", ACCURACY, re.DOTALL)
    Path("clips").mkdir()
    for row in csv.DictReader(io.StringIO(example)):
        shutil.copy(call, row["file"])
    Path("labels.csv").write_text(example, encoding="utf-8")
    exec(program(ACCURACY, "labels.csv"), {})
    assert capsys.readouterr().out == (
        "angry      n=1    recall 1.00 {'angry': 1}\n"
        "neutral    n=1    recall 0.00 {'angry': 1}\n"
        "unweighted average recall 0.50, chance 0.50\n"
    )


def test_results_get_the_shape_of_another_api(call: Path, always_angry: None):
    names: dict[str, Any] = {}
    exec(program(HUME, "def prosody"), names)
    (group,) = names["prosody"]("call.wav")
    first = group["predictions"][0]
    assert 0 <= first["time"]["begin"] < first["time"]["end"] <= 3
    assert {"name": "Angry", "score": max(each["score"] for each in first["emotions"])} in (
        first["emotions"]
    )


def test_the_results_of_a_server_are_printed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    async def feed(url: str, types: list[str]) -> AsyncIterator[Any]:
        assert (url, types) == ("ws://localhost:7860/feed", ["alert"])
        yield make_alert()

    monkeypatch.setattr(mic_client, "emotion_feed", feed)
    exec(program(PAGE, "emotion_feed"), {})
    alert = make_alert()
    assert capsys.readouterr().out == f"{alert.stream_id} {alert.rule} {alert.state}\n"


class Client:
    """Stands for ``StreamClient``: two messages come of any source."""

    summary = None

    def __init__(self, source: Any, url: str = "", options: Any = None) -> None:
        self.source, self.url, self.options = source, url, options
        made.append(self)

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.source.aclose()

    async def __aiter__(self) -> AsyncIterator[Any]:
        yield ready()
        yield make_point(angry=0.9)


made: list[Client] = []


def test_a_file_is_streamed(
    call: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(mic_client, "StreamClient", Client)
    exec(program(PAGE, "StreamClient"), {})
    client = made.pop()
    assert (client.url, client.options.name) == ("ws://localhost:8765", "call 17")
    assert client.source.duration_s == 3
    assert capsys.readouterr().out == f"{ready()}\n{make_point(angry=0.9)}\n"


@pytest.mark.parametrize(
    ("page", "printed"),
    [(README, "angry 0.9\n"), (GUIDE, "0.5 s: angry 90%\nNone\n")],
    ids=["readme", "guide"],
)
def test_what_a_microphone_hears_is_printed(
    page: str, printed: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(mic_client, "StreamClient", Client)
    monkeypatch.setattr(
        mic_client,
        "MicrophoneSource",
        lambda device=None: ArraySource(np.zeros(160, np.float32), 16_000),
    )
    exec(program(page, "MicrophoneSource"), {})
    assert capsys.readouterr().out == printed


def test_the_readme_analyses_a_recording(
    call: Path, always_angry: None, capsys: pytest.CaptureFixture[str]
):
    exec(program(README, "import analyze"), {})
    assert re.fullmatch(r"angry 0\.\d+\n", capsys.readouterr().out)


def test_the_table_has_every_message_and_fields_that_they_have():
    types = {kind.__struct_config__.tag: kind for kind in get_args(ServerMessage)}
    rows = re.findall(r"^\| (`\w+`(?:, `\w+`)*) \| [^|]+ \| ([^|]+) \|$", PAGE, re.MULTILINE)
    shown = {
        name: re.findall(r"`(\w+)`", fields)
        for names, fields in rows
        for name in re.findall(r"`(\w+)`", names)
    }
    # Those two come in feeds, and the text under the table says so.
    assert set(shown) == set(types) - {"stream_opened", "stream_closed"}
    lacking = {
        f"{name}.{field}"
        for name, fields in shown.items()
        for field in fields
        if field not in types[name].__struct_fields__ and not hasattr(types[name], field)
    }
    assert lacking == set()


def blocks(page: str) -> list[tuple[str, str]]:
    """Return language and text of the fenced blocks, without comments and what is printed."""
    found = re.findall(r"```(\w+)\n(.*?)```", page, re.DOTALL)
    return [(language, re.sub(r" *# .*", "", text)) for language, text in found]


@pytest.mark.parametrize(
    "name",
    ["first-emotion", "microphone-in-python", "recordings-as-a-table", "call-with-an-alert"],
)
def test_the_chinese_tutorial_shows_the_same_programs(name: str):
    docs = REPOSITORY / "docs"
    english, chinese = (
        blocks((docs / folder / f"{name}.md").read_text("utf-8")) for folder in ("tutorials", "zh")
    )
    assert english == chinese
