"""What docs/how-to/files-cli.md names is there."""

from __future__ import annotations

import re
import shlex
from dataclasses import fields
from pathlib import Path

import pytest
import soundfile
import typer

from emotion_monitor import main
from emotion_monitor.app import app
from emotion_monitor.commands import options as engine_module
from ser_engine.config import OfflineConfig
from ser_engine.files.folders import write_result_folder
from tests.requirements import REPOSITORY
from tests.ser_engine.timeline.streams import make_audio
from tests.support.fake_engine import FakeEngine

PAGE = (REPOSITORY / "docs" / "how-to" / "files-cli.md").read_text(encoding="utf-8")


def options_of(name: str) -> set[str]:
    commands = getattr(typer.main.get_command(app), "commands", {})
    groups = getattr(commands[name], "commands", {"": commands[name]})
    parameters = [parameter for each in groups.values() for parameter in each.params]
    return {option for each in parameters for option in each.opts if option.startswith("-")}


def test_every_option_in_a_command_exists():
    commands = re.findall(r"^emotion-monitor (\S+)(.*?)(?:  +.*)?$", PAGE, re.MULTILINE)
    assert len(commands) >= 11
    for name, rest in commands:
        used = {word for word in shlex.split(rest) if word.startswith("-")}
        assert used <= options_of(name), name


def test_the_table_tells_of_every_option_of_analyze():
    told = set(re.findall(r"--?[a-z-]+", "\n".join(re.findall(r"^\| `.*", PAGE, re.MULTILINE))))
    assert options_of("analyze") - {"--help"} == told


def test_every_setting_is_one():
    names = {each.name for each in fields(OfflineConfig)}
    assert set(re.findall(r"`(cache_\w+)", PAGE)) <= names
    for name in ("cache_dir", "cache_mb", "cache_days"):
        assert f"`{name}" in PAGE or f".{name}`" in PAGE
    assert f"({OfflineConfig().cache_mb} MiB" in PAGE
    assert f"({OfflineConfig().cache_days:.0f} days" in PAGE


def test_the_files_of_a_dated_folder_are_those_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(engine_module, "build_engine", lambda config: FakeEngine())
    soundfile.write(tmp_path / "a.wav", make_audio((8_000, 0.1)), 16_000)
    with pytest.raises(SystemExit):
        main(["analyze", str(tmp_path / "a.wav"), "--dated", "--out", str(tmp_path / "out")])
    folder = Path(capsys.readouterr().out.strip())
    shown = re.search(r"outputs_\d{8}_\d{6}/\n(.*?)```", PAGE, re.DOTALL)
    assert shown
    names = {line.split()[0] for line in shown.group(1).splitlines()}
    assert names == {path.name for path in folder.iterdir()}
    assert write_result_folder.__name__ in PAGE
