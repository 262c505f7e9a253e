from __future__ import annotations

import asyncio
import io
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from emotion_monitor import main
from emotion_monitor.commands.stream import EncodingName
from emotion_monitor.commands.stream_view import JsonOutput
from mic_client import devices
from stream_server.wire.audio_format import ENCODINGS
from stream_server.wire.codecs import CODED
from stream_server.wire.results import Marked
from tests.requirements import REPOSITORY
from tests.support.fake_sounddevice import FakeSounddevice, device
from tests.support.fake_stream_server import FakeStreamServer, Refusal
from tests.support.live_lab import level, live_lab

_WITHOUT_TORCH = """
import sys
sys.modules["torch"] = None
from emotion_monitor import main
main(sys.argv[1:])
"""


@pytest.fixture
def recording(tmp_path: Path, rng: np.random.Generator) -> Path:
    samples = rng.uniform(-0.5, 0.5, (16_000 * 3, 2)).astype(np.float32)
    soundfile.write(tmp_path / "call.wav", samples, 16_000, subtype="PCM_16")
    return tmp_path / "call.wav"


@asynccontextmanager
async def command(*arguments: object, **kwargs: Any) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run ``emotion-monitor stream`` on a machine without torch."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", _WITHOUT_TORCH, "stream", *map(str, arguments)),
        cwd=REPOSITORY,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        **kwargs,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def run(*arguments: object, data: bytes = b"") -> tuple[int, str, str]:
    """Return exit status, output and errors."""
    async with command(*arguments, stdin=asyncio.subprocess.PIPE) as process:
        output, errors = await process.communicate(data)
        assert process.returncode is not None
        return process.returncode, output.decode(), errors.decode()


async def test_a_file_as_json(recording: Path):
    async with FakeStreamServer().running() as server:
        status, output, errors = await run(
            *("--url", server.url, "--file", recording, "--speed", "max", "--json"),
            *("--roles", "customer,agent", "--name", "call", "--meta", "queue=7"),
            *("--wants", "points,alerts", "--token", "a secret of more than 16"),
        )
    assert (status, errors) == (0, "")
    messages = [json.loads(line) for line in output.splitlines()]
    assert messages[0]["type"] == "ready"
    assert messages[-1]["type"] == "summary"
    assert [each["start_s"] for each in messages if each["type"] == "point"] == [0, 1, 2]
    (stream,) = server.streams
    expected, _ = soundfile.read(recording, dtype="int16")
    assert bytes(stream.audio) == expected.tobytes()
    assert [each.role for each in stream.spec.channels] == ["customer", "agent"]
    assert (stream.spec.name, stream.spec.metadata) == ("call", {"queue": "7"})
    assert stream.spec.wants == {"points", "alerts"}
    assert not stream.spec.live
    assert server.headers[0]["Authorization"] == "Bearer a secret of more than 16"


async def test_lines_where_there_is_no_terminal():
    async with FakeStreamServer(drop_after=[160_000]).running() as server:
        status, output, errors = await run("--url", server.url, "--sample-call", "--speed", "max")
    assert status == 0
    lines = output.splitlines()
    assert lines[0] == " 0:00.00  0:01.00  customer  happy      70%"
    assert lines[-1] == " 0:42.00  end of stream: stopped, 0 alerts"
    assert len(lines) == 43
    assert errors.splitlines()[0] == "emotion-monitor: model: fake; A fake model."
    assert "emotion-monitor: the connection was lost; trying again in 0." in errors
    assert "emotion-monitor: connected again, the stream goes on" in errors


async def test_a_pipe():
    async with FakeStreamServer().running() as server:
        status, output, _ = await run(
            *("--url", server.url, "--stdin", "--encoding", "mulaw", "--rate", "8000"),
            *("--channels", "2", "--roles", "agent,driver", "--live"),
            data=bytes(range(256)) * 125,
        )
    assert status == 0
    (stream,) = server.streams
    assert bytes(stream.audio) == bytes(range(256)) * 125
    assert stream.spec.format.encoding == "mulaw"
    assert stream.spec.live
    assert "driver" in output


@pytest.mark.needs("av")
async def test_a_pipe_of_encoded_audio_is_decoded_by_the_server():
    flac = io.BytesIO()
    soundfile.write(flac, np.stack([level(3, 0.3), level(3, 0.1)], axis=1), 16_000, format="FLAC")
    arguments = ("--stdin", "--encoding", "auto", "--roles", "customer,driver", "--json")
    async with live_lab() as lab:
        status, output, errors = await run(
            *("--url", lab.url, "--channels", "2"), *arguments, data=flac.getvalue()
        )
        assert (status, errors) == (0, "")
        messages = [json.loads(line) for line in output.splitlines()]
        assert messages[-1]["type"] == "summary"
        assert messages[-1]["received_samples"] == 3 * 16_000
        labels = {(each["channel"], each["label"]) for each in messages if each["type"] == "point"}
        assert labels == {(0, "neutral"), (1, "angry")}
        # Channels that the audio does not have are an error, in the server's words.
        status, _, errors = await run(
            *("--url", lab.url, "--channels", "2"), *arguments[:2], "mp3", data=flac.getvalue()
        )
    assert status == 1
    assert "got FLAC, expected MP3 as encoding 'mp3' says" in errors


