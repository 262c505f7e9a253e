"""``emotion-monitor serve`` as its operator meets it: a process, its output, signals."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from emotion_monitor import main
from tests.requirements import REPOSITORY


def arguments(folder: Path, *more: str) -> list[str]:
    settings = (
        "ser_engine.model.name=compact",
        "ser_engine.model.offline=true",
        f"stream_server.store.url=sqlite:///{folder}/timelines.db",
        "stream_server.listen.host=127.0.0.1",
        "stream_server.telephony.audiosocket.port=0",
        "stream_server.logging.format=json",
        # The default rule asks for more certainty than the built-in model has of a made voice.
        "stream_server.alerts.rules="
        "[{name: shouting, labels: [angry], roles: [customer], threshold: 0.4, hold_s: 1}]",
    )
    # Settings among what is to follow, too.
    assignments = [*settings, *(one for one in more if one.startswith("stream_server."))]
    options = [part for setting in assignments for part in ("--set", setting)]
    rest = [one for one in more if not one.startswith("stream_server.")]
    return [sys.executable, "-m", "emotion_monitor", *options, *rest]


@contextmanager
def running(folder: Path, *more: str) -> Iterator[subprocess.Popen[str]]:
    """Run it; what it says on standard error is in the file ``errors``, each import among it."""
    with (folder / "errors").open("w") as errors:
        process = subprocess.Popen(
            arguments(folder, "serve", "--port", "0", "--http-port", "0", *more),
            cwd=REPOSITORY,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            start_new_session=True,
            env={**os.environ, "PYTHONPROFILEIMPORTTIME": "1"},
        )
    try:
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def addresses(process: subprocess.Popen[str]) -> tuple[str, str]:
    """Read the two addresses, which come when the server is ready."""
    assert process.stdout is not None
    audio, results = process.stdout.readline(), process.stdout.readline()
    found = re.fullmatch(r"audio comes in at +(ws://127\.0\.0\.1:\d+)\n", audio)
    assert found, audio
    feeds = re.fullmatch(r".* at +(http://127\.0\.0\.1:\d+)\n", results)
    assert feeds, results
    return found[1], feeds[1]


def test_a_profile_that_is_none_is_refused(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as ended:
        main(["serve", "--profile", "thrifty"])
    assert ended.value.code == 2
    assert "expected one of live, economy, auto" in " ".join(
        capsys.readouterr().err.replace("│", " ").split()
    )


def test_serves_and_plays_a_call_of_its_own_until_it_is_told_to_stop(tmp_path: Path):
    recorded = ("stream_server.recording.enabled=true", f"stream_server.recording.dir={tmp_path}")
    with running(tmp_path, "--demo", *recorded) as process:
        audio, _ = addresses(process)
        assert process.stdout is not None
        line = next(line for line in process.stdout if "customer" in line)
        assert re.search(r"\d+%|unclear", line)
        client = subprocess.run(
            [
                *(sys.executable, "-m", "emotion_monitor", "stream", "--sample-call", "--json"),
                *("--speed", "max", "--url", audio),
            ],
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert client.returncode == 0, client.stderr
        assert '"type":"summary"' in client.stdout
        # Ctrl-C; SIGTERM is what all other servers of the tests are ended by.
        os.killpg(process.pid, signal.SIGINT)
        process.communicate(timeout=60)
        errors = (tmp_path / "errors").read_text()
        assert process.returncode == 0
        # While a stream runs nothing is imported: that takes a descriptor, which a full server may
        # lack, and time. The first stream is the call that the server itself plays.
        began, ended = errors.rindex('"stream_opened"'), errors.index('"server_stopping"')
        assert "import time:" in errors[:began]
        assert "import time:" not in errors[began:ended]
        assert "Built-in compact model in use" in errors
        events = re.findall(r'"event": ?"(\w+)"', errors)
        assert events.index("server_stopping") < events.index("server_stopped")
        assert "alert_raised" in events
        # What an operator calls a rule is logged; what was heard is not.
        assert not re.search(r'"(label|labels|posterior|role|name|metadata)"', errors)


IN_A_CONTAINER = "unshare --user --map-root-user --pid --fork --mount-proc".split()


@pytest.mark.skipif(
    subprocess.run([*IN_A_CONTAINER, "true"], capture_output=True, check=False).returncode != 0,
    reason="needs process namespaces",
)
def test_as_process_1_a_signal_is_not_lost_before_the_server_has_a_handler(tmp_path: Path):
    # It sends itself the signal where most of a start is spent: in the imports.
    script = "import emotion_monitor, os, time; os.kill(1, 15); time.sleep(60)"
    result = subprocess.run(
        [*IN_A_CONTAINER, sys.executable, "-c", script], cwd=REPOSITORY, check=False, timeout=60
    )
    assert result.returncode == 128 + signal.SIGTERM


def check_one_line(output: str, errors: str, message: str) -> None:
    assert output == ""
    told = [line for line in errors.splitlines() if line.startswith("emotion-monitor:")]
    assert len(told) == 1
    assert message in told[0]
    assert "Traceback" not in errors


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["serve", "--host", "0.0.0.0"], "without a token or a person who may log in and without"),
        (["serve", "--port", "99999"], "expected 0 to 65535"),
        (["stream_server.store.url=nonsense", "serve"], "store.url"),
    ],
)
def test_a_wrong_setting_is_said_in_one_line(
    tmp_path: Path, more: list[str], message: str, capsys: pytest.CaptureFixture[str]
):
    with pytest.raises(SystemExit) as caught:
        main(arguments(tmp_path, *more)[3:])
    assert caught.value.code == 2
    check_one_line(*capsys.readouterr(), message)


def test_a_start_that_fails_is_said_in_one_line(tmp_path: Path):
    more = ("--set", "ser_engine.model.name=/nowhere", "serve", "--port", "0", "--http-port", "0")
    result = subprocess.run(
        arguments(tmp_path, *more), cwd=REPOSITORY, capture_output=True, text=True, timeout=120
    )
    assert result.returncode == 1, result.stderr
    check_one_line(result.stdout, result.stderr, "/nowhere")
