from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml

from emotion_monitor import app as app_module
from emotion_monitor import main
from ser_engine.errors import AudioError
from tests.requirements import REPOSITORY


def run(*arguments: str) -> int:
    """Run the command line in this process and return its exit status."""
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    return int(caught.value.code or 0)


def test_version(capsys: pytest.CaptureFixture[str]):
    assert run("--version") == 0
    assert capsys.readouterr().out == f"emotion-monitor {version('emotion-monitor')}\n"


def test_help_lists_the_commands(capsys: pytest.CaptureFixture[str]):
    assert run("--help") == 0
    assert " config " in capsys.readouterr().out


def test_torch_is_not_imported_before_it_is_needed():
    """One process runs all commands: what the first imports the others have, too."""
    code = (
        "import sys\n"
        "from emotion_monitor import main\n"
        "for arguments in (['--help'], ['config', '--help'], ['config']):\n"
        "    try:\n"
        "        main(arguments)\n"
        "    except SystemExit as ended:\n"
        "        print(*arguments, ended.code or 0, 'torch' in sys.modules, file=sys.stderr)\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60
    )
    said = ["--help 0 False", "config --help 0 False", "config 0 False"]
    assert result.stderr.splitlines() == said


def test_config_prints_what_is_in_effect(capsys: pytest.CaptureFixture[str]):
    assert run("--set", "ser_engine.timeline.window_ms=3000", "config") == 0
    printed = yaml.safe_load(capsys.readouterr().out)
    assert printed["ser_engine"]["timeline"]["window_ms"] == 3000


def test_config_shows_no_secrets(capsys: pytest.CaptureFixture[str]):
    # In Base64 "hidden" is aGlkZGVu.
    secrets = {
        "access.tokens": "{pbx: hidden-0123456789}",
        "telephony.twilio_auth_token": "hidden",
        "telephony.plivo_auth_token": "hidden",
        "telephony.vonage_signature_secret": "hidden",
        "telephony.audiohook.keys": "{genesys: aGlkZGVu}",
        "feeds.mqtt_url": "mqtt://user:hidden@broker:1883",
        "store.url": "postgresql+psycopg://user:hidden@db/timelines",
    }
    values = [f"stream_server.{name}={value}" for name, value in secrets.items()]
    assert run(*(word for value in values for word in ("--set", value)), "config") == 0
    printed = capsys.readouterr().out
    assert "hidden" not in printed and "aGlkZGVu" not in printed
    groups = yaml.safe_load(printed)["stream_server"]
    assert groups["access"]["tokens"] == {"pbx": "•••"}
    assert groups["telephony"]["audiohook"]["keys"] == {"genesys": "•••"}


@pytest.mark.parametrize(
    "arguments",
    [
        ["--config", "FILE", "--set=ser_engine.timeline.step_ms=300", "config"],
        ["config", "--config=FILE", "--set", "ser_engine.timeline.step_ms=300"],
    ],
)
def test_settings_stand_before_or_after_the_command(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    file = tmp_path / "mine.yaml"
    file.write_text("ser_engine: {timeline: {window_ms: 2000, step_ms: 400}}")
    assert run(*(word.replace("FILE", str(file)) for word in arguments)) == 0
    timeline = yaml.safe_load(capsys.readouterr().out)["ser_engine"]["timeline"]
    assert (timeline["window_ms"], timeline["step_ms"]) == (2000, 300)


def test_an_option_without_its_value_is_refused(capsys: pytest.CaptureFixture[str]):
    assert run("config", "--set") == 2
    assert "--set" in capsys.readouterr().err


def test_analyse_is_analyze(capsys: pytest.CaptureFixture[str]):
    assert run("analyse", "--granularity", "word") == 2
    assert "utterance" in capsys.readouterr().err


def no_home(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", fail)
    monkeypatch.setenv("HOME", "")


def test_a_user_without_a_home_gets_a_folder_of_their_own(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    no_home(monkeypatch)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert run("config") == 0
    (folder,) = tmp_path.iterdir()
    assert os.environ["HOME"] == str(folder)
    assert folder.stat().st_mode & 0o777 == 0o700
    # One that others may write to is not believed: models are read from it.
    folder.chmod(0o777)
    assert run("config") == 0
    assert os.environ["HOME"] != str(folder)
    assert capsys.readouterr().err == ""


def test_a_user_without_a_home_or_a_temporary_folder_gets_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    no_home(monkeypatch)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "none"))
    assert run("config") == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("set HOME to a folder")


def test_config_check_says_that_all_is_well(capsys: pytest.CaptureFixture[str]):
    assert run("config", "--check") == 0
    assert capsys.readouterr().out == "the settings are valid\n"


def test_a_wrong_setting_is_one_line_and_status_2(capsys: pytest.CaptureFixture[str]):
    assert run("--set", "ser_engine.timeline.window_ms=x", "config", "--check") == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == (
        "emotion-monitor: --set ser_engine.timeline.window_ms: got 'x', expected a valid integer\n"
    )


def test_an_error_of_the_engine_is_one_line_and_status_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    def fail(**_: object) -> None:
        raise AudioError("got an empty file, expected speech")

    monkeypatch.setattr(app_module, "app", fail)
    assert run("anything") == 1
    assert capsys.readouterr().err == "emotion-monitor: got an empty file, expected speech\n"


def test_an_unknown_command_is_status_2():
    assert run("no-such-command") == 2


def test_an_installation_of_the_client_says_what_is_missing():
    code = (
        "import sys\n"
        "for name in ('torch', 'structlog', 'aiohttp', 'sqlalchemy', 'safetensors'):\n"
        "    sys.modules[name] = None\n"
        "from emotion_monitor import main\n"
        "for arguments in (['serve'], ['analyze', 'x.wav'], ['models', 'list']):\n"
        "    try:\n"
        "        main(arguments)\n"
        "    except SystemExit as ended:\n"
        "        print(*arguments, ended.code, file=sys.stderr)\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, timeout=60
    )
    assert result.stdout == ""
    said = result.stderr.splitlines()
    assert said[1::2] == ["serve 1", "analyze x.wav 1", "models list 1"], result.stderr
    for line in said[::2]:
        assert line.endswith("pip install 'emotion-monitor[server]'")