def test_every_encoding_of_the_server_has_a_name():
    assert {*EncodingName} >= {*ENCODINGS, *CODED}


async def test_ctrl_c_ends_the_stream_in_good_order(recording: Path):
    async with FakeStreamServer().running() as server:
        async with command(
            "--url", server.url, "--file", recording, "--loop", "--json", "--speed", "20"
        ) as process:
            assert process.stdout is not None
            await process.stdout.readline()
            process.send_signal(signal.SIGINT)
            output, errors = await process.communicate()
    assert process.returncode == 0
    assert json.loads(output.splitlines()[-1])["type"] == "summary"
    assert b"Ctrl-C again stops at once" in errors
    assert server.streams[0].is_stopped


async def test_ctrl_c_twice_does_not_wait(recording: Path):
    async with FakeStreamServer(stay_silent=frozenset({"summary"})).running() as server:
        async with command("--url", server.url, "--file", recording, "--json") as process:
            assert process.stdout is not None
            assert process.stderr is not None
            await process.stdout.readline()
            process.send_signal(signal.SIGINT)
            await process.stderr.readline()
            process.send_signal(signal.SIGINT)
            _, errors = await process.communicate()
    assert process.returncode == 1
    assert b"Traceback" not in errors


async def test_a_refusal_is_one_line(recording: Path):
    body = {"code": "unauthorized", "message": "got no token", "remedy": "Send a token."}
    refusal = Refusal(HTTPStatus.UNAUTHORIZED, body)
    async with FakeStreamServer(refusals=[refusal]).running() as server:
        status, output, errors = await run("--url", server.url, "--file", recording)
    assert (status, output) == (1, "")
    assert errors == "emotion-monitor: got no token. Send a token.\n"


async def test_a_reader_that_leaves_is_no_traceback(recording: Path):
    async with FakeStreamServer().running() as server:
        async with command(
            "--url", server.url, "--file", recording, "--loop", "--json", "--speed", "20"
        ) as process:
            assert process.stdout is not None
            await process.stdout.readline()
            process.stdout._transport.close()  # type: ignore[attr-defined]
            await process.wait()
            assert process.stderr is not None
            assert await process.stderr.read() == b""
    assert process.returncode == 1


def test_json_is_utf_8_whatever_the_locale_says(monkeypatch: pytest.MonkeyPatch):
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="latin-1"))
    JsonOutput().say(Marked(stream_id="s", seq=1, name="出口", at_sample=0, at_s=0.0))
    assert json.loads(written.getvalue().decode())["name"] == "出口"


async def test_a_full_disk_is_one_line(recording: Path):
    async with FakeStreamServer().running() as server:
        arguments = ("--url", server.url, "--file", recording, "--json", "--speed", "max")
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", _WITHOUT_TORCH, "stream", *map(str, arguments)),
            cwd=REPOSITORY,
            stdout=os.open("/dev/full", os.O_WRONLY),
            stderr=asyncio.subprocess.PIPE,
        )
        _, errors = await process.communicate()
    assert process.returncode == 1
    assert errors == b"emotion-monitor: cannot write the results: No space left on device\n"


async def test_without_an_output_it_streams_all_the_same(recording: Path):
    async with FakeStreamServer().running() as server:
        process = await asyncio.create_subprocess_shell(
            f"{sys.executable} -m emotion_monitor stream --url {server.url} --file {recording}"
            " --speed max >&-",
            cwd=REPOSITORY,
            stderr=asyncio.subprocess.PIPE,
        )
        _, errors = await process.communicate()
    assert process.returncode == 0
    assert b"Traceback" not in errors


def run_here(*arguments: object) -> int:
    with pytest.raises(SystemExit) as caught:
        main(["stream", *map(str, arguments)])
    return int(caught.value.code or 0)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ([], "got no source, expected one of --mic"),
        (["--mic", "--stdin"], "got --mic and --stdin, expected one of"),
        (["--sample-call", "--speed", "fast"], "got 'fast', expected a number above 0, or max"),
        (["--sample-call", "--wants", "tea"], "got 'tea', expected some of points"),
        (["--sample-call", "--meta", "x"], "got 'x', expected KEY=VALUE"),
        (["--sample-call", "--roles", "driver"], "got 1 roles, expected 2"),
        (["--sample-call", "--url", "http://x"], "invalid URL 'http://x'; it must be ws://"),
    ],
)
def test_wrong_arguments(arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str]):
    assert run_here(*arguments) == 2
    errors = " ".join(capsys.readouterr().err.replace("│", " ").split())
    assert complaint in errors


def test_a_missing_file_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert run_here("--file", tmp_path / "no.wav") == 1
    expected = f"emotion-monitor: {tmp_path / 'no.wav'}: there is no such file\n"
    assert capsys.readouterr().err == expected


def test_devices_are_listed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    fake = FakeSounddevice(devices=[device("Headset")])
    monkeypatch.setattr(devices, "load_sounddevice", lambda: fake)
    assert run_here("--list-devices") == 0
    assert capsys.readouterr().out == "*   0  Headset (ALSA, 1 in, 48000 Hz)\n"
    assert run_here("--mic", "--device", "7") == 1
    assert "there is no input device '7'; there are:" in capsys.readouterr().err
