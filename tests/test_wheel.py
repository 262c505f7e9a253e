"""A wheel holds the five packages and the defaults, and works without the checkout."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest
import yaml

from emotion_monitor.settings import Settings
from tests.requirements import REPOSITORY

PACKAGES = ("ser_engine", "stream_server", "mic_client", "dashboard", "emotion_monitor")

NOT_OF_A_CLIENT = (
    *("torch.*", "sqlalchemy.*", "aiohttp.*", "alembic.*", "plotly.*", "cryptography.*"),
    *("joserfc.*", "onnx.*", "onnxscript.*", "openvino.*", "av.*", "werkzeug.*", "matplotlib.*"),
)

CLIENT_PROGRAM = """
import asyncio

import numpy as np

from mic_client import ArraySource, StreamClient, StreamOptions, emotion_feed, load_sample_call
from mic_client.errors import ClientError


async def main() -> None:
    source = ArraySource(np.zeros(16_000, np.float32), 16_000)
    options = StreamOptions(name="a stream", wants=frozenset(("points",)))
    try:
        async with StreamClient(source, "ws://localhost:8765", options) as client:
            async for message in client:
                reveal_type(message)
        async for result in emotion_feed(roles=["driver"]):
            print(result.seq)
    except ClientError as error:
        print(error.retry_after_s)
    call, rate_hz = load_sample_call()
    reveal_type(client.summary)
    reveal_type(rate_hz)


asyncio.run(main())
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", folder],
        cwd=REPOSITORY,
        check=True,
        capture_output=True,
    )
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def command(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The installed ``emotion-monitor``, in an environment that lends only dependencies."""
    environment = tmp_path_factory.mktemp("environment")
    venv.create(environment, with_pip=False)
    python = environment / "bin" / "python"
    (site_packages,) = environment.glob("lib/python*/site-packages")
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "--python", python, "install", "--quiet"),
            *("--no-deps", "--no-index", "--disable-pip-version-check", wheel),
        ],
        check=True,
        capture_output=True,
    )
    # A path in a .pth file comes after the environment's own packages, and .pth files in that
    # path, such as the one of the checkout's own installation, are not read.
    (site_packages / "lent.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return environment / "bin" / "emotion-monitor"


def output_of(command: Path, *arguments: str) -> str:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    result = subprocess.run(
        [command, *arguments],
        cwd=command.parent,
        env=kept,
        capture_output=True,
        text=True,
        check=True,
    )
    return result.stdout


def test_holds_the_packages_and_the_defaults_and_nothing_else(wheel: Path):
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        defaults = archive.read("emotion_monitor/config.yaml")
    tops = {name.partition("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == set(PACKAGES)
    assert {f"{package}/py.typed" for package in PACKAGES} <= set(names)
    assert defaults == (REPOSITORY / "config.yaml").read_bytes()
    assert not [name for name in names if "__pycache__" in name or name.endswith(".pyc")]


def test_carries_the_built_in_models_their_cards_and_the_sample_call(wheel: Path):
    models = "ser_engine/models"
    with zipfile.ZipFile(wheel) as archive:
        for name in (
            f"{models}/standard/weights.safetensors",
            f"{models}/standard/MODEL_CARD.md",
            f"{models}/compact/weights.safetensors",
            f"{models}/compact/MODEL_CARD.md",
            "mic_client/sample_call.ogg",
        ):
            assert archive.read(name) == (REPOSITORY / name).read_bytes()


def test_carries_the_licence(wheel: Path):
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith("licenses/LICENSE")]
        assert archive.read(name) == (REPOSITORY / "LICENSE").read_bytes()


def test_the_installed_command_is_the_wheels_own(wheel: Path, command: Path):
    version = wheel.name.split("-")[1]
    assert output_of(command, "--version") == f"emotion-monitor {version}\n"
    where = "import stream_server; print(stream_server.__file__)"
    assert str(command.parent.parent) in output_of(command.parent / "python", "-c", where)


def test_the_installed_command_has_the_defaults(command: Path):
    assert yaml.safe_load(output_of(command, "config")) == yaml.safe_load(Settings().to_yaml())


def test_the_installed_command_reads_the_packaged_file(command: Path):
    code = "from emotion_monitor.config_file import default_config_text as t; print(t(), end='')"
    assert output_of(command.parent / "python", "-c", code) == (
        REPOSITORY / "config.yaml"
    ).read_text(encoding="utf-8")


def test_a_users_program_is_checked_against_the_clients_types(command: Path, tmp_path: Path):
    program = tmp_path / "program.py"
    program.write_text(CLIENT_PROGRAM, encoding="utf-8")
    # As in a client's environment, which does not have these: to read all of torch takes a minute.
    config = tmp_path / "mypy.ini"
    config.write_text(
        f"[mypy]\nstrict = true\n[mypy-{','.join(NOT_OF_A_CLIENT)}]\nfollow_imports = skip\n"
    )
    result = subprocess.run(
        [
            *(sys.executable, "-m", "mypy", "--config-file", config),
            *("--cache-dir", tmp_path / "cache"),
            *("--python-executable", command.parent / "python", program),
        ],
        cwd=tmp_path,
        env={name: value for name, value in os.environ.items() if name != "MYPYPATH"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout
    assert "Ready | " in result.stdout, result.stdout
    assert 'Revealed type is "' in result.stdout
    assert "Any" not in result.stdout
